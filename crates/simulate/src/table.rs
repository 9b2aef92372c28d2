//! Results for a terminal.

use std::fmt::Write as _;

use crate::{Outcome, Params};

/// One line per point. Counts are of ordinary derivations; of fixed outputs only what sharing saves.
#[must_use]
pub fn table(points: &[(Params, Outcome)]) -> String {
    let mut text = String::from(
        "reproducible  accounts  already valid   from cache      shared       built    saved  (fixed)  grounded\n",
    );
    for (params, outcome) in points {
        let counts = &outcome.ordinary;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:>12}  {:>8}  {:>13}  {:>11}  {:>10}  {:>10}  {:>7}  {:>7}  {:>8}",
            params.reproducible.to_string(),
            params.accounts,
            counts.already_valid,
            counts.from_cache(),
            counts.shared,
            counts.built,
            percent(counts.saved()),
            percent(outcome.fixed.saved()),
            percent(counts.saved_grounded()),
        );
    }
    text.push_str(
        "\nsaved: shared / (shared + built), what each account alone would run. grounded: the same if each derivation ran once.\n",
    );
    text
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
