//! What a simulation depends on besides the graph.

use std::fmt;
use std::str::FromStr;

/// A share between nothing and all.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// From per cent; what is out of 0–100 is brought in.
    #[must_use]
    pub const fn percent(percent: f64) -> Self {
        Self(percent.clamp(0.0, 100.0) / 100.0)
    }

    /// In per cent.
    #[must_use]
    pub const fn as_percent(self) -> f64 {
        self.0 * 100.0
    }

    /// Whether a hash falls into the share. A larger share contains every smaller one.
    pub(crate) const fn has(self, hash: u64) -> bool {
        crate::hash::unit(hash) < self.0
    }

    /// The share of a number, rounded.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "numbers of derivations"
    )]
    pub(crate) fn of(self, n: usize) -> usize {
        (self.0 * n as f64).round() as usize
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.as_percent())
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim_end_matches('%').parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::percent(percent)),
            _ => Err("not a number from 0 to 100 (per cent)".into()),
        }
    }
}

/// How many top-level derivations an account asks for: evenly distributed over the logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetRange {
    /// At least; 1 or more.
    pub min: u32,
    /// At most.
    pub max: u32,
}

impl FromStr for TargetRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        match (min.parse(), max.parse()) {
            (Ok(min), Ok(max)) if 1 <= min && min <= max => Ok(Self { min, max }),
            _ => Err("not a number or a range such as 1-20".into()),
        }
    }
}

/// In which order the accounts come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrival {
    /// In no order.
    Random,
    /// Who asks for most comes first.
    LargestFirst,
    /// Who asks for least comes first.
    SmallestFirst,
}

/// Which content a view takes when several are admitted for one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// Firn's: signed, built for the account, own uploads.
    Firn,
    /// Own uploads before all else.
    UploadsFirst,
    /// As Firn's, but a path that the account has only as an upload takes the stored result of its own build key, if there is one.
    SharedFirst,
}

/// One point of a simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Number of accounts.
    pub accounts: u32,
    /// Share of derivations whose outputs are a function of the build key.
    pub reproducible: Share,
    /// Share of accounts that use the service as a remote store: they send the graph and take what is built of it. The others are remote
    /// builders: they send what a build is made of.
    pub stores: Share,
    /// Share of the derivations that it needs which an account builds itself, if it is no remote store.
    pub local: Share,
    /// Share of all derivations that the public cache has.
    pub cached: Share,
    /// Share of the inputs that an output refers to; fixed outputs are not referred to.
    pub runtime: Share,
    /// Share of reproducible derivations whose output does not change with the bytes of its inputs.
    pub absorb: Share,
    /// Choice between contents.
    pub order: Order,
    /// Order of accounts.
    pub arrival: Arrival,
    /// Top-level derivations per account.
    pub targets: TargetRange,
    /// Exponent of the popularity of top-level derivations: 0 is all alike.
    pub zipf: f64,
    /// Everything else follows from it.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            accounts: 100,
            reproducible: Share::percent(95.0),
            stores: Share::percent(0.0),
            local: Share::percent(10.0),
            cached: Share::percent(0.0),
            runtime: Share::percent(25.0),
            absorb: Share::percent(0.0),
            order: Order::Firn,
            arrival: Arrival::Random,
            targets: TargetRange { min: 1, max: 20 },
            zipf: 1.0,
            seed: 1,
        }
    }
}
