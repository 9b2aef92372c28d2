//! What is read as a narinfo is written as a text that reads back the same, with the same fingerprint.

use firn_nix::narinfo::NarInfo;

/// True when the bytes were read.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(mut info) = NarInfo::parse(bytes) else {
        return false;
    };
    // Not written.
    info.unreadable_signatures = 0;
    let again = NarInfo::parse(info.to_string().as_bytes());
    assert_eq!(again.as_ref(), Ok(&info));
    assert_eq!(info.to_path_info().fingerprint(), info.fingerprint());
    true
}
