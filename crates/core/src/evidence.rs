//! Evidence: why a store path may be believed to have a content.

use std::collections::BTreeSet;

use firn_nix::{ContentAddress, NarHash, StorePath};

/// Where an account's belief in (path → content) comes from. The order of the variants is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceKind {
    /// The path commits to the bytes; Firn recomputed it, and the account brought or was given the bytes.
    ContentAddressed,
    /// Firn ran the build for the account, or answered it with a result of the same build key.
    Built,
    /// The account's own client sent it.
    Uploaded,
}

/// Whether evidence `a` is taken before `b`.
#[must_use]
pub fn preferred(a: EvidenceKind, b: EvidenceKind) -> bool {
    a < b
}

/// A store path together with one content, and what a build could learn of it besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The name.
    pub path: StorePath,
    /// The bytes.
    pub content: NarHash,
    /// Length of the NAR in bytes.
    pub nar_size: u64,
    /// Paths it refers to, itself included when it does.
    pub references: BTreeSet<StorePath>,
    /// What the path commits to, when it is content-addressed and was checked.
    pub ca: Option<ContentAddress>,
}

/// One account's evidence for one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What is believed.
    pub object: Object,
    /// Why.
    pub kind: EvidenceKind,
    /// The derivation that it is said to come from.
    pub deriver: Option<StorePath>,
    /// `name:base64` each, as they came; not verified here.
    pub signatures: BTreeSet<String>,
    /// Seconds since 1970 of the claim.
    pub registered: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_order() {
        let order = [
            EvidenceKind::ContentAddressed,
            EvidenceKind::Built,
            EvidenceKind::Uploaded,
        ];
        for (i, a) in order.into_iter().enumerate() {
            for (j, b) in order.into_iter().enumerate() {
                assert_eq!(preferred(a, b), i < j, "{a:?} before {b:?}");
            }
        }
    }
}
