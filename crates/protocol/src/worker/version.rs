//! Protocol versions and what depends on them.

use std::fmt;

use firn_nix::rewrite::SelfReferences;

use crate::Addressing;
use crate::codec::{OutputsFormat, RealisationForm, ResultFormat};

/// A version of the worker protocol, `1.<minor>`, and its features: what client and server agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    minor: u8,
    /// [`REALISATION_WITH_PATH`]
    realisation_paths: bool,
}

/// The feature that realisations name a derivation by its path instead of its hash.
pub const REALISATION_WITH_PATH: &str = "realisation-with-path-not-hash";

impl Version {
    /// The oldest that is served: no Nix 2 speaks an older one, Nix 2.3 speaks 1.21.
    pub const OLDEST: Self = Self::new(18);
    /// What Nix 2.24 and later speak, the newest there is.
    pub const NEWEST: Self = Self::new(38);

    /// `1.<minor>` without features.
    #[must_use]
    pub const fn new(minor: u8) -> Self {
        Self {
            minor,
            realisation_paths: false,
        }
    }

    /// The same with the feature [`REALISATION_WITH_PATH`].
    #[must_use]
    pub const fn with_realisation_paths(self) -> Self {
        Self {
            realisation_paths: true,
            ..self
        }
    }

    /// From the number on the wire, `major << 8 | minor`; `None` unless the major version is 1.
    #[must_use]
    pub fn from_wire(number: u64) -> Option<Self> {
        let [minor, 1, 0, 0, 0, 0, 0, 0] = number.to_le_bytes() else {
            return None;
        };
        Some(Self::new(minor))
    }

    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u64 {
        1 << 8 | self.minor as u64
    }

    const fn since(self, minor: u8) -> bool {
        self.minor >= minor
    }

    pub(crate) const fn has_reserve_space(self) -> bool {
        self.since(11)
    }

    pub(crate) const fn has_cpu_affinity(self) -> bool {
        self.since(14)
    }

    pub(crate) const fn has_activities(self) -> bool {
        self.since(20)
    }

    pub(crate) const fn has_pulled_nar(self) -> bool {
        self.since(21)
    }

    pub(crate) const fn has_substitutable_map(self) -> bool {
        self.since(22)
    }

    pub(crate) const fn has_framed_nar(self) -> bool {
        self.since(23)
    }

    pub(crate) const fn has_framed_add(self) -> bool {
        self.since(25)
    }

    pub(crate) const fn has_structured_errors(self) -> bool {
        self.since(26)
    }

    pub(crate) const fn has_substitute_flag(self) -> bool {
        self.since(27)
    }

    pub(crate) const fn has_plain_derivations(self) -> bool {
        self.since(30)
    }

    /// How realisations are written.
    #[must_use]
    pub const fn realisation_form(self) -> RealisationForm {
        match self.realisation_paths {
            true => RealisationForm::Fields,
            false if self.since(31) => RealisationForm::Json,
            false => RealisationForm::Names,
        }
    }

    pub(crate) const fn has_daemon_version(self) -> bool {
        self.since(33)
    }

    pub(crate) const fn has_trust(self) -> bool {
        self.since(35)
    }

    pub(crate) const fn has_features(self) -> bool {
        self.since(38)
    }

    /// Which content addresses such a client computes. Nix 2.15 and 2.16 speak 1.35 as well as 2.17 to 2.19 and every Lix; Nix 2.35 and
    /// later are known by their feature.
    #[must_use]
    pub const fn addressing(self) -> Addressing {
        match self.minor {
            ..35 => Addressing::certain(SelfReferences::Placed),
            35 => Addressing::likely(SelfReferences::Unplaced),
            _ if self.realisation_paths => Addressing::certain(SelfReferences::Placed),
            _ => Addressing::certain(SelfReferences::Unplaced),
        }
    }

    /// The form of build results.
    #[must_use]
    pub const fn result_format(self) -> ResultFormat {
        ResultFormat {
            times: self.since(29),
            cpu: self.since(37),
            outputs: match self.realisation_paths {
                true => OutputsFormat::Paths,
                false if self.since(28) => OutputsFormat::Json,
                false => OutputsFormat::None,
            },
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}
