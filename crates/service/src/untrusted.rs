//! An account whose clients are not believed (`trusted = false`): what they may bring, and what they may ask to be built.

use firn_core::Effective;
use firn_nix::realisation::Realisation;
use firn_nix::signature::Signature;
use firn_nix::{BasicDerivation, DerivationOutput, PathInfo, StorePath};
use firn_protocol::StoreError;

/// Refuses a path whose content nothing but the client's word vouches for. Its bytes are compared with what it says anyway.
pub(crate) fn admit(settings: &Effective, info: &PathInfo) -> Result<(), StoreError> {
    if settings.trusted || info.ca.is_some() || is_vouched_for(settings, info) {
        return Ok(());
    }
    Err(StoreError::new(format!(
        "cannot add path '{}' because it lacks a signature by a trusted key: it is input-addressed, and the account's setting 'trusted' is \
         false; send its derivation and have it built here, or sign it",
        info.path
    )))
}

/// Refuses a path whose content address is right in the form that leaves open which of the NULs in it are self-references, unless it is
/// vouched for.
pub(crate) fn admit_unplaced(settings: &Effective, info: &PathInfo) -> Result<(), StoreError> {
    if settings.trusted || is_vouched_for(settings, info) {
        return Ok(());
    }
    Err(StoreError::new(format!(
        "cannot add path '{}' because it lacks a signature by a trusted key: it refers to itself, which its content address, as Nix 2.17 to \
         2.34 computes it, leaves open, and the account's setting 'trusted' is false; have it built here, or sign it",
        info.path
    )))
}

/// Whether a key that the account trusts has signed it.
fn is_vouched_for(settings: &Effective, info: &PathInfo) -> bool {
    let message = firn_nix::fingerprint(&info.path, info.nar_hash, info.nar_size, &info.references);
    let vouches = |signature: Signature| {
        let mut keys = settings.trusted_public_keys.iter();
        keys.any(|key| key.verify(message.as_bytes(), &signature))
    };
    let mut signatures = info.signatures.iter().filter_map(|text| text.parse().ok());
    signatures.any(vouches)
}

/// Refuses a realisation that nothing but the client's word vouches for.
pub(crate) fn register(settings: &Effective, realisation: &Realisation) -> Result<(), StoreError> {
    if settings.trusted || realisation.signed_by(&settings.trusted_public_keys).is_some() {
        return Ok(());
    }
    Err(StoreError::new(format!(
        "cannot register realisation '{}' because it lacks a signature by a trusted key, and the account's setting 'trusted' is false; have \
         it built here, or sign it",
        realisation.id
    )))
}

/// Refuses a derivation without its graph whose output paths are the client's word.
pub(crate) fn build(
    settings: &Effective,
    drv_path: &StorePath,
    drv: &BasicDerivation,
) -> Result<(), StoreError> {
    let claimed = |output: &DerivationOutput| {
        matches!(
            output,
            DerivationOutput::InputAddressed(_) | DerivationOutput::Deferred
        )
    };
    if settings.trusted || !drv.outputs.values().any(claimed) {
        return Ok(());
    }
    Err(StoreError::new(format!(
        "cannot build '{drv_path}': the account's setting 'trusted' is false, and a derivation without its inputs' derivations does not \
         prove its output paths; Nix 2.15 and newer send them all over ssh-ng://, older ones with --store ssh-ng://"
    )))
}
