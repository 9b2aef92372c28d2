//! Deleting a tree: whatever its depth, and although its directories are read-only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::walk::Listing;

/// Directories held open at a time; deeper ones are reached by going down and up one step at a time.
const HELD: u32 = 32;
/// Names listed at a time.
const BATCH: u64 = 100_000;

/// Deletes `name` in `dir`: a file, link, or directory with all that is in it. Not there is fine.
///
/// It must belong to this process's user, and nobody else may be changing it, except by deleting too. Needs few descriptors and little memory
/// however deep or wide the tree is, where `std::fs::remove_dir_all` runs out of descriptors.
///
/// # Errors
/// What the file system said; part of the tree may be gone.
pub fn remove_tree(dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    remove_within(dir.as_fd(), name, HELD)
}

fn remove_within(dir: BorrowedFd<'_>, name: &[u8], held: u32) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    if remove_empty(dir, name)? {
        return Ok(());
    }
    let inside = match open_writable(dir, name) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    match held.checked_sub(1) {
        Some(held) => clear(&inside, held)?,
        None => clear_stepwise(inside)?,
    }
    if remove_empty(dir, name)? {
        Ok(())
    } else {
        Err(Errno::NOTEMPTY)
    }
}

/// Empties a directory, holding the ones below open.
fn clear(dir: &OwnedFd, held: u32) -> Result<(), Errno> {
    each_entry(dir, |name, kind| {
        if kind == FileType::Directory || kind == FileType::Unknown {
            remove_within(dir.as_fd(), name, held)
        } else {
            remove_leaf(dir, name)
        }
        .map(|()| true)
    })
}

/// Empties a directory with one descriptor: into the first directory that is not empty, and back up through `..` once
/// it is. On the way back everything before it is gone, so that the place need not be remembered.
fn clear_stepwise(mut dir: OwnedFd) -> Result<(), Errno> {
    let mut depth = 0u64;
    loop {
        let mut below = None;
        each_entry(&dir, |name, kind| {
            let leaf = !matches!(kind, FileType::Directory | FileType::Unknown);
            if leaf {
                return remove_leaf(&dir, name).map(|()| true);
            }
            if kind == FileType::Unknown && rustix::fs::unlinkat(&dir, name, AtFlags::empty()).is_ok() {
                return Ok(true);
            }
            if remove_empty(dir.as_fd(), name)? {
                return Ok(true);
            }
            below = Some(open_writable(dir.as_fd(), name)?);
            Ok(false)
        })?;
        dir = match below {
            Some(below) => {
                depth += 1;
                below
            }
            None if depth == 0 => return Ok(()),
            None => {
                depth -= 1;
                rustix::fs::openat(&dir, "..", DIRECTORY, Mode::empty())?
            }
        };
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Calls `each` for every entry, listing again until nothing is left, or until it returns false.
fn each_entry(
    dir: &OwnedFd,
    mut each: impl FnMut(&[u8], FileType) -> Result<bool, Errno>,
) -> Result<(), Errno> {
    loop {
        rustix::fs::seek(dir, rustix::fs::SeekFrom::Start(0))?;
        let mut listing = match Listing::some(dir, BATCH) {
            // The directory itself is gone.
            Err(Errno::NOENT) => return Ok(()),
            listing => listing?,
        };
        if listing.len() == 0 {
            return Ok(());
        }
        while let Some((name, kind)) = listing.next() {
            if !each(name, kind)? {
                return Ok(());
            }
        }
    }
}

fn remove_leaf(dir: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Removes a directory if it is empty; whether it is gone.
fn remove_empty(dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn open_writable(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let open = || rustix::fs::openat(dir, name, DIRECTORY, Mode::empty());
    let inside = match open() {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            open()?
        }
        opened => opened?,
    };
    if rustix::fs::fstat(&inside)?.st_mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&inside, Mode::RWXU)?;
    }
    Ok(inside)
}
