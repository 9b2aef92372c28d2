//! The seeds of the fuzz target through the function that it runs. Seeds named `bad-…` must be refused, all others be whole conversations.

use std::path::Path;

#[path = "../../../fuzz/replay/guest_records.rs"]
mod guest_records;

#[test]
fn conversations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/guest_records");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bad = path.file_name().unwrap().to_str().unwrap().starts_with("bad-");
        let taken = guest_records::run(&std::fs::read(&path).unwrap());
        assert_eq!(taken, !bad, "{}", path.display());
        count += 1;
    }
    assert!(count > 5, "{count}");
}
