//! `usage`: what requests were answered with, and what that saved.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use firn_core::Rung;
use firn_service::ports::{Ports, RungUsage, Usage as Sums};
use firn_service::{Desk, House, Span, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Reply;
use super::reply::moment_text;

/// What failed stands for, where a rung does for what did not.
const FAILED: &str = "failed";

/// Seconds of a day.
const DAY: u64 = 86_400;

/// `usage`
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(after_help = "\
For each way in which requests were answered: how many, and the processor and wall-clock time and the output bytes of the runs behind them: spent for \
'built' and 'failed', saved for the others.")]
pub struct Usage {
    /// From when on: a span (90m, 24h, 7d, 2w) or a day (2026-01-31)
    #[arg(long, value_name = "SPAN|DATE")]
    since: Option<String>,
    /// Up to when, in the same form
    #[arg(long, value_name = "SPAN|DATE")]
    until: Option<String>,
    /// Day by day (UTC); the last 30 unless --since says otherwise
    #[arg(long)]
    by_day: bool,
}

impl Usage {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        let span = self.span()?;
        Ok(match self.by_day {
            true => days(&desk.usage_by_day(span).await?),
            false => one(&desk.usage(span).await?),
        })
    }

    /// The same, of all accounts.
    ///
    /// # Errors
    /// What a person can read.
    pub async fn of_all<P: Ports>(self, house: &House<P>) -> Result<Reply, StoreError> {
        let span = self.span()?;
        Ok(match self.by_day {
            true => days(&house.usage_by_day(span).await?),
            false => one(&house.usage(span).await?),
        })
    }

    fn span(&self) -> Result<Span, StoreError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let since = self.since.as_deref().map(|text| moment(text, now)).transpose()?;
        let until = self.until.as_deref().map(|text| moment(text, now)).transpose()?;
        let earliest = if self.by_day {
            now.saturating_sub(30 * DAY)
        } else {
            0
        };
        Ok(Span {
            since: since.unwrap_or(earliest),
            until: until.unwrap_or(Span::ALWAYS.until),
        })
    }
}

/// `7d` ago, or the beginning of a day (UTC); seconds since 1970.
fn moment(text: &str, now: u64) -> Result<u64, StoreError> {
    let refused = || {
        StoreError::new(format!(
            "'{}' is neither a span such as 90m, 24h, 7d or 2w, nor a day such as 2026-01-31",
            text.escape_debug()
        ))
    };
    if let Ok(date) = text.parse::<jiff::civil::Date>() {
        let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| refused())?;
        return u64::try_from(midnight.timestamp().as_second()).map_err(|_| refused());
    }
    let unit = text.chars().last().ok_or_else(refused)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => DAY,
        'w' => 7 * DAY,
        _ => return Err(refused()),
    };
    let count: u64 = text
        .strip_suffix(unit)
        .unwrap_or_default()
        .parse()
        .map_err(|_| refused())?;
    let span = count.checked_mul(seconds).ok_or_else(refused)?;
    Ok(now.saturating_sub(span))
}

fn name(rung: Option<Rung>) -> &'static str {
    rung.map_or(FAILED, Rung::name)
}

/// Whether what stands behind a rung was run for it.
fn spent(rung: Option<Rung>) -> bool {
    matches!(rung, None | Some(Rung::Built))
}

/// Of what was run, and of what was not.
fn totals(usage: &Sums) -> (RungUsage, RungUsage) {
    let mut totals = (RungUsage::default(), RungUsage::default());
    for (rung, sums) in &usage.rungs {
        let total = if spent(*rung) {
            &mut totals.0
        } else {
            &mut totals.1
        };
        total.requests += sums.requests;
        total.cpu_us += sums.cpu_us;
        total.wall_ms += sums.wall_ms;
        total.output_bytes += sums.output_bytes;
    }
    totals
}

fn sums_value(sums: &RungUsage) -> Value {
    json!({
        "requests": sums.requests,
        "cpu_us": sums.cpu_us,
        "wall_ms": sums.wall_ms,
        "output_bytes": sums.output_bytes,
    })
}

fn value(usage: &Sums) -> Value {
    let by_rung = usage.rungs.iter();
    let rungs: Map<String, Value> = by_rung
        .map(|(rung, sums)| (name(*rung).to_owned(), sums_value(sums)))
        .collect();
    let (spent, saved) = totals(usage);
    json!({
        "rungs": rungs,
        "spent": sums_value(&spent),
        "saved": sums_value(&saved),
        "uploaded_bytes": usage.uploaded_bytes,
        "substituted_bytes": usage.substituted_bytes,
        "paths": usage.paths,
        "bytes": usage.bytes,
    })
}

fn one(usage: &Sums) -> Reply {
    let mut rows: Vec<Vec<String>> = vec![row("", "REQUESTS", "CPU", "WALL", "OUTPUT BYTES")];
    let rungs = usage.rungs.iter();
    rows.extend(rungs.map(|(rung, sums)| sums_row(name(*rung), sums)));
    let (spent, saved) = totals(usage);
    rows.push(sums_row("spent", &spent));
    rows.push(sums_row("saved", &saved));
    let mut lines = aligned(&rows);
    lines.push(format!(
        "uploaded: {} bytes; fetched from caches: {} bytes",
        usage.uploaded_bytes, usage.substituted_bytes
    ));
    lines.push(format!(
        "kept now: {} store paths, {} bytes",
        usage.paths, usage.bytes
    ));
    Reply::told(value(usage), &lines.join("\n"))
}

fn days(days: &[(Span, Sums)]) -> Reply {
    let mut rows = vec![
        [
            "DAY",
            "REQUESTS",
            "RUN",
            "CPU SPENT",
            "CPU SAVED",
            "WALL SPENT",
            "WALL SAVED",
            "BYTES SAVED",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let mut values = Vec::new();
    for (span, usage) in days {
        let day = moment_text(span.since / DAY * DAY);
        let day = day.split('T').next().unwrap_or_default().to_owned();
        let (spent, saved) = totals(usage);
        rows.push(vec![
            day.clone(),
            (spent.requests + saved.requests).to_string(),
            spent.requests.to_string(),
            seconds(spent.cpu_us),
            seconds(saved.cpu_us),
            seconds(spent.wall_ms * 1000),
            seconds(saved.wall_ms * 1000),
            saved.output_bytes.to_string(),
        ]);
        let mut value = value(usage);
        if let Some(members) = value.as_object_mut() {
            // These two are of now, not of that day.
            members.remove("paths");
            members.remove("bytes");
            members.insert("day".into(), day.into());
        }
        values.push(value);
    }
    let text = match days.is_empty() {
        true => "no requests in that time".to_owned(),
        false => aligned(&rows).join("\n"),
    };
    Reply::told(values.into(), &text)
}

fn row(name: &str, requests: &str, cpu: &str, wall: &str, bytes: &str) -> Vec<String> {
    [name, requests, cpu, wall, bytes].map(str::to_owned).to_vec()
}

fn sums_row(name: &str, sums: &RungUsage) -> Vec<String> {
    row(
        name,
        &sums.requests.to_string(),
        &seconds(sums.cpu_us),
        &seconds(sums.wall_ms * 1000),
        &sums.output_bytes.to_string(),
    )
}

/// The first column to the left, numbers to the right.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(at, (cell, width))| match at {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

fn seconds(micros: u64) -> String {
    format!("{}.{:03} s", micros / 1_000_000, micros / 1000 % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage() -> Sums {
        let sums = |requests, cpu_us| RungUsage {
            requests,
            cpu_us,
            wall_ms: 1500,
            output_bytes: 9,
        };
        Sums {
            rungs: [
                (None, sums(2, 0)),
                (Some(Rung::Built), sums(3, 1_234_567)),
                (Some(Rung::Shared), sums(40, 2_000_000)),
            ]
            .into(),
            uploaded_bytes: 7,
            substituted_bytes: 8,
            paths: 4,
            bytes: 5,
        }
    }

    #[test]
    fn usage_counts_by_rung() {
        let reply = one(&usage());
        assert_eq!(
            reply.text,
            "        REQUESTS      CPU     WALL  OUTPUT BYTES\n\
             failed         2  0.000 s  1.500 s             9\n\
             reused        40  2.000 s  1.500 s             9\n\
             built          3  1.234 s  1.500 s             9\n\
             spent          5  1.234 s  3.000 s            18\n\
             saved         40  2.000 s  1.500 s             9\n\
             uploaded: 7 bytes; fetched from caches: 8 bytes\n\
             kept now: 4 store paths, 5 bytes"
        );
        assert_eq!(reply.value["rungs"]["built"]["requests"], 3);
        assert_eq!(reply.value["saved"]["cpu_us"], 2_000_000);
    }

    #[test]
    fn days_are_rows() {
        assert_eq!(days(&[]).text, "no requests in that time");
        let span = Span {
            since: DAY + 5,
            until: 2 * DAY,
        };
        let reply = days(&[(span, usage())]);
        assert!(reply.text.contains("1970-01-02        45    5"), "{}", reply.text);
        assert_eq!(reply.value[0]["day"], "1970-01-02");
        assert_eq!(reply.value[0].get("paths"), None);
    }

    #[test]
    fn moments_are_spans_or_days() {
        let now = 100 * DAY;
        for (text, expected) in [
            ("7d", 93 * DAY),
            ("2w", 86 * DAY),
            ("90m", now - 5400),
            ("24h", 99 * DAY),
            ("1s", now - 1),
            ("999w", 0),
            ("1970-01-03", 2 * DAY),
        ] {
            assert_eq!(moment(text, now).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "d",
            "7",
            "-7d",
            "7 d",
            "7dd",
            "7é",
            "2026-13-01",
            "99999999999999999999w",
        ] {
            assert!(moment(text, now).is_err(), "{text}");
        }
    }
}
