//! The seeds of the fuzz targets through the functions that the targets run. Seeds named `bad-…` must be refused, all others read.

#![expect(clippy::unwrap_used, reason = "a failed test is the point")]

use std::path::Path;

#[path = "../../../fuzz/replay/aterm.rs"]
mod aterm;
#[path = "../../../fuzz/replay/nar.rs"]
mod nar;
#[path = "../../../fuzz/replay/narinfo.rs"]
mod narinfo;

fn replay(target: &str, run: impl Fn(&[u8]) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bad = path.file_name().unwrap().to_str().unwrap().starts_with("bad-");
        assert_eq!(run(&std::fs::read(&path).unwrap()), !bad, "{}", path.display());
        count += 1;
    }
    assert!(count > 5, "{count}");
}

#[test]
fn derivations() {
    replay("aterm", aterm::run);
}

#[test]
fn archives() {
    replay("nar", nar::run);
}

#[test]
fn narinfos() {
    replay("narinfo", narinfo::run);
}
