//! Trees that somebody else left on disk.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::common::{Scratch, Tree, add, hash, is_root, sample, staged};
use firn_content::{ContentStore, IngestError, WalkError, WalkLimits, WalkPolicy, WalkProblem};

fn ours() -> WalkPolicy {
    WalkPolicy::BuildOutput {
        owner: rustix::process::geteuid().as_raw(),
    }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

struct Case {
    dir: Scratch,
    store: ContentStore,
}

impl Case {
    fn new() -> Self {
        let dir = Scratch::new();
        let store = ContentStore::open(&dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    fn output(&self) -> std::path::PathBuf {
        self.dir.path().join("out")
    }

    fn ingest(&self, limits: WalkLimits) -> Result<firn_content::Staged, IngestError> {
        self.store.ingest_tree(&self.output(), ours(), limits, None)
    }

    fn refused(&self, limits: WalkLimits) -> WalkError {
        match self.ingest(limits) {
            Err(IngestError::Tree(error)) => {
                assert_eq!(staged(&self.dir.path().join("store")), [""; 0]);
                error
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn outputs_have_the_nar_of_their_tree() {
    for tree in [
        sample(),
        Tree::file(b"x"),
        Tree::Regular(true, vec![1; 1_000_000]),
        Tree::Symlink(b"/gone".to_vec()),
        Tree::directory([]),
        Tree::file(b"").nest(255),
    ] {
        let case = Case::new();
        tree.create(&case.output());
        let staged = case.ingest(WalkLimits::default()).unwrap();
        assert_eq!(staged.hash(), hash(&tree.nar()));
        assert_eq!(staged.size(), tree.nar().len() as u64);
    }
}

#[test]
fn strange_files_are_refused_and_named() {
    for (kind, make) in [
        ("named pipe", rustix::fs::FileType::Fifo),
        ("socket", rustix::fs::FileType::Socket),
        ("character device", rustix::fs::FileType::CharacterDevice),
    ] {
        if make == rustix::fs::FileType::CharacterDevice && !is_root() {
            println!("skipped: devices need root");
            continue;
        }
        for place in ["", "dir"] {
            let case = Case::new();
            let mut path = case.output();
            if !place.is_empty() {
                std::fs::create_dir_all(path.join(place)).unwrap();
                path = path.join("dir/it");
            }
            // A device 0:0 is what overlayfs calls a whiteout.
            rustix::fs::mknodat(rustix::fs::CWD, &path, make, 0o644.into(), 0).unwrap();
            let error = case.refused(WalkLimits::default());
            assert_eq!(error.problem, WalkProblem::FileType(kind));
            assert_eq!(error.path, if place.is_empty() { &b""[..] } else { b"dir/it" });
        }
    }
}

#[test]
fn links_are_never_followed() {
    let case = Case::new();
    let secret = case.dir.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("key"), "private").unwrap();
    symlink(&secret, case.output()).unwrap();
    let staged = case.ingest(WalkLimits::default()).unwrap();
    let target = secret.to_str().unwrap().as_bytes().to_vec();
    assert_eq!(staged.hash(), hash(&Tree::Symlink(target).nar()));
}

#[test]
fn suspicious_permissions() {
    for (mode, refused) in [
        (0o775, true),
        (0o757, true),
        (0o1777, true),
        (0o755, false),
        (0o700, false),
    ] {
        let case = Case::new();
        std::fs::create_dir(case.output()).unwrap();
        chmod(&case.output(), mode);
        if refused {
            let error = case.refused(WalkLimits::default());
            assert_eq!(error.problem, WalkProblem::Writable(mode));
        } else {
            case.ingest(WalkLimits::default()).unwrap();
        }
    }
    // Below the root Nix takes them, and so do we.
    let case = Case::new();
    let tree = sample();
    tree.create(&case.output());
    chmod(&case.output().join("bin"), 0o777);
    chmod(&case.output().join("data"), 0o666);
    assert_eq!(
        case.ingest(WalkLimits::default()).unwrap().hash(),
        hash(&tree.nar())
    );
}

#[test]
fn another_owner_is_refused() {
    if !is_root() {
        println!("skipped: chown needs root");
        return;
    }
    for (place, make) in [
        ("", sample()),
        ("data", sample()),
        ("link", sample()),
        ("empty", sample()),
    ] {
        let case = Case::new();
        make.create(&case.output());
        let path = case.output().join(place);
        let path = if place.is_empty() { case.output() } else { path };
        std::os::unix::fs::lchown(path, Some(12345), None).unwrap();
        let error = case.refused(WalkLimits::default());
        assert_eq!(error.path, place.as_bytes());
        assert_eq!(
            error.problem,
            WalkProblem::Owner {
                expected: 0,
                found: 12345
            }
        );
    }
    // A hard link to somebody else's file has somebody else as its owner.
    let case = Case::new();
    let foreign = case.dir.path().join("foreign");
    std::fs::write(&foreign, "x").unwrap();
    std::os::unix::fs::chown(&foreign, Some(12345), None).unwrap();
    std::fs::create_dir(case.output()).unwrap();
    std::fs::hard_link(&foreign, case.output().join("mine")).unwrap();
    assert!(matches!(
        case.refused(WalkLimits::default()).problem,
        WalkProblem::Owner { .. }
    ));
}

#[test]
fn hard_links_become_files() {
    use std::os::unix::fs::MetadataExt as _;
    let case = Case::new();
    std::fs::create_dir(case.output()).unwrap();
    std::fs::write(case.output().join("a"), "same").unwrap();
    std::fs::hard_link(case.output().join("a"), case.output().join("b")).unwrap();
    let staged = case.ingest(WalkLimits::default()).unwrap();
    let same = Tree::file(b"same");
    assert_eq!(
        staged.hash(),
        hash(&Tree::directory([("a", same.clone()), ("b", same)]).nar())
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tree = case.store.tree(&staged.hash());
    runtime.block_on(case.store.publish([staged])).unwrap();
    assert_eq!(std::fs::metadata(tree.join("b")).unwrap().nlink(), 1);
}

#[test]
fn executable_is_what_the_owner_may_execute() {
    for (mode, executable) in [
        (0o700, true),
        (0o644, false),
        (0o611, false),
        (0o100, true),
        (0o4755, true),
    ] {
        let case = Case::new();
        std::fs::write(case.output(), "x").unwrap();
        chmod(&case.output(), mode);
        let staged = case.ingest(WalkLimits::default()).unwrap();
        assert_eq!(
            staged.hash(),
            hash(&Tree::Regular(executable, b"x".to_vec()).nar()),
            "{mode:o}"
        );
    }
}

#[test]
fn what_the_builder_made_unreadable_is_read() {
    let case = Case::new();
    let tree = Tree::directory([("d", Tree::directory([("f", Tree::file(b"x"))]))]);
    tree.create(&case.output());
    chmod(&case.output().join("d/f"), 0);
    chmod(&case.output().join("d"), 0);
    chmod(&case.output(), 0o500);
    assert_eq!(
        case.ingest(WalkLimits::default()).unwrap().hash(),
        hash(&tree.nar())
    );
    chmod(&case.output(), 0o700);
}

#[test]
fn limits() {
    let case = Case::new();
    let tree = sample();
    tree.create(&case.output());
    let limits = WalkLimits::default();
    let error = case.refused(WalkLimits { entries: 7, ..limits });
    assert_eq!(error.problem, WalkProblem::Entries(7));
    let error = case.refused(WalkLimits {
        bytes: 1000,
        ..limits
    });
    assert_eq!(
        (error.path, error.problem),
        (b"data".to_vec(), WalkProblem::Bytes(1000))
    );
    let size = tree.nar().len() as u64;
    assert!(
        case.ingest(WalkLimits {
            entries: 8,
            bytes: size,
            ..limits
        })
        .is_ok()
    );
    let short = case.ingest(WalkLimits {
        bytes: size - 1,
        ..limits
    });
    assert!(matches!(short, Err(IngestError::TooLarge { .. })));
}

#[test]
fn a_sparse_file_is_refused_before_it_is_read() {
    let case = Case::new();
    let file = std::fs::File::create(case.output()).unwrap();
    if let Err(error) = file.set_len(8 << 40) {
        println!("skipped: no sparse file of 8 TiB here: {error}");
        return;
    }
    let error = case.refused(WalkLimits::default());
    assert_eq!(error.problem, WalkProblem::Bytes(1 << 40));
}

#[test]
fn a_tree_too_deep_is_an_error_and_can_be_deleted() {
    let case = Case::new();
    std::fs::create_dir(case.output()).unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let open = |dir: &std::os::fd::OwnedFd| rustix::fs::openat(dir, "d", flags, 0.into()).unwrap();
    let mut dir = rustix::fs::open(case.output(), flags, 0.into()).unwrap();
    // More than the descriptors and the bytes of a path that a process may have.
    for depth in 0..3_000u32 {
        rustix::fs::mkdirat(&dir, "d", 0o755.into()).unwrap();
        if depth % 100 == 0 {
            rustix::fs::symlinkat("target", &dir, "link").unwrap();
            rustix::fs::mkdirat(&dir, "z", 0o755.into()).unwrap();
        }
        let next = open(&dir);
        if depth % 3 == 0 {
            rustix::fs::fchmod(&dir, 0o555.into()).unwrap();
        }
        dir = next;
    }
    drop(dir);
    let error = case.refused(WalkLimits::default());
    assert_eq!(error.problem, WalkProblem::Depth(256));
    let parent = rustix::fs::open(case.dir.path(), flags, 0.into()).unwrap();
    firn_content::remove_tree(&parent, b"out").unwrap();
    assert!(!case.output().exists());
    // Not there is fine.
    firn_content::remove_tree(&parent, b"out").unwrap();
}

#[tokio::test]
async fn deleting_wide_and_read_only_trees() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let entries = (0..3000u32)
        .map(|n| {
            let inner = Tree::directory([("x", Tree::file(&n.to_le_bytes()))]);
            (
                format!("{n}").into_bytes(),
                if n % 2 == 0 { inner } else { Tree::file(b"") },
            )
        })
        .collect();
    let hash = add(&store, &Tree::Directory(entries).nar()).await;
    store.remove(&hash).unwrap();
    assert!(!store.contains(&hash));
    assert_eq!(staged(dir.path()), [""; 0]);
    let link = add(&store, &Tree::Symlink(b"/".to_vec()).nar()).await;
    store.remove(&link).unwrap();
    let file = add(&store, &Tree::file(b"x").nar()).await;
    store.remove(&file).unwrap();
    assert_eq!(store.list().count(), 0);
}

#[test]
fn a_missing_output_says_so() {
    let case = Case::new();
    let error = case.refused(WalkLimits::default());
    assert_eq!(error.problem, WalkProblem::Io(rustix::io::Errno::NOENT));
}

#[test]
fn a_file_that_grows_or_shrinks_is_an_error() {
    use firn_nix::nar::NarVisitor;
    /// Changes the file when its first data comes by.
    struct Change<'a>(&'a Path, u64);
    impl NarVisitor for Change<'_> {
        type Error = std::convert::Infallible;
        fn directory(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }
        fn entry(&mut self, _: &[u8]) -> Result<(), Self::Error> {
            Ok(())
        }
        fn end_directory(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }
        fn regular(&mut self, _: bool, _: u64) -> Result<(), Self::Error> {
            Ok(())
        }
        fn data(&mut self, _: &[u8]) -> Result<(), Self::Error> {
            let file = std::fs::OpenOptions::new().write(true).open(self.0).unwrap();
            file.set_len(self.1).unwrap();
            Ok(())
        }
        fn end_regular(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }
        fn symlink(&mut self, _: &[u8]) -> Result<(), Self::Error> {
            Ok(())
        }
    }
    let dir = Scratch::new();
    let path = dir.path().join("file");
    for (size, changed) in [(10, 11), (10, 9), (1_000_000, 300_000), (1_000_000, 1_000_001)] {
        std::fs::write(&path, vec![0; size]).unwrap();
        let stopped = firn_content::walk(&path, ours(), WalkLimits::default(), &mut Change(&path, changed));
        match stopped {
            Err(firn_content::Stopped::Walk(error)) => assert_eq!(error.problem, WalkProblem::Changed),
            other => panic!("{size} -> {changed}: {other:?}"),
        }
    }
}
