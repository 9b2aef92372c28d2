//! What is counted.

use std::ops::AddAssign;

/// How many requests each rung answered. A request of a remote builder is a derivation that an account needs and has not built itself. A
/// request of a remote store is a derivation that the service comes to, from the top-level one down, until it meets what is valid, what
/// the cache has or what is grounded; of these the service itself records only what it took, shared or built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Asked for or come to again, for another top-level derivation of the same account.
    pub already_valid: u64,
    /// Fetched from the public cache.
    pub substituted: u64,
    /// Valid at once, because another account has brought it with the cache's signature.
    pub signed: u64,
    /// Taken, because it was built before from the same graph, down to its sources.
    pub grounded: u64,
    /// Needed by an account and not even asked for: below what was taken. Each account and derivation once; no requests.
    pub below: u64,
    /// Answered with a result of the same build key.
    pub shared: u64,
    /// Run.
    pub built: u64,
    /// Built by the accounts themselves, on their own machines: no requests.
    pub local: u64,
    /// Different derivations that some account needed and the cache did not have: the fewest runs that can be.
    pub distinct: u64,
}

impl Counts {
    /// What would run if every account only reused its own results and the public cache.
    #[must_use]
    pub const fn plain(&self) -> u64 {
        self.spared() + self.built
    }

    /// Those of the plain builds that another account's result spares.
    #[must_use]
    pub const fn spared(&self) -> u64 {
        self.grounded + self.below + self.shared
    }

    /// All requests.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.already_valid + self.from_cache() + self.grounded + self.shared + self.built
    }

    /// Answered with what the cache has, whoever brought it.
    #[must_use]
    pub const fn from_cache(&self) -> u64 {
        self.substituted + self.signed
    }

    /// Share of the plain builds that sharing spares, in `0..=1`.
    #[must_use]
    pub fn saved(&self) -> f64 {
        ratio(self.spared(), self.plain())
    }

    /// Share of the cache's answers and the plain builds that needs no run, in `0..=1`.
    #[must_use]
    pub fn answered(&self) -> f64 {
        ratio(
            self.from_cache() + self.spared(),
            self.from_cache() + self.plain(),
        )
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
        self.grounded += other.grounded;
        self.below += other.below;
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
