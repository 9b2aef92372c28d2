//! Content addresses are recomputed, never believed.

use std::sync::{Arc, Mutex, PoisonError};

use firn_content::Staged;
use firn_nix::rewrite::{HashModuloSelf, HashesModuloSelf, SelfReferences};
use firn_nix::{CaMethod, HashAlgo, PathInfo, StorePath};
use firn_protocol::StoreError;

/// Checks the content address that an uploaded path claims: its hash against the bytes, and the path against the hash. The form in which
/// it is right, where the bytes have more than one.
pub(crate) fn check(info: &PathInfo, staged: &Staged) -> Result<Option<SelfReferences>, StoreError> {
    let Some(ca) = info.ca else { return Ok(None) };
    check_path(info)?;
    let got = match ca.method {
        CaMethod::Nar if staged.hash().to_hash() == ca.hash => {
            // What is said to refer to itself and has no self-reference: another content may have them where this one has NULs.
            let to_itself = info.references.contains(&info.path);
            return Ok(to_itself.then_some(SelfReferences::Unplaced));
        }
        // What mentions its own path, which follows from this hash, has it only modulo itself.
        CaMethod::Nar => {
            let hashes = modulo_itself(info, ca.hash.algo(), staged)?;
            let right = |form: &SelfReferences| hashes.of(*form) == ca.hash;
            match SelfReferences::ALL.into_iter().find(right) {
                Some(form) => return Ok(hashes.mentions_itself().then_some(form)),
                None => hashes.of(SelfReferences::Placed),
            }
        }
        CaMethod::Text | CaMethod::Flat => tokio::task::block_in_place(|| staged.hash_file(ca.hash.algo()))
            .map_err(|_| {
            refused(
                info,
                "it is not a single file without the executable bit, as its content address demands",
            )
        })?,
        CaMethod::Git => {
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
    Ok(None)
}

/// The hashes of a NAR in which the path's own hash part counts as nothing.
fn modulo_itself(info: &PathInfo, algo: HashAlgo, staged: &Staged) -> Result<HashesModuloSelf, StoreError> {
    let hash = Arc::new(Mutex::new(HashModuloSelf::new(algo, &info.path)));
    let seen = Arc::clone(&hash);
    let observer = Box::new(move |bytes: &[u8]| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    });
    tokio::task::block_in_place(|| staged.observe(observer)).map_err(|e| refused(info, &e.to_string()))?;
    let hash = Arc::into_inner(hash).ok_or_else(|| refused(info, "its hash was not computed"))?;
    let hash = hash.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
    hash.map_err(|e| refused(info, &e.to_string()))
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
