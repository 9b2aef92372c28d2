//! Results as a picture: a line per reproducibility over the number of accounts.

use std::fmt::Write as _;

use crate::{Outcome, Params, Share};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 548.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 650.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = 440.0;
/// Least distance of two labels.
const LINE: f64 = 19.0;

/// Told apart by people who see few colours, on light and on dark.
const COLOURS: [&str; 6] = ["#d55e00", "#e69f00", "#009e73", "#0072b2", "#cc79a7", "#56b4e9"];

const STYLE: &str = "\
<style>\
svg{background:#fff;color:#1f2328}\
text{font:14px system-ui,-apple-system,'Segoe UI',sans-serif;fill:currentColor}\
.title{font-size:18px;font-weight:600}.small{font-size:12.5px;opacity:.75}\
.grid{stroke:currentColor;stroke-opacity:.14}.axis{stroke:currentColor;stroke-opacity:.6}\
.line{fill:none;stroke-width:2.5;stroke-linejoin:round}.lead{fill:none;stroke-width:1;stroke-opacity:.6}\
.grounded{stroke:currentColor;stroke-dasharray:6 5;stroke-width:1.8}\
@media (prefers-color-scheme:dark){svg{background:#0d1117;color:#e6edf3}}\
</style>";

struct Line {
    label: String,
    class: &'static str,
    colour: &'static str,
    /// Number of accounts and share.
    points: Vec<(f64, f64)>,
}

/// Share of the requests for ordinary derivations, beyond the account's own view, that are answered without a run. Points that differ
/// only in the number of accounts make a line; those where all accounts are remote stores make a dashed one, for one reproducibility,
/// which makes no difference there. `title` names the graph.
#[must_use]
pub fn svg(title: &str, points: &[(Params, Outcome)]) -> String {
    let lines = lines(points);
    let accounts =
        |f: fn(f64, f64) -> f64, start| points.iter().map(|(p, _)| f64::from(p.accounts)).fold(start, f);
    let (least, most) = (accounts(f64::min, f64::MAX).max(1.0), accounts(f64::max, 1.0));
    let spread = (most / least).log10().max(0.01);
    let x = |accounts: f64| LEFT + (RIGHT - LEFT) * (accounts / least).log10() / spread;
    let y = |share: f64| BOTTOM - (BOTTOM - TOP) * share.clamp(0.0, 1.0);

    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\
         <title>Share of requests answered without running a build, over the number of accounts</title>{STYLE}\
         <rect width=\"100%\" height=\"100%\" fill=\"none\"/>\
         <text class=\"title\" x=\"{LEFT}\" y=\"34\">Requests answered without running a build</text>\
         <text class=\"small\" x=\"{LEFT}\" y=\"58\">{}</text>",
        escaped(title)
    );
    // Writing to a string does not fail.
    for tenth in (0..=10).step_by(2) {
        let at = y(f64::from(tenth) / 10.0);
        let _ = write!(
            text,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} %</text>",
            LEFT - 10.0,
            at + 5.0,
            tenth * 10
        );
    }
    let mut ticks: Vec<u32> = points.iter().map(|(p, _)| p.accounts).collect();
    ticks.sort_unstable();
    ticks.dedup();
    let mut free = f64::MIN;
    for tick in ticks {
        let at = x(f64::from(tick));
        let _ = write!(
            text,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>"
        );
        if at >= free {
            let _ = write!(
                text,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 22.0,
                grouped(tick)
            );
            free = at + 52.0;
        }
    }
    let _ = write!(
        text,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">accounts (logarithmic)</text>\
         <text transform=\"translate(20 {:.1}) rotate(-90)\" text-anchor=\"middle\">answered without a run</text>\
         <text class=\"small\" x=\"{LEFT}\" y=\"{:.1}\">Of the requests that are not repetitions of the account’s own; downloads of sources \
         not counted.</text>\
         <text class=\"small\" x=\"{LEFT}\" y=\"{:.1}\">Lines: accounts are remote builders. Dashed: they are remote stores, however reproducible.</text>",
        f64::midpoint(LEFT, RIGHT),
        BOTTOM + 46.0,
        f64::midpoint(TOP, BOTTOM),
        BOTTOM + 74.0,
        BOTTOM + 94.0,
    );
    for (line, label) in lines.iter().zip(labels(&lines, y)) {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|(accounts, share)| format!("{:.1},{:.1}", x(*accounts), y(*share)))
            .collect();
        let end = line.points.last().map_or(BOTTOM, |(_, share)| y(*share));
        let _ = write!(
            text,
            "<polyline class=\"line {}\" stroke=\"{}\" points=\"{}\"/>\
             <polyline class=\"lead\" stroke=\"{}\" points=\"{RIGHT},{end:.1} {:.1},{label:.1} {:.1},{label:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            line.class,
            line.colour,
            path.join(" "),
            line.colour,
            RIGHT + 14.0,
            RIGHT + 22.0,
            RIGHT + 28.0,
            label + 5.0,
            line.label
        );
    }
    text.push_str("</svg>\n");
    text
}

/// In order of appearance.
fn lines(points: &[(Params, Outcome)]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut colours = COLOURS.iter().cycle();
    let all = Share::percent(100.0);
    let dashed = points.iter().find(|(params, _)| params.stores == all);
    for (params, outcome) in points {
        let is_dashed = params.stores == all;
        if is_dashed && dashed.is_some_and(|(first, _)| first.reproducible != params.reproducible) {
            continue;
        }
        let label = if is_dashed {
            "remote stores".into()
        } else if params.stores > Share::percent(0.0) {
            format!("{} reproducible, {} stores", params.reproducible, params.stores)
        } else {
            format!("{} reproducible", params.reproducible)
        };
        let point = (f64::from(params.accounts), outcome.ordinary.answered());
        if let Some(line) = lines.iter_mut().find(|l| l.label == label) {
            line.points.push(point);
            continue;
        }
        let (class, colour) = if is_dashed {
            ("grounded", "currentColor")
        } else {
            ("", colours.next().copied().unwrap_or("currentColor"))
        };
        lines.push(Line {
            label,
            class,
            colour,
            points: vec![point],
        });
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    lines
}

/// Heights of the labels: at the ends of the lines, but not over each other.
fn labels(lines: &[Line], y: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut ends: Vec<(usize, f64)> = lines
        .iter()
        .map(|l| l.points.last().map_or(BOTTOM, |(_, share)| y(*share)))
        .enumerate()
        .collect();
    // Of equal heights the later one, which is more reproducible, stands above.
    ends.sort_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
    let mut free = TOP;
    for (_, at) in &mut ends {
        *at = at.max(free);
        free = *at + LINE;
    }
    let mut roof = BOTTOM + 8.0;
    for (_, at) in ends.iter_mut().rev() {
        *at = at.min(roof);
        roof = *at - LINE;
    }
    ends.sort_by_key(|(line, _)| *line);
    ends.into_iter().map(|(_, at)| at).collect()
}

fn grouped(n: u32) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (left, digit) in (0..digits.len()).rev().zip(digits.chars()) {
        text.push(digit);
        if left > 0 && left % 3 == 0 {
            text.push(',');
        }
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
