use std::io::{self, BufWriter};
use std::path::Path;

use firn_nix::NarHash;
use firn_nix::nar::NarWriter;

use crate::blocking::blocking;
use crate::error::ContentError;
use crate::hashing::NarDigest;
use crate::ingest::Observer;
use crate::store::ContentStore;
use crate::walk::{Stopped, WalkLimits, WalkPolicy, walk};

impl ContentStore {
    /// Whether a content is still what its name says: reads all of it, and looks at modes, times and link counts too.
    ///
    /// # Errors
    /// [`ContentError::Missing`]; a tree that cannot be read is not an error but damaged.
    pub async fn verify(&self, hash: &NarHash) -> Result<bool, ContentError> {
        if !self.contains(hash) {
            return Err(ContentError::Missing(*hash));
        }
        let (tree, hash) = (self.tree(hash), *hash);
        blocking(move || match hash_tree(&tree, WalkPolicy::Canonical) {
            Ok(found) => found == hash,
            Err(error) => {
                tracing::warn!(%hash, %error, "damaged content");
                false
            }
        })
        .await
    }
}

/// SHA-256 of the NAR of the tree at `path`.
pub(crate) fn hash_tree(path: &Path, policy: WalkPolicy) -> Result<NarHash, Stopped<io::Error>> {
    Ok(digest_tree(path, policy, None)?.0)
}

/// SHA-256 and size of the NAR of the tree at `path`. The `observer` sees the NAR.
pub(crate) fn digest_tree(
    path: &Path,
    policy: WalkPolicy,
    observer: Option<Observer>,
) -> Result<(NarHash, u64), Stopped<io::Error>> {
    let digest = BufWriter::with_capacity(64 * 1024, NarDigest::new(observer));
    let mut writer = NarWriter::new(digest);
    walk(path, policy, WalkLimits::default(), &mut writer)?;
    let digest = writer
        .into_inner()
        .into_inner()
        .map_err(|error| Stopped::Visitor(error.into_error()))?;
    Ok(digest.finish())
}
