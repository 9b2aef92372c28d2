//! `docs/clients.md`: the table in it, column by column.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What a version and Firn make of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Works,
    /// The version cannot: its own words.
    Cannot(String),
    /// Firn cannot. Never written down.
    Fails(String),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => f.write_str("yes"),
            Self::Cannot(why) => write!(f, "Nix cannot: {why}"),
            Self::Fails(why) => write!(f, "FIRN FAILS: {why}"),
        }
    }
}

/// Group, row and cell, in the order of the rows.
pub type Column = Vec<(&'static str, &'static str, Cell)>;

const BEGIN: &str = "<!-- The client matrix, as the last run saw it. -->\n";
const END: &str = "<!-- End of the matrix. -->\n";

/// The columns of several tests go into one file.
static FILE: Mutex<()> = Mutex::new(());

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/clients.md")
}

/// Compares a version's column with the file's, or writes it where `FIRN_RENEW` is set.
pub fn check(version: &str, column: &Column) {
    let _one = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let text = std::fs::read_to_string(file()).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    let mut known = parse(table);
    if std::env::var_os("FIRN_RENEW").is_some() {
        let cells = column
            .iter()
            .map(|(_, name, cell)| ((*name).to_owned(), cell.to_string()));
        // One column per series: of 2.34.7 and 2.34.8 the latter stays.
        known.retain(|other, _| series(other) != series(version));
        known.insert(version.to_owned(), cells.collect());
        let table = render(column, &known);
        std::fs::write(file(), format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    let Some((stated, cells)) = known.iter().find(|(other, _)| series(other) == series(version)) else {
        eprintln!("note: docs/clients.md has no column for Nix {version}; `cargo xtask clients` adds it");
        return;
    };
    let differing: Vec<String> = column
        .iter()
        .filter(|(_, name, cell)| cells.get(*name) != Some(&cell.to_string()))
        .map(|(_, name, cell)| format!("{name}: {cell}; the file: {:?}", cells.get(*name)))
        .collect();
    assert!(
        differing.is_empty() && cells.len() == column.len(),
        "docs/clients.md says otherwise of Nix {stated}; `cargo xtask clients` renews it:\n{}",
        differing.join("\n")
    );
}

fn series(version: &str) -> Vec<u32> {
    let parts = version.split(['.', '-', '+']).take(2);
    parts.map(|part| part.parse().unwrap_or(0)).collect()
}

/// By version, by row.
type Known = BTreeMap<String, BTreeMap<String, String>>;

fn parse(table: &str) -> Known {
    let mut lines = table.lines().filter(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        let line = line.replace("\\|", "\u{1}");
        let cells = line.trim().trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('\u{1}', "\\|")).collect()
    };
    let versions: Vec<String> = lines.next().map(cells).unwrap_or_default();
    let mut known = Known::new();
    for line in lines.skip(1) {
        let line = cells(line);
        for (version, cell) in versions
            .iter()
            .zip(&line)
            .skip(1)
            .filter(|(_, cell)| !cell.is_empty())
        {
            let version = version.trim_start_matches("Nix ").to_owned();
            known
                .entry(version)
                .or_default()
                .insert(line[0].clone(), cell.clone());
        }
    }
    known
}

fn render(column: &Column, known: &Known) -> String {
    let mut versions: Vec<&String> = known.keys().collect();
    versions.sort_by_key(|version| series(version));
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let head = versions
        .iter()
        .map(|version| format!("Nix {version}"))
        .collect::<Vec<_>>();
    let mut head: Vec<&str> = head.iter().map(String::as_str).collect();
    head.insert(0, "");
    let mut text = line(head) + &"|---".repeat(versions.len() + 1) + "|\n";
    let mut group = "";
    for (of, name, _) in column {
        if *of != group {
            group = of;
            let mut cells = vec![""; versions.len() + 1];
            let bold = format!("**{group}**");
            cells[0] = &bold;
            text += &line(cells);
        }
        let mut cells = vec![*name];
        for version in &versions {
            cells.push(known[*version].get(*name).map_or("", String::as_str));
        }
        text += &line(cells);
    }
    text
}
