//! Content addresses are recomputed, never believed.

use firn_content::Staged;
use firn_nix::{CaMethod, HashAlgo, PathInfo, StorePath};
use firn_protocol::StoreError;

/// Checks the content address that an uploaded path claims: its hash against the bytes, and the path against the hash.
pub(crate) fn check(info: &PathInfo, staged: &Staged) -> Result<(), StoreError> {
    let Some(ca) = info.ca else { return Ok(()) };
    check_path(info)?;
    let to_itself = info.references.contains(&info.path);
    let got = match ca.method {
        CaMethod::Nar if to_itself => {
            return Err(refused(
                info,
                "content-addressed paths that refer to themselves are not supported yet",
            ));
        }
        CaMethod::Nar if ca.hash.algo() == HashAlgo::Sha256 => staged.hash().to_hash(),
        CaMethod::Text | CaMethod::Flat => tokio::task::block_in_place(|| staged.hash_file(ca.hash.algo()))
            .map_err(|_| {
            refused(
                info,
                "it is not a single file without the executable bit, as its content address demands",
            )
        })?,
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

/// Checks the path against the content address that it claims, without the bytes.
pub(crate) fn check_path(info: &PathInfo) -> Result<(), StoreError> {
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
    Ok(())
}

fn refused(info: &PathInfo, why: &str) -> StoreError {
    StoreError::new(format!("cannot add '{}': {why}", info.path))
}
