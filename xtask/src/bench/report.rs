//! The table, and the file that keeps it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::Case;
use super::remote::Side;
use super::usage::Sample;
use crate::{root, table};

const HEAD: [&str; 9] = [
    "case",
    "over",
    "Nix s",
    "Firn s",
    "Firn / Nix",
    "Nix CPU s",
    "Firn CPU s",
    "Nix MB",
    "Firn MB",
];

pub struct Report {
    pub cases: Vec<Case>,
    pub rounds: usize,
    pub took: Duration,
    pub load_before: String,
}

impl Report {
    pub fn print(&self) {
        println!();
        print!("{}", table::text(&HEAD, &self.rows()));
    }

    /// Writes the day's file and returns its name.
    pub fn write(&self) -> anyhow::Result<PathBuf> {
        let date = line("date", &["+%Y-%m-%d"]);
        let dir = root().join("bench/results");
        std::fs::create_dir_all(&dir)?;
        let file = dir.join(format!("{date}.md"));
        std::fs::write(&file, self.markdown(&date))?;
        Ok(file)
    }

    fn markdown(&self, date: &str) -> String {
        let rounds = self.rounds;
        format!(
            "# Firn and plain Nix, {date}\n\n{facts}\n\
             `cargo xtask bench`, {rounds} rounds, the two sides taking turns, {minutes:.0} minutes in all.\n\n{table}\n\
             Seconds are medians of the rounds, from the start of the client's command to its end. *Firn / Nix* is the median of the\n\
             rounds' ratios. CPU seconds and memory (peak, the largest of all rounds) are the server's. Nix's are those of sshd and all\n\
             below it, and of its Nix processes; Firn's are those of its one process and the sandboxes. Every client store was\n\
             empty, every derivation new; nothing was compressed; all was on one disk.\n\n\
             ## Every round\n\nSeconds.\n\n{each}",
            facts = self.facts(),
            minutes = self.took.as_secs_f64() / 60.0,
            table = table::markdown(&HEAD, &self.rows()),
            each = table::markdown(&["case", "over", "Nix", "Firn"], &self.each()),
        )
    }

    fn facts(&self) -> String {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let ssh = Command::new("ssh")
            .arg("-V")
            .output()
            .map(|o| o.stderr)
            .unwrap_or_default();
        let facts = [
            (
                "processors",
                format!("{processors}, {}", field("/proc/cpuinfo", "model name")),
            ),
            ("memory", field("/proc/meminfo", "MemTotal")),
            ("kernel", line("uname", &["-sr"])),
            (
                "file system",
                line("stat", &["-f", "-c", "%T", &root().display().to_string()]),
            ),
            ("Nix, both sides", line("nix-store", &["--version"])),
            (
                "ssh",
                String::from_utf8(ssh).unwrap_or_default().trim().to_owned(),
            ),
            (
                "Firn",
                line(
                    "git",
                    &[
                        "-C",
                        &root().display().to_string(),
                        "describe",
                        "--always",
                        "--dirty",
                    ],
                ),
            ),
            (
                "load average before and after",
                format!("{}; {}", self.load_before, load()),
            ),
        ];
        facts
            .iter()
            .map(|(what, value)| format!("- {what}: {value}\n"))
            .collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.cases
            .iter()
            .map(|case| {
                let [nix, firn] = Side::BOTH.map(|side| case.samples(side));
                let ratios = nix.iter().zip(firn).map(|(n, f)| f.seconds / n.seconds).collect();
                let seconds = |s: &[Sample]| median(s.iter().map(|s| s.seconds).collect());
                let cpu = |s: &[Sample]| median(s.iter().map(|s| s.cpu).collect());
                let memory = |s: &[Sample]| s.iter().map(Sample::megabytes).fold(0.0, f64::max);
                vec![
                    case.name.clone(),
                    case.scheme.to_owned(),
                    format!("{:.2}", seconds(nix)),
                    format!("{:.2}", seconds(firn)),
                    format!("{:.2}", median(ratios)),
                    format!("{:.2}", cpu(nix)),
                    format!("{:.2}", cpu(firn)),
                    format!("{:.0}", memory(nix)),
                    format!("{:.0}", memory(firn)),
                ]
            })
            .collect()
    }

    fn each(&self) -> Vec<Vec<String>> {
        let list = |samples: &[Sample]| {
            let all: Vec<String> = samples.iter().map(|s| format!("{:.2}", s.seconds)).collect();
            all.join(" ")
        };
        self.cases
            .iter()
            .map(|case| {
                let [nix, firn] = Side::BOTH.map(|side| list(case.samples(side)));
                vec![case.name.clone(), case.scheme.to_owned(), nix, firn]
            })
            .collect()
    }
}

impl Case {
    fn samples(&self, side: Side) -> &[Sample] {
        self.rounds.get(&side).map_or(&[], Vec::as_slice)
    }
}

/// The one in the middle, or between the two in the middle; not a number of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
    }
}

/// The machine's load average.
pub fn load() -> String {
    let all = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    all.split_whitespace().next().unwrap_or_default().to_owned()
}

/// A value in a file of lines `name : value`.
fn field(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let value = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(n, _)| n.trim() == name);
    value.map(|(_, v)| v.trim().to_owned()).unwrap_or_default()
}

/// What a program prints.
fn line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map(|o| o.stdout)
        .unwrap_or_default();
    String::from_utf8(output).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }
}
