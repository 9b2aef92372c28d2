//! Signatures are kept as they come; how many and how long is limited, because everybody may bring them.

use std::collections::BTreeSet;

use firn_nix::StorePath;
use firn_protocol::StoreError;

use crate::ports::MAX_SIGNATURES;

/// Bytes of one signature with the name of its key.
const MAX_SIGNATURE: usize = 1024;

/// Refuses more signatures for a path than are kept, or longer ones.
pub(crate) fn check(path: &StorePath, signatures: &BTreeSet<String>) -> Result<(), StoreError> {
    let refused = |what: String| Err(StoreError::new(format!("cannot add '{path}' with {what}")));
    if let Some(long) = signatures.iter().find(|s| s.len() > MAX_SIGNATURE) {
        let length = long.len();
        return refused(format!(
            "a signature of {length} bytes: at most {MAX_SIGNATURE} are kept"
        ));
    }
    match signatures.len() {
        0..=MAX_SIGNATURES => Ok(()),
        count => refused(format!("{count} signatures: at most {MAX_SIGNATURES} are kept")),
    }
}
