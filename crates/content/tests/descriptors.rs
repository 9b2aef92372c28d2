//! How many files are open for one content does not depend on how deep it is. Alone in its process, so that all of them are its own.

use std::path::Path;

use firn_content::{ContentStore, IngestOptions, WalkLimits, WalkPolicy};
use firn_nix::nar::{NarVisitor as _, NarWriter};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncReadExt as _;

/// Directories in each other, as many as may be.
const DEEP: usize = 255;
/// As long as a name can be: the way to the bottom is sixteen times longer than a path can be.
const NAME: [u8; 255] = [b'n'; 255];
/// Files that may be open, where this process has about twenty.
const FILES: u64 = 100;

const OPTIONS: IngestOptions = IngestOptions {
    expected_size: None,
    expected_hash: None,
    max_size: 1 << 30,
};

/// Each directory has an entry before the one that leads on, and one behind.
#[expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]
fn deep() -> Vec<u8> {
    let mut nar = NarWriter::new(Vec::new());
    let leaf = |nar: &mut NarWriter<Vec<u8>>, name: &[u8]| {
        nar.entry(name).unwrap();
        nar.regular(false, 1).unwrap();
        nar.data(b"x").unwrap();
        nar.end_regular().unwrap();
    };
    for _ in 0..DEEP {
        nar.directory().unwrap();
        leaf(&mut nar, b"a");
        nar.entry(&NAME).unwrap();
    }
    nar.symlink(b"bottom").unwrap();
    for _ in 0..DEEP {
        leaf(&mut nar, b"z");
        nar.end_directory().unwrap();
    }
    nar.into_inner()
}

#[tokio::test]
async fn does_not_grow_with_the_depth() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(FILES);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = ContentStore::open(dir.path()).unwrap();
    let nar = deep();

    let staged = store.ingest(&mut &nar[..], OPTIONS, None).await.unwrap();
    let hash = staged.hash();
    store.publish([staged]).await.unwrap();
    store.sync([]).await.unwrap();
    assert!(store.verify(&hash).await.unwrap());
    let mut again = Vec::new();
    let mut out = store.read_nar(&hash).await.unwrap();
    out.read_to_end(&mut again).await.unwrap();
    assert!(again == nar);

    let owner = rustix::process::geteuid().as_raw();
    let output = WalkPolicy::BuildOutput { owner };
    let tree: &Path = &store.tree(&hash);
    let staged = store
        .ingest_tree(tree, output, WalkLimits::default(), None)
        .unwrap();
    assert_eq!(staged.hash(), hash);
    drop(staged);
    firn_content::remove_tree(rustix::fs::CWD, tree.as_os_str().as_encoded_bytes()).unwrap();
    assert!(!tree.exists());
}
