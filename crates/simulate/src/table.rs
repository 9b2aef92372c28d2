//! Results for a terminal.

use std::fmt::Write as _;

use crate::{Outcome, Params};

/// One line per point. Counts are of ordinary derivations; of fixed outputs only what sharing saves.
#[must_use]
pub fn table(points: &[(Params, Outcome)]) -> String {
    let mut text = String::from(
        "stores  reproducible  accounts  already valid   from cache    grounded       below      shared       built    at home    saved  (fixed)\n",
    );
    for (params, outcome) in points {
        let counts = &outcome.ordinary;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:>6}  {:>12}  {:>8}  {:>13}  {:>11}  {:>10}  {:>10}  {:>10}  {:>10}  {:>9}  {:>7}  {:>7}",
            params.stores.to_string(),
            params.reproducible.to_string(),
            params.accounts,
            counts.already_valid,
            counts.from_cache(),
            counts.grounded,
            counts.below,
            counts.shared,
            counts.built,
            counts.local,
            percent(counts.saved()),
            percent(outcome.fixed.saved()),
        );
    }
    text.push_str(
        "\nstores: accounts that are remote stores; the others are remote builders. grounded: requests answered with what was built from \
         the\nsame graph. below: needed for those and not asked for. at home: built by remote builders' accounts themselves.\n\
         saved: (grounded + below + shared) / (these + built), of what each account alone would have the service run.\n",
    );
    text
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
