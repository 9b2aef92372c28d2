//! Protocol versions and what depends on them.

use std::fmt;

use firn_nix::rewrite::SelfReferences;

use crate::Addressing;
use crate::codec::{OutputsFormat, ResultFormat};

/// A version of the serve protocol, `2.<minor>`: what client and server agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    minor: u8,
}

impl Version {
    /// The oldest that is served.
    pub const OLDEST: Self = Self { minor: 1 };
    /// What Nix 2.35 and later speak.
    pub const NEWEST: Self = Self { minor: 8 };

    /// `2.<minor>`.
    #[must_use]
    pub const fn new(minor: u8) -> Self {
        Self { minor }
    }

    /// From the number on the wire, `major << 8 | minor`; `None` unless the major version is 2.
    #[must_use]
    pub fn from_wire(number: u64) -> Option<Self> {
        let [minor, 2, 0, 0, 0, 0, 0, 0] = number.to_le_bytes() else {
            return None;
        };
        Some(Self { minor })
    }

    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u64 {
        2 << 8 | self.minor as u64
    }

    pub(crate) const fn has_max_log_size(self) -> bool {
        self.minor >= 2
    }

    pub(crate) const fn has_repeats(self) -> bool {
        self.minor >= 3
    }

    pub(crate) const fn has_nar_hash(self) -> bool {
        self.minor >= 4
    }

    pub(crate) const fn has_keep_failed(self) -> bool {
        self.minor >= 7
    }

    /// Which content addresses such a client computes. Nix 2.4 to 2.34 and Lix all speak 2.7.
    #[must_use]
    pub const fn addressing(self) -> Addressing {
        match self.minor {
            7 => Addressing::likely(SelfReferences::Unplaced),
            _ => Addressing::certain(SelfReferences::Placed),
        }
    }

    /// The form of build results.
    #[must_use]
    pub const fn result_format(self) -> ResultFormat {
        ResultFormat {
            times: self.minor >= 3,
            cpu: false,
            outputs: match self.minor {
                8.. => OutputsFormat::Paths,
                6.. => OutputsFormat::Json,
                _ => OutputsFormat::None,
            },
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2.{}", self.minor)
    }
}
