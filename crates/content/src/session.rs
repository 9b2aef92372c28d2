//! The part of the staging area that belongs to one opened store.
//!
//! `staging/<session>/` is locked with flock while its store is open. It holds what is being written, and in
//! `unsynced/` one name per published content that may not be on disk yet. Whoever opens a store takes over the
//! sessions that nobody holds: after a crash their leftovers go, and what they had published is checked, because a
//! tree can have its name on disk before its data.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use firn_nix::NarHash;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{ContentError, tree_path};
use crate::remove::remove_tree;
use crate::walk::Listing;

pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

const UNSYNCED: &str = "unsynced";
/// The file that all notes are hard links of, since creating and deleting a file for each is many times slower.
const NOTE: &str = "note";

/// Opens `name` in `dir`, creating it as a directory of our own if need be.
pub(crate) fn own_directory(dir: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()),
        Err(errno) => Err(errno),
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    /// `staging/`.
    staging: OwnedFd,
    name: String,
    /// `staging/<session>/`, locked.
    dir: OwnedFd,
    unsynced: OwnedFd,
    next: AtomicU64,
    notes: Mutex<Notes>,
}

/// The files in `unsynced/`.
#[derive(Debug, Default)]
struct Notes {
    count: u64,
    /// With the count when each was made.
    hashes: BTreeMap<NarHash, u64>,
}

impl Session {
    /// Begins a session.
    pub(crate) fn begin(staging: OwnedFd) -> Result<Self, ContentError> {
        for n in 0u64.. {
            let name = format!("{}-{n}", std::process::id());
            let error = || ContentError::at(PathBuf::from(name.clone()));
            match rustix::fs::mkdirat(&staging, name.as_str(), Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(error()(errno)),
            }
            if let Some(dir) = lock(&staging, name.as_bytes()).map_err(error())? {
                let unsynced = own_directory(&dir, UNSYNCED).map_err(error())?;
                return Ok(Self {
                    staging,
                    name,
                    dir,
                    unsynced,
                    next: AtomicU64::new(0),
                    notes: Mutex::default(),
                });
            }
        }
        Err(ContentError::Interrupted)
    }

    /// Name of [`Session::dir`] in `staging/`.
    pub(crate) fn own_name(&self) -> &str {
        &self.name
    }

    /// Where staged trees are written.
    pub(crate) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// A new name in [`Session::dir`].
    pub(crate) fn name(&self) -> String {
        self.next.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// Notes that a content is about to be published. Journalling file systems keep the order of such operations, so
    /// that after a power failure the note is there if the published name is.
    pub(crate) fn note_unsynced(&self, hash: &NarHash) -> Result<(), ContentError> {
        let mut notes = self.notes();
        let link = || rustix::fs::linkat(&self.unsynced, NOTE, &self.unsynced, hash.hex(), AtFlags::empty());
        let linked = match link() {
            // The first note, or the file has as many links as it can have.
            Err(Errno::NOENT | Errno::MLINK) => make_note(&self.unsynced).and_then(|()| link()),
            linked => linked,
        };
        match linked {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(ContentError::at(UNSYNCED)(errno)),
        }
        notes.count += 1;
        let count = notes.count;
        notes.hashes.insert(*hash, count);
        Ok(())
    }

    /// How many notes were made so far.
    pub(crate) fn noted(&self) -> u64 {
        self.notes().count
    }

    /// Takes back the notes that `which` selects by content and by how many had been made with it.
    pub(crate) fn forget_unsynced(&self, which: impl Fn(&NarHash, u64) -> bool) {
        self.notes().hashes.retain(|hash, count| {
            let forget = which(hash, *count);
            if forget {
                // A note that stays costs a check at the next start, no more.
                let _ = rustix::fs::unlinkat(&self.unsynced, hash.hex(), AtFlags::empty());
            }
            !forget
        });
    }

    /// What is published and perhaps not on the disk.
    pub(crate) fn unsynced(&self) -> Vec<NarHash> {
        self.notes().hashes.keys().copied().collect()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sessions whose owner is gone, each locked as long as it is held.
    pub(crate) fn abandoned(&self) -> Result<Vec<Abandoned>, ContentError> {
        let error = || ContentError::at("staging");
        let staging = rustix::fs::openat(&self.staging, ".", DIRECTORY, Mode::empty()).map_err(error())?;
        let mut listing = Listing::some(&staging, u64::MAX).map_err(error())?;
        let mut found = Vec::new();
        while let Some((name, _)) = listing.next() {
            if name == self.name.as_bytes() {
                continue;
            }
            match lock(&staging, name) {
                Ok(Some(dir)) => found.push(Abandoned {
                    name: name.to_vec(),
                    dir,
                }),
                Ok(None) => {}
                Err(Errno::NOTDIR) => {
                    rustix::fs::unlinkat(&staging, name, AtFlags::empty()).map_err(error())?;
                }
                Err(errno) => return Err(ContentError::at(tree_path(name))(errno)),
            }
        }
        Ok(found)
    }

    /// Deletes an abandoned session with all that is in it.
    pub(crate) fn sweep(&self, session: &Abandoned) -> Result<(), ContentError> {
        remove_tree(&self.staging, &session.name).map_err(ContentError::at(tree_path(&session.name)))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(&self.unsynced, NOTE, AtFlags::empty());
        // Not empty means unsynced contents: the session is left as if crashed, and they are checked at the next start.
        if rustix::fs::unlinkat(&self.dir, UNSYNCED, AtFlags::REMOVEDIR).is_ok() {
            let _ = rustix::fs::unlinkat(&self.staging, self.name.as_str(), AtFlags::REMOVEDIR);
        }
    }
}

fn make_note(dir: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, NOTE, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::openat(dir, NOTE, flags, Mode::RUSR).map(drop)
}

/// A session whose owner is gone.
pub(crate) struct Abandoned {
    name: Vec<u8>,
    dir: OwnedFd,
}

impl Abandoned {
    /// The contents that it had published and perhaps not synced.
    pub(crate) fn unsynced(&self) -> Result<Vec<NarHash>, ContentError> {
        let dir = match rustix::fs::openat(&self.dir, UNSYNCED, DIRECTORY, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(ContentError::at(UNSYNCED)(errno)),
        };
        let mut listing = Listing::some(&dir, u64::MAX).map_err(ContentError::at(UNSYNCED))?;
        let mut hashes = Vec::new();
        while let Some((name, _)) = listing.next() {
            let hash = std::str::from_utf8(name)
                .ok()
                .and_then(|name| NarHash::parse(name).ok());
            hashes.extend(hash);
        }
        Ok(hashes)
    }
}

/// Opens and locks a session; `None` when somebody holds it or it is gone.
fn lock(staging: &OwnedFd, name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    let dir = match rustix::fs::openat(staging, name, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        result => result?,
    }
    // Between opening and locking, another process may have swept it.
    let ours = rustix::fs::fstat(&dir)?;
    match rustix::fs::statat(staging, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => Ok(Some(dir)),
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
