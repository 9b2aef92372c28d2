//! Finds the golden data beside the project; a plain clone does not have it.

use std::path::{Path, PathBuf};

/// The folder `name` of the shared data, or `None` after saying so.
pub fn folder(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FIRN_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: no golden data at {} (set FIRN_SHARED)", path.display());
    None
}
