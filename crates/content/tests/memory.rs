//! The memory for one content does not depend on its size. Alone in its process, so that the peak is its own.

use firn_content::{ContentStore, IngestOptions};
use firn_nix::nar::{NarVisitor as _, NarWriter};
use tokio::io::AsyncReadExt as _;

const SIZE: u64 = 300_000_000;

const OPTIONS: IngestOptions = IngestOptions {
    expected_size: None,
    expected_hash: None,
    max_size: 1 << 30,
};

/// Peak resident memory of this process in KiB.
#[expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn does_not_grow_with_the_content() {
    let dir = tempfile::tempdir().unwrap();
    let store = ContentStore::open(dir.path()).unwrap();
    let mut frame = NarWriter::new(Vec::new());
    frame.regular(false, SIZE).unwrap();
    let head = frame.into_inner();
    let mut frame = NarWriter::new(Vec::new());
    frame.regular(false, 0).unwrap();
    let start = frame.get_mut().len();
    frame.end_regular().unwrap();
    let tail = frame.into_inner().split_off(start);

    let before = peak();
    let mut nar = head[..].chain(tokio::io::repeat(7).take(SIZE)).chain(&tail[..]);
    let staged = store.ingest(&mut nar, OPTIONS, None).await.unwrap();
    let (hash, size) = (staged.hash(), staged.size());
    assert_eq!(size, SIZE + (head.len() + tail.len()) as u64);
    store.publish([staged]).await.unwrap();
    let mut out = store.read_nar(&hash).await.unwrap();
    let copied = tokio::io::copy(&mut out, &mut tokio::io::sink()).await.unwrap();
    assert_eq!(copied, size);
    let grown = peak() - before;
    assert!(grown < 20_000, "grew by {grown} KiB");
}
