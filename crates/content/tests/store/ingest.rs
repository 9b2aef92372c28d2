//! What comes in, comes out; what is wrong leaves nothing.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use crate::common::{ANY, Scratch, Tree, add, hash, sample, stage, staged, staging_is_empty};
use firn_content::{ContentError, ContentStore, IngestError, IngestOptions};
use firn_nix::NarHash;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

fn assert_canonical(path: &Path) {
    let meta = std::fs::symlink_metadata(path).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1, 0), "{path:?}");
    if meta.is_dir() {
        assert_eq!(meta.mode() & 0o7777, 0o555, "{path:?}");
        for entry in std::fs::read_dir(path).unwrap() {
            assert_canonical(&entry.unwrap().path());
        }
    } else if meta.is_file() {
        assert!(matches!(meta.mode() & 0o7777, 0o444 | 0o555), "{path:?}");
        assert_eq!(meta.nlink(), 1);
    }
}

async fn nar_of(store: &ContentStore, hash: &NarHash) -> Vec<u8> {
    let mut nar = Vec::new();
    store
        .read_nar(hash)
        .await
        .unwrap()
        .read_to_end(&mut nar)
        .await
        .unwrap();
    nar
}

#[tokio::test]
async fn what_comes_in_comes_out() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    for tree in [
        sample(),
        Tree::file(b""),
        Tree::file(b"contents"),
        Tree::Regular(true, vec![9; 3_000_000]),
        Tree::Symlink(b"nowhere".to_vec()),
        Tree::directory([]),
        Tree::file(b"deep").nest(255),
    ] {
        let nar = tree.nar();
        let staged = stage(&store, &nar).await;
        assert_eq!((staged.hash(), staged.size()), (hash(&nar), nar.len() as u64));
        let hash = staged.hash();
        assert!(!store.contains(&hash));
        store.publish([staged]).await.unwrap();
        store.sync([]).await.unwrap();
        assert!(store.contains(&hash));
        assert_canonical(&store.tree(&hash));
        assert!(nar_of(&store, &hash).await == nar);
        assert!(store.verify(&hash).await.unwrap());
    }
    assert_eq!(staged(dir.path()), [""; 0]);
    assert_eq!(store.list().map(Result::unwrap).count(), 7);
    let missing = hash(b"");
    assert!(!store.contains(&missing));
    assert!(matches!(store.read_nar(&missing).await, Err(ContentError::Missing(h)) if h == missing));
    assert!(matches!(
        store.verify(&missing).await,
        Err(ContentError::Missing(_))
    ));
    assert!(matches!(store.remove(&missing), Err(ContentError::Missing(_))));
}

/// Gives bytes in small pieces and counts them.
struct Pieces<'a> {
    bytes: &'a [u8],
    at: usize,
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.piece.min(into.remaining()).min(self.bytes.len() - self.at);
        into.put_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn reads_one_nar_and_not_a_byte_more() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let nar = sample().nar();
    let size = nar.len();
    let bytes = [nar.clone(), nar.clone(), b"end".to_vec()].concat();
    for expected_size in [None, Some(size as u64)] {
        for piece in [1000, 1 << 20] {
            let options = IngestOptions { expected_size, ..ANY };
            let mut input = Pieces {
                bytes: &bytes,
                at: 0,
                piece,
            };
            for nth in 1..=2 {
                let staged = store.ingest(&mut input, options, None).await.unwrap();
                assert_eq!(staged.hash(), hash(&nar));
                assert_eq!(input.at, nth * size);
            }
        }
    }
}

#[tokio::test]
async fn the_observer_sees_the_nar() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let nar = sample().nar();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let seen = Arc::clone(&seen);
        Box::new(move |bytes: &[u8]| seen.lock().unwrap().extend_from_slice(bytes))
    };
    let mut input = [nar.clone(), b"more".to_vec()].concat();
    input.truncate(nar.len() + 4);
    store.ingest(&mut &input[..], ANY, Some(observer)).await.unwrap();
    assert!(*seen.lock().unwrap() == nar);
}

#[tokio::test]
async fn what_is_wrong_leaves_nothing() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let nar = Tree::directory([("a", Tree::file(&vec![1; 2_000_000])), ("b", sample())]).nar();
    let size = nar.len() as u64;
    let other = hash(b"other");
    let with = |expected_size, expected_hash, max_size| IngestOptions {
        expected_size,
        expected_hash,
        max_size,
    };
    let mut bad = nar.clone();
    let end = bad.len() - 16;
    bad[end] = 2;
    let mut unterminated = nar.clone();
    unterminated.truncate(nar.len() - 1);

    let case = async |input: &[u8], options| {
        let result = store.ingest(&mut &*input, options, None).await;
        assert_eq!(staged(dir.path()), [""; 0]);
        result.unwrap_err()
    };
    let m = 1 << 30;
    let error = case(&nar, with(None, Some(other), m)).await;
    assert!(
        matches!(error, IngestError::HashMismatch { expected, got } if expected == other && got == hash(&nar))
    );
    let error = case(&nar, with(Some(size - 8), None, m)).await;
    assert!(
        matches!(error, IngestError::SizeMismatch { expected, got } if expected == size - 8 && got >= size)
    );
    let longer = [nar.clone(), vec![0; 100]].concat();
    let error = case(&longer, with(Some(size + 8), None, m)).await;
    assert!(
        matches!(error, IngestError::SizeMismatch { expected, got } if expected == size + 8 && got == size)
    );
    let error = case(&nar, with(Some(size), None, size - 1)).await;
    assert!(matches!(error, IngestError::TooLarge { limit } if limit == size - 1));
    let error = case(&nar, with(None, None, size - 1)).await;
    assert!(matches!(error, IngestError::TooLarge { .. }), "{error}");
    for expected in [None, Some(size)] {
        let error = case(&bad, with(expected, None, m)).await;
        assert!(
            matches!(&error, IngestError::Nar(m) if m.offset == size - 24 || m.offset == size - 16),
            "{error}"
        );
        let error = case(&unterminated, with(expected, None, m)).await;
        assert!(matches!(error, IngestError::ConnectionEnded { received } if received == size - 1));
        let error = case(b"", with(expected, None, m)).await;
        assert!(matches!(error, IngestError::ConnectionEnded { received: 0 }));
    }
    let error = case(&nar, with(Some(0), None, m)).await;
    assert!(
        matches!(error, IngestError::SizeMismatch { expected: 0, .. }),
        "{error}"
    );
    let error = case(&Tree::file(b"").nest(256).nar(), ANY).await;
    assert!(matches!(error, IngestError::Nar(_)));
    assert_eq!(store.list().count(), 0);
}

#[tokio::test]
async fn dropping_what_is_staged_removes_it() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let content = stage(&store, &sample().nar()).await;
    assert_eq!(staged(dir.path()).len(), 1);
    drop(content);
    staging_is_empty(dir.path()).await;
    drop(store.receive(&mut &sample().nar()[..], ANY, None).await.unwrap());
    staging_is_empty(dir.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_are_one_tree() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let nar = Arc::new(sample().nar());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (store, nar) = (store.clone(), Arc::clone(&nar));
        tasks.spawn(async move {
            let hash = add(&store, &nar).await;
            store.sync([]).await.unwrap();
            assert_canonical(&store.tree(&hash));
            hash
        });
    }
    let hashes = tasks.join_all().await;
    assert!(hashes.iter().all(|h| *h == hash(&nar)));
    assert_eq!(store.list().count(), 1);
    assert_eq!(staged(dir.path()), [""; 0]);
    assert!(nar_of(&store, &hashes[0]).await == *nar);
}

#[tokio::test]
async fn one_batch_may_hold_a_content_twice() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let nar = sample().nar();
    let batch = [
        stage(&store, &nar).await,
        stage(&store, &Tree::file(b"x").nar()).await,
        stage(&store, &nar).await,
    ];
    store.publish(batch).await.unwrap();
    assert_eq!(store.list().count(), 2);
    assert_eq!(staged(dir.path()), [""; 0]);
}

#[tokio::test]
async fn cancelled_in_the_middle_leaves_nothing() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let nar = Tree::directory([("a", Tree::file(&vec![1; 5_000_000])), ("b", Tree::file(b""))]).nar();
    for part in [10, 100_000, 600_000, 3_000_000, nar.len() - 1] {
        let (mut sender, mut receiver) = tokio::io::duplex(64 * 1024);
        let ingest = {
            let store = store.clone();
            tokio::spawn(async move { store.ingest(&mut receiver, ANY, None).await.map(drop) })
        };
        tokio::io::AsyncWriteExt::write_all(&mut sender, &nar[..part])
            .await
            .unwrap();
        tokio::task::yield_now().await;
        assert!(!ingest.is_finished());
        ingest.abort();
        assert!(ingest.await.unwrap_err().is_cancelled());
        staging_is_empty(dir.path()).await;
    }
}

#[tokio::test]
async fn many_syncs_at_once_all_return() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..30u32 {
        let store = store.clone();
        tasks.spawn(async move {
            add(&store, &Tree::file(&n.to_le_bytes()).nar()).await;
            store.sync([]).await.unwrap();
        });
    }
    tasks.join_all().await;
    assert_eq!(store.list().count(), 30);
}

#[tokio::test]
async fn reading_can_stop_anywhere() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let nar = Tree::file(&vec![3; 5_000_000]).nar();
    let hash = add(&store, &nar).await;
    let mut stream = store.read_nar(&hash).await.unwrap();
    let mut start = vec![0; 700_000];
    stream.read_exact(&mut start).await.unwrap();
    assert!(start == nar[..700_000]);
    drop(stream);
    store.remove(&hash).unwrap();
    assert!(!store.contains(&hash));
}

#[tokio::test]
async fn damage_is_noticed() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let hash = add(&store, &sample().nar()).await;
    let file = store.tree(&hash).join("data");
    let set = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    set(0o644);
    assert!(!store.verify(&hash).await.unwrap(), "mode");
    set(0o444);
    assert!(store.verify(&hash).await.unwrap());
    set(0o644);
    let mut contents = std::fs::read(&file).unwrap();
    contents[77] ^= 1;
    std::fs::write(&file, contents).unwrap();
    set(0o444);
    std::fs::File::open(&file)
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1))
        .unwrap();
    assert!(!store.verify(&hash).await.unwrap(), "contents");
}
