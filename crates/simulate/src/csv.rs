//! Results for other programs.

use std::fmt::Write as _;

use clap::ValueEnum;

use crate::{Counts, Outcome, Params};

/// Two lines per point, one for ordinary derivations and one for fixed outputs, below a line of names. Shares of the parameters are
/// in per cent, those of the results between 0 and 1. `repeat` says of how many seeds, from the stated one on, counts are the sum.
#[must_use]
pub fn csv(points: &[(Params, Outcome)], repeat: u32) -> String {
    let mut text = String::from(
        "kind,accounts,reproducible,stores,local,cached,runtime,absorb,order,arrival,targets_min,targets_max,zipf,seed,repeat,\
         requests,already_valid,substituted,signed,grounded,below,shared,built,plain,local_builds,distinct,uploads,saved,answered\n",
    );
    for (params, outcome) in points {
        line(
            &mut text,
            "ordinary",
            params,
            repeat,
            &outcome.ordinary,
            outcome.uploads,
        );
        line(
            &mut text,
            "fixed",
            params,
            repeat,
            &outcome.fixed,
            outcome.uploads,
        );
    }
    text
}

fn line(text: &mut String, kind: &str, params: &Params, repeat: u32, counts: &Counts, uploads: u64) {
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{kind},{},{},{},{},{},{},{},{},{},{},{},{},{},{repeat},{},{},{},{},{},{},{},{},{},{},{},{uploads},{:.6},{:.6}",
        params.accounts,
        params.reproducible.as_percent(),
        params.stores.as_percent(),
        params.local.as_percent(),
        params.cached.as_percent(),
        params.runtime.as_percent(),
        params.absorb.as_percent(),
        name(params.order),
        name(params.arrival),
        params.targets.min,
        params.targets.max,
        params.zipf,
        params.seed,
        counts.requests(),
        counts.already_valid,
        counts.substituted,
        counts.signed,
        counts.grounded,
        counts.below,
        counts.shared,
        counts.built,
        counts.plain(),
        counts.local,
        counts.distinct,
        counts.saved(),
        counts.answered(),
    );
}

pub(crate) fn name(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |v| v.get_name().to_owned())
}
