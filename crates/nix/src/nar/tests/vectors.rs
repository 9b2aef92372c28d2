use std::path::{Path, PathBuf};

use super::{Event, problem, read};
use crate::nar::{NarLimits, NarReader, NarWriter, Problem};

/// The folder of golden data, or `None` after saying why.
fn vectors(folder: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("FIRN_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared"),
        PathBuf::from,
    );
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let found = [shared, beside]
        .into_iter()
        .map(|dir| dir.join("vectors").join(folder))
        .find(|dir| dir.is_dir());
    if found.is_none() {
        println!("skipped: no golden data in {folder}; set FIRN_SHARED");
    }
    found
}

fn nars(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            nars(&path, found);
        } else if path.extension().is_some_and(|e| e == "nar") {
            found.push(path);
        }
    }
}

#[test]
fn archives_of_other_projects_round_trip() {
    let Some(dir) = vectors("nar") else { return };
    let mut found = Vec::new();
    nars(&dir, &mut found);
    assert!(found.len() >= 10);
    for path in found {
        let nar = std::fs::read(&path).unwrap();
        let mut writer = NarWriter::new(Vec::new());
        let mut reader = NarReader::new(NarLimits::default());
        match reader.push(&nar, &mut writer) {
            Ok(taken) => assert_eq!(writer.into_inner(), &nar[..taken], "{}", path.display()),
            Err(error) => panic!("{}: {error}", path.display()),
        }
        assert!(reader.is_complete(), "{}", path.display());
    }
}

#[test]
fn nix_own_odd_archives() {
    let Some(dir) = vectors("nix/nars") else { return };
    let nar = |name: &str| std::fs::read(dir.join(name).with_extension("nar")).unwrap();
    for (name, bad) in [("dot", &b"."[..]), ("dotdot", b".."), ("empty", b"")] {
        assert_eq!(problem(&nar(name)).problem, Problem::Name(bad.to_vec()), "{name}");
    }
    for name in ["slash", "nul-character"] {
        assert!(matches!(problem(&nar(name)).problem, Problem::Name(_)), "{name}");
    }
    for name in [
        "executable-after-contents",
        "invalid-tag-instead-of-contents",
        "name-after-node",
    ] {
        assert!(
            matches!(problem(&nar(name)).problem, Problem::Token { .. }),
            "{name}"
        );
    }
    assert_eq!(
        problem(&nar("regular-one-byte-non-zero-padding")).problem,
        Problem::Padding
    );
    for name in ["regular-truncated-large-contents", "regular-truncated-padding"] {
        let error = problem(&nar(name)).problem;
        assert!(
            matches!(error, Problem::Truncated | Problem::TotalBytes(_)),
            "{name}: {error}"
        );
    }
    let (events, left) = read(&nar("regular-one-byte-zero-padding"), 5, NarLimits::default()).unwrap();
    assert_eq!(left, 0);
    assert!(matches!(
        &events.0[..],
        [Event::Regular(false, 1), Event::Data(_), Event::EndRegular]
    ));
}
