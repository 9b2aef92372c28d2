//! What keeps a build from the machine and from other builds.

use std::fmt;
use std::str::FromStr;

/// What keeps a build from the machine and from other builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// Namespaces of the machine's own kernel.
    Namespaces,
    /// A virtual machine of its own, with namespaces in it.
    Vm,
}

impl Isolation {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Namespaces, Self::Vm];

    /// As in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Vm => "vm",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of [`Isolation`]'s.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is neither namespaces nor vm", firn_nix::excerpt(.0))]
pub struct NoIsolation(String);

impl FromStr for Isolation {
    type Err = NoIsolation;

    fn from_str(name: &str) -> Result<Self, NoIsolation> {
        let found = Self::ALL
            .into_iter()
            .find(|isolation| isolation.name() == name.trim());
        found.ok_or_else(|| NoIsolation(name.trim().to_owned()))
    }
}
