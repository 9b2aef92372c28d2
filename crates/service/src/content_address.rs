//! Content addresses are recomputed, never believed.

use std::io::Read as _;
use std::path::PathBuf;

use firn_content::Staged;
use firn_nix::{CaMethod, ContentAddress, Hash, HashAlgo, Hasher, PathInfo, StorePath};
use firn_protocol::StoreError;

/// Bytes of the largest flat file that is hashed at upload to check its content address.
const MAX_FLAT: u64 = 64 << 30;

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// Checks the content address that an uploaded path claims: its hash against the bytes, and the path against the hash.
pub(crate) async fn check(info: &PathInfo, staged: &Staged) -> Result<(), StoreError> {
    let Some(ca) = info.ca else { return Ok(()) };
    let mut references = info.references.clone();
    let to_itself = references.remove(&info.path);
    let expected = StorePath::make_content_addressed(info.path.name(), &ca, &references, to_itself)
        .map_err(|e| refused(info, &e.to_string()))?;
    if expected != info.path {
        return Err(refused(
            info,
            &format!("content address '{ca}' belongs to path '{expected}'"),
        ));
    }
    let got = match ca.method {
        CaMethod::Nar if to_itself => {
            return Err(refused(
                info,
                "content-addressed paths that refer to themselves are not supported yet",
            ));
        }
        CaMethod::Nar if ca.hash.algo() == HashAlgo::Sha256 => staged.hash().to_hash(),
        CaMethod::Text | CaMethod::Flat => flat(info, ca, staged.tree()).await?,
        CaMethod::Nar | CaMethod::Git => {
            return Err(refused(
                info,
                &format!(
                    "content addresses of the form '{}' are not supported yet",
                    ca.method_algo()
                ),
            ));
        }
    };
    if got != ca.hash {
        return Err(refused(
            info,
            &format!("its content address says {}, its bytes hash to {got}", ca.hash),
        ));
    }
    Ok(())
}

fn refused(info: &PathInfo, why: &str) -> StoreError {
    StoreError::new(format!("cannot add '{}': {why}", info.path))
}

async fn flat(info: &PathInfo, ca: ContentAddress, tree: PathBuf) -> Result<Hash, StoreError> {
    let meta = std::fs::symlink_metadata(&tree).map_err(|e| refused(info, &e.to_string()))?;
    if !meta.is_file() || meta.len() > MAX_FLAT {
        return Err(refused(
            info,
            "it is not a single file, as its content address demands",
        ));
    }
    let algo = ca.hash.algo();
    let digest = move || -> std::io::Result<Hash> {
        let mut file = std::fs::File::open(tree)?;
        let mut hasher = Hasher::new(algo);
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(hasher.finish()),
                n => hasher.update(chunk.get(..n).unwrap_or_default()),
            }
        }
    };
    tokio::task::spawn_blocking(digest)
        .await
        .map_err(|e| refused(info, &e.to_string()))?
        .map_err(|e: std::io::Error| refused(info, &e.to_string()))
}
