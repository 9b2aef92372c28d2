use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firn_nix::NarHash;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::doubt::Doubt;
use crate::error::ContentError;
use crate::list::List;
use crate::remove::remove_tree;
use crate::session::{DIRECTORY, Session, own_directory};
use crate::sync::GroupSync;
use crate::verify::hash_tree;
use crate::walk::WalkPolicy;

/// The contents in one directory of this machine. Clones are the same store; several processes may have it open.
#[derive(Clone, Debug)]
pub struct ContentStore {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) dir: PathBuf,
    pub(crate) trees: OwnedFd,
    pub(crate) session: Session,
    pub(crate) sync: GroupSync,
    pub(crate) doubt: Doubt,
}

impl Inner {
    /// Place of a content below `trees/`.
    pub(crate) fn place(hash: &NarHash) -> String {
        let hex = hash.hex();
        format!("{}/{hex}", hex.get(..2).unwrap_or_default())
    }

    /// Makes sure that a published tree is canonical at its root, which a crash right after the renaming can leave
    /// undone.
    pub(crate) fn seal(&self, place: &str) -> Result<(), Errno> {
        let dir = match rustix::fs::openat(&self.trees, place, DIRECTORY, Mode::empty()) {
            // A file or link; those are complete when they are renamed.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            opened => opened?,
        };
        if rustix::fs::fstat(&dir)?.st_mode & 0o7777 != 0o555 {
            rustix::fs::fchmod(&dir, crate::tree_writer::READ_ONLY_DIRECTORY)?;
        }
        Ok(())
    }

    /// Takes a content out of the store and deletes it.
    pub(crate) fn remove(&self, hash: &NarHash) -> Result<(), ContentError> {
        let error = || ContentError::at(self.dir.join("trees").join(Self::place(hash)));
        let name = match self.take_out(hash) {
            Err(Errno::NOENT) => return Err(ContentError::Missing(*hash)),
            taken => taken.map_err(error())?,
        };
        remove_tree(self.session.dir(), name.as_bytes()).map_err(error())
    }

    /// Takes a content out of the store; the name that it has in the staging area then.
    pub(crate) fn take_out(&self, hash: &NarHash) -> Result<String, Errno> {
        let place = Self::place(hash);
        match rustix::fs::openat(&self.trees, place.as_str(), DIRECTORY, Mode::empty()) {
            // An ordinary user cannot move a directory that is not writable.
            Ok(dir) => rustix::fs::fchmod(&dir, Mode::RWXU)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno),
        }
        let name = self.session.name();
        rustix::fs::renameat(&self.trees, place.as_str(), self.session.dir(), name.as_str())?;
        self.session.forget_unsynced(|noted, _| noted == hash);
        Ok(name)
    }

    /// Takes over what crashed processes left: deletes what they were writing, and checks what they had published but
    /// perhaps not brought to the disk.
    fn recover(&self) -> Result<(), ContentError> {
        let abandoned = self.session.abandoned()?;
        let mut checked = false;
        for hash in abandoned
            .iter()
            .map(crate::session::Abandoned::unsynced)
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
        {
            if !self.contains(&hash) {
                continue;
            }
            self.seal(&Self::place(&hash))
                .map_err(ContentError::at(&self.dir))?;
            if hash_tree(&self.tree(&hash), WalkPolicy::Canonical).is_ok_and(|found| found == hash) {
                checked = true;
            } else {
                tracing::warn!(%hash, "content did not survive a crash; removed");
                self.remove(&hash)?;
            }
        }
        if checked {
            rustix::fs::syncfs(&self.trees).map_err(ContentError::at(&self.dir))?;
        }
        for session in &abandoned {
            self.session.sweep(session)?;
        }
        Ok(())
    }

    pub(crate) fn contains(&self, hash: &NarHash) -> bool {
        rustix::fs::statat(&self.trees, Self::place(hash), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    pub(crate) fn tree(&self, hash: &NarHash) -> PathBuf {
        self.trees().join(Self::place(hash))
    }

    fn trees(&self) -> PathBuf {
        self.dir.join("trees")
    }
}

impl ContentStore {
    /// Opens the store in `dir`, which is created if need be, for its owner only. Deletes what a crashed process left in
    /// the staging area and checks what it had published last. Blocks.
    ///
    /// # Errors
    /// [`ContentError::Io`] and the like with the directory that cannot be used.
    pub fn open(dir: &Path) -> Result<Self, ContentError> {
        let error = || ContentError::at(dir);
        match rustix::fs::mkdirat(CWD, dir, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(error()(errno)),
        }
        // The path is given out for mounting, so it must not depend on the working directory.
        let dir = std::fs::canonicalize(dir).map_err(|source| ContentError::Io {
            path: dir.to_owned(),
            source,
        })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::openat(CWD, &dir, flags, Mode::empty()).map_err(error())?;
        let trees = own_directory(&top, "trees").map_err(error())?;
        let session = Session::begin(own_directory(&top, "staging").map_err(error())?)?;
        let inner = Inner {
            dir,
            sync: GroupSync::default(),
            doubt: Doubt::default(),
            trees,
            session,
        };
        inner.recover()?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Whether the content is in the store.
    #[must_use]
    pub fn contains(&self, hash: &NarHash) -> bool {
        self.inner.contains(hash)
    }

    /// Where the content's tree is, or would be: an absolute path, for mounting. Its root may be a file or a symbolic
    /// link.
    #[must_use]
    pub fn tree(&self, hash: &NarHash) -> PathBuf {
        self.inner.tree(hash)
    }

    /// The directory that all trees are in.
    #[must_use]
    pub fn trees(&self) -> PathBuf {
        self.inner.trees()
    }

    /// Every content in the store, in no particular order. Blocks.
    pub fn list(&self) -> impl Iterator<Item = Result<NarHash, ContentError>> + use<> {
        List::new(Arc::clone(&self.inner))
    }

    /// Deletes a content. Blocks, for as long as deleting its files takes. The caller sees to it that nobody publishes
    /// or mounts the same content meanwhile; who is reading it keeps what is open and may get an error.
    ///
    /// # Errors
    /// [`ContentError::Missing`], or what the file system said.
    pub fn remove(&self, hash: &NarHash) -> Result<(), ContentError> {
        self.inner.remove(hash)
    }
}
