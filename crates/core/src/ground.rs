//! Grounded results: what was built from nothing but content-addressed leaves and other grounded results.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::EnvironmentClass;

/// Changes whenever the encoding does.
const FORMAT: &[u8] = b"firn-ground-1";

/// Digest of what sandboxes look like, for whatever system: what all builds below a grounded result have in common. Which paths such builds
/// give follows from their graphs; with what bytes may depend on this.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ground(pub [u8; 32]);

impl Ground {
    /// Of builds in this class, beside builtin builders of these names and versions.
    #[must_use]
    pub fn of(class: &EnvironmentClass, builtins: &BTreeMap<String, String>) -> Self {
        let mut bytes = Vec::new();
        let mut put = |part: &[u8]| {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        };
        put(FORMAT);
        put(class.sandbox.as_bytes());
        put(&class.cores.to_le_bytes());
        put(&(class.extra.len() as u64).to_le_bytes());
        for (path, content) in &class.extra {
            put(path.as_bytes());
            put(content.bytes());
        }
        for (name, version) in builtins {
            put(name.as_bytes());
            put(version.as_bytes());
        }
        Self(Sha256::digest(bytes).into())
    }
}

/// How one derivation of a graph stands for an account: what the account has of it, beside what others have built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A fixed output.
    Fixed {
        /// The account has it, and its content address was checked.
        has: bool,
        /// The service has built it from this very derivation. No login of an account reaches such a build.
        grounded: bool,
    },
    /// Outputs whose paths follow from the graph.
    Built {
        /// The account has one, and it is not what others have built of.
        differs: bool,
    },
    /// Something in its graph does not follow from it, or was not checked.
    Unsound,
}

impl Standing {
    /// Whether grounded results that are built of it are for the account. `below`: whether that holds for everything that it is built of
    /// itself.
    ///
    /// The leaves must be there, or such that anybody could have them built. And what the account has must be what others built of, or its own
    /// build would use something else.
    #[must_use]
    pub const fn is_open(self, below: bool) -> bool {
        match self {
            Self::Fixed { has, grounded } => has || (grounded && below),
            Self::Built { differs } => below && !differs,
            Self::Unsound => false,
        }
    }

    /// Whether a grounded result of it is for the account itself.
    #[must_use]
    pub const fn may_take(self, below: bool) -> bool {
        match self {
            Self::Fixed { .. } => self.is_open(below),
            Self::Built { .. } => below,
            Self::Unsound => false,
        }
    }
}

/// 64 hexadecimal digits.
impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_must_be_there_and_what_is_there_must_be_the_same() {
        let fixed = |has, grounded| Standing::Fixed { has, grounded };
        let built = |differs| Standing::Built { differs };
        // With what is below open, and without.
        let cases = [
            (fixed(false, false), [false, false], [false, false]),
            (fixed(false, true), [true, false], [true, false]),
            (fixed(true, false), [true, true], [true, true]),
            (fixed(true, true), [true, true], [true, true]),
            (built(false), [true, false], [true, false]),
            (built(true), [false, false], [true, false]),
            (Standing::Unsound, [false, false], [false, false]),
        ];
        for (standing, open, take) in cases {
            assert_eq!(
                [true, false].map(|below| standing.is_open(below)),
                open,
                "{standing:?}"
            );
            assert_eq!(
                [true, false].map(|below| standing.may_take(below)),
                take,
                "{standing:?}"
            );
        }
    }

    #[test]
    fn systems_share_a_ground_and_sandboxes_do_not() {
        let class = |system: &str, sandbox: &str, cores| EnvironmentClass {
            system: system.to_owned(),
            sandbox: sandbox.to_owned(),
            extra: BTreeMap::new(),
            cores,
        };
        let of = |class: &EnvironmentClass| Ground::of(class, &BTreeMap::new());
        let ground = of(&class("x86_64-linux", "namespaces-1", 2));
        assert_eq!(ground, of(&class("i686-linux", "namespaces-1", 2)));
        for other in [
            class("x86_64-linux", "vm-1", 2),
            class("x86_64-linux", "namespaces-1", 4),
        ] {
            assert_ne!(ground, of(&other));
        }
        let builtins = BTreeMap::from([("builtin:buildenv".to_owned(), "2".to_owned())]);
        assert_ne!(
            ground,
            Ground::of(&class("x86_64-linux", "namespaces-1", 2), &builtins)
        );
    }
}
