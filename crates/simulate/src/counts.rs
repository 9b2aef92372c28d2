//! What is counted.

use std::ops::AddAssign;

/// How many requests each rung answered. A request is a derivation that an account needs and has not built itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Asked for again, for another top-level derivation of the same account.
    pub already_valid: u64,
    /// Fetched from the public cache.
    pub substituted: u64,
    /// Valid at once, because another account has brought it with the cache's signature.
    pub signed: u64,
    /// Answered with a result of the same build key.
    pub shared: u64,
    /// Run.
    pub built: u64,
    /// Built by the accounts themselves: no requests.
    pub local: u64,
    /// Different derivations that some account needed and the cache did not have: what runs when results are grounded.
    pub distinct: u64,
}

impl Counts {
    /// What would run if every account only reused its own results and the public cache.
    #[must_use]
    pub const fn plain(&self) -> u64 {
        self.shared + self.built
    }

    /// All requests.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.already_valid + self.from_cache() + self.plain()
    }

    /// Answered with what the cache has, whoever brought it.
    #[must_use]
    pub const fn from_cache(&self) -> u64 {
        self.substituted + self.signed
    }

    /// Share of the plain builds that sharing spares, in `0..=1`.
    #[must_use]
    pub fn saved(&self) -> f64 {
        ratio(self.shared, self.plain())
    }

    /// Share of the requests that are not repetitions of the account's own which are answered without a run, in `0..=1`.
    #[must_use]
    pub fn answered(&self) -> f64 {
        ratio(self.from_cache() + self.shared, self.from_cache() + self.plain())
    }

    /// [`answered`](Self::answered) if each account handed over the whole graph and the service built each derivation once. Of the
    /// runs some are for what accounts have built themselves; below 0 when those are more than what is spared.
    #[must_use]
    pub fn answered_grounded(&self) -> f64 {
        1.0 - ratio(self.distinct, self.from_cache() + self.plain())
    }

    /// [`saved`](Self::saved) with grounded results.
    #[must_use]
    pub fn saved_grounded(&self) -> f64 {
        1.0 - ratio(self.distinct, self.plain())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.already_valid += other.already_valid;
        self.substituted += other.substituted;
        self.signed += other.signed;
        self.shared += other.shared;
        self.built += other.built;
        self.local += other.local;
        self.distinct += other.distinct;
    }
}

/// The result of one simulation, or the sum of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Derivations without fixed outputs: builds in the narrow sense.
    pub ordinary: Counts,
    /// Derivations with fixed outputs: mostly downloads of sources.
    pub fixed: Counts,
    /// Outputs that clients sent, an account and derivation each.
    pub uploads: u64,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.ordinary += other.ordinary;
        self.fixed += other.fixed;
        self.uploads += other.uploads;
    }
}
