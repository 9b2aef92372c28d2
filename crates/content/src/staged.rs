//! Contents that are written and not yet published.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use firn_nix::{Hash, HashAlgo, Hasher, NarHash};
use rustix::fs::{AtFlags, Mode, OFlags};

use crate::blocking::Background;
use crate::ingest::Observer;
use crate::remove::remove_tree;
use crate::store::Inner;
use crate::tree_writer::Shape;
use crate::verify::digest_tree;
use crate::walk::{Stopped, WalkPolicy};

/// A name in the staging area. What is there goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Staging {
    store: Arc<Inner>,
    name: String,
    losses: u64,
}

impl Staging {
    pub(crate) fn new(store: Arc<Inner>) -> Arc<Self> {
        let name = store.session.name();
        let losses = store.doubt.losses();
        Arc::new(Self { store, name, losses })
    }

    /// How often writes had been lost when it was begun.
    pub(crate) fn losses(&self) -> u64 {
        self.losses
    }

    pub(crate) fn dir(&self) -> &OwnedFd {
        self.store.session.dir()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> PathBuf {
        let session = self.store.dir.join("staging").join(self.store.session.own_name());
        session.join(&self.name)
    }

    /// Shows the contents of what must be one regular file.
    pub(crate) fn read_file(&self, show: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.dir(), self.name.as_str(), flags, Mode::empty())?;
        let mut file = File::from(file);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => show(buffer.get(..read).unwrap_or_default())?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(errno) = remove_tree(self.dir(), self.name.as_bytes()) {
            tracing::warn!(name = self.name, %errno, "a staged content could not be removed");
        }
    }
}

/// A content that has been written and checked, but is not in the store yet. Dropping it removes its files.
#[derive(Debug)]
pub struct Staged {
    staging: Background<Arc<Staging>>,
    hash: NarHash,
    size: u64,
    shape: Shape,
}

impl Staged {
    pub(crate) fn new(staging: Arc<Staging>, hash: NarHash, size: u64, shape: Shape) -> Self {
        Self {
            staging: Background::new(staging),
            hash,
            size,
            shape,
        }
    }

    /// SHA-256 of the NAR.
    #[must_use]
    pub fn hash(&self) -> NarHash {
        self.hash
    }

    /// Bytes of the NAR.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hash of the bytes of what must be one regular file that is not executable: such a hash says nothing of the bit. Blocks.
    ///
    /// # Errors
    /// What the file system said; a directory, a symbolic link or an executable file is an error too.
    pub fn hash_file(&self, algo: HashAlgo) -> io::Result<Hash> {
        let mut hasher = Hasher::new(algo);
        let staging = self.staging.get().ok_or(io::ErrorKind::NotFound)?;
        let found = rustix::fs::statat(staging.dir(), staging.name(), AtFlags::SYMLINK_NOFOLLOW)?;
        if found.st_mode & 0o111 != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is executable"));
        }
        staging.read_file(&mut |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        Ok(hasher.finish())
    }

    /// Shows the NAR once more. Blocks.
    ///
    /// # Errors
    /// What the file system said.
    pub fn observe(&self, observer: Observer) -> io::Result<()> {
        let path = self.path().ok_or(io::ErrorKind::NotFound)?;
        match digest_tree(&path, WalkPolicy::Own, Some(observer)) {
            Ok(_) => Ok(()),
            Err(Stopped::Walk(error)) => Err(io::Error::other(error)),
            Err(Stopped::Visitor(error)) => Err(error),
        }
    }

    /// Where it is for now; always there.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        Some(self.staging.get()?.path())
    }

    /// See [`Staging::losses`]; always there.
    pub(crate) fn losses(&self) -> Option<u64> {
        Some(self.staging.get()?.losses())
    }

    /// Directory and name in it; always there.
    pub(crate) fn place(&self) -> Option<(&OwnedFd, &str)> {
        let staging = self.staging.get()?;
        Some((staging.dir(), staging.name()))
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Removes what is still in the staging area, on this thread.
    pub(crate) fn discard(self) {
        drop(self.staging.into_inner());
    }
}
