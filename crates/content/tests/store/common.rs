//! Trees, their NARs, and a look into the staging area.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use firn_content::{ContentStore, IngestOptions, Staged};
use firn_nix::nar::{NarVisitor, NarWriter};
use firn_nix::{Hash, NarHash};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    Directory(BTreeMap<Vec<u8>, Tree>),
    Regular(bool, Vec<u8>),
    Symlink(Vec<u8>),
}

impl Tree {
    pub fn file(contents: &[u8]) -> Self {
        Self::Regular(false, contents.to_vec())
    }

    pub fn directory<const N: usize>(entries: [(&str, Tree); N]) -> Self {
        Self::Directory(
            entries
                .into_iter()
                .map(|(name, tree)| (name.as_bytes().to_vec(), tree))
                .collect(),
        )
    }

    pub fn nest(self, depth: usize) -> Self {
        (0..depth).fold(self, |tree, _| Self::directory([("d", tree)]))
    }

    fn show<V: NarVisitor>(&self, visitor: &mut V) -> Result<(), V::Error> {
        match self {
            Self::Directory(entries) => {
                visitor.directory()?;
                for (name, node) in entries {
                    visitor.entry(name)?;
                    node.show(visitor)?;
                }
                visitor.end_directory()
            }
            Self::Regular(executable, contents) => {
                visitor.regular(*executable, contents.len() as u64)?;
                visitor.data(contents)?;
                visitor.end_regular()
            }
            Self::Symlink(target) => visitor.symlink(target),
        }
    }

    pub fn nar(&self) -> Vec<u8> {
        let mut writer = NarWriter::new(Vec::new());
        self.show(&mut writer).unwrap();
        writer.into_inner()
    }

    /// Makes it on disk with ordinary modes.
    pub fn create(&self, path: &Path) {
        match self {
            Self::Directory(entries) => {
                std::fs::create_dir(path).unwrap();
                for (name, node) in entries {
                    node.create(&path.join(OsStr::from_bytes(name)));
                }
            }
            Self::Regular(executable, contents) => {
                use std::os::unix::fs::PermissionsExt as _;
                std::fs::write(path, contents).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            Self::Symlink(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), path).unwrap(),
        }
    }
}

/// A bit of everything.
pub fn sample() -> Tree {
    let mut tree = Tree::directory([
        (
            "bin",
            Tree::directory([("run", Tree::Regular(true, b"#!/bin/sh\n".to_vec()))]),
        ),
        (
            "data",
            Tree::Regular(false, (0..200_000u32).map(|n| (n % 251) as u8).collect()),
        ),
        ("empty", Tree::directory([])),
        ("link", Tree::Symlink(b"../outside/\xff".to_vec())),
        ("none", Tree::file(b"")),
    ]);
    if let Tree::Directory(entries) = &mut tree {
        entries.insert(b"\xff\xfe\n".to_vec(), Tree::file(b"odd name"));
    }
    tree
}

pub fn hash(nar: &[u8]) -> NarHash {
    NarHash::new(Hash::sha256(nar).bytes().try_into().unwrap())
}

pub const ANY: IngestOptions = IngestOptions {
    expected_size: None,
    expected_hash: None,
    max_size: 1 << 30,
};

pub async fn stage(store: &ContentStore, nar: &[u8]) -> Staged {
    store.ingest(&mut &nar[..], ANY, None).await.unwrap()
}

pub async fn add(store: &ContentStore, nar: &[u8]) -> NarHash {
    let staged = stage(store, nar).await;
    let hash = staged.hash();
    store.publish([staged]).await.unwrap();
    hash
}

/// What is in the staging area besides the empty directories of open stores.
pub fn staged(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for session in std::fs::read_dir(dir.join("staging")).unwrap() {
        for entry in std::fs::read_dir(session.unwrap().path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name != "unsynced" {
                found.push(name);
            }
        }
    }
    found
}

/// Waits for deletions in the background.
pub async fn staging_is_empty(dir: &Path) {
    for _ in 0..500 {
        if staged(dir).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("left in staging: {:?}", staged(dir));
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A directory for one test. Unlike `tempfile` it can delete read-only directories as an ordinary user.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let parent = std::fs::File::open(self.path().parent().unwrap()).unwrap();
        let name = self.path().file_name().unwrap();
        firn_content::remove_tree(&parent, name.as_bytes()).unwrap();
    }
}
