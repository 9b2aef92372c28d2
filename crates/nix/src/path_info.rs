//! What a store says about one valid path.

use std::collections::BTreeSet;

use crate::{ContentAddress, NarHash, StorePath};

/// Nix's `ValidPathInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// The path itself.
    pub path: StorePath,
    /// The derivation that produced it, when known.
    pub deriver: Option<StorePath>,
    /// SHA-256 of its NAR.
    pub nar_hash: NarHash,
    /// Paths it refers to, itself included when it does.
    pub references: BTreeSet<StorePath>,
    /// Seconds since 1970; 0 when unknown.
    pub registration_time: u64,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// Whether this store built it itself.
    pub ultimate: bool,
    /// `name:base64` each; see [`crate::signature`].
    pub signatures: BTreeSet<String>,
    /// What the path commits to, when it is content-addressed.
    pub ca: Option<ContentAddress>,
}

impl PathInfo {
    /// What signatures are made over: `1;<path>;<nar hash>;<nar size>;<references>`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.path, self.nar_hash, self.nar_size, &self.references)
    }
}

/// What signatures of a store object are made over: `1;<path>;<nar hash>;<nar size>;<references>`.
#[must_use]
pub fn fingerprint(
    path: &StorePath,
    nar_hash: NarHash,
    nar_size: u64,
    references: &BTreeSet<StorePath>,
) -> String {
    let references: Vec<String> = references.iter().map(ToString::to_string).collect();
    format!("1;{path};{nar_hash};{nar_size};{}", references.join(","))
}
