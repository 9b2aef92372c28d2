//! Removing what a builder left behind: trees of any depth, directories without permissions, names of any bytes.
//!
//! A tree that is deeper than there are file descriptors, or than a path can be long, defeats a recursive walk. So each directory below
//! another one is first moved up to the top, and depth never accumulates. Nothing may run in the tree any more.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::path::Arg;

/// Removes the directory `dir` and everything in it; nothing to do when it is absent.
///
/// # Errors
/// The first failure; what was removed before it is gone.
pub(crate) fn remove_tree(dir: &Path) -> io::Result<()> {
    let top = match open_directory(CWD, dir) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let mut moved = 0;
    loop {
        let entries = entries(top.as_fd())?;
        if entries.is_empty() {
            return std::fs::remove_dir(dir);
        }
        for (name, is_directory) in entries {
            if is_directory {
                remove_level(top.as_fd(), &name, &mut moved)?;
            } else {
                rustix::fs::unlinkat(&top, &name, AtFlags::empty())?;
            }
        }
    }
}

/// Removes one directory; what is a directory in it ends up in `top`.
fn remove_level(top: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> rustix::io::Result<()> {
    rustix::fs::chmodat(top, name, Mode::RWXU, AtFlags::empty())?;
    let dir = open_directory(top, name)?;
    for (name, is_directory) in entries(dir.as_fd())? {
        if is_directory {
            // A directory that changes its parent has to be writable itself.
            rustix::fs::chmodat(&dir, &name, Mode::RWXU, AtFlags::empty())?;
            move_up(dir.as_fd(), &name, top, moved)?;
        } else {
            rustix::fs::unlinkat(&dir, &name, AtFlags::empty())?;
        }
    }
    rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR)
}

fn move_up(
    from: BorrowedFd<'_>,
    name: &CStr,
    top: BorrowedFd<'_>,
    moved: &mut u64,
) -> rustix::io::Result<()> {
    loop {
        let to = format!(".removing-{moved}");
        *moved += 1;
        match rustix::fs::renameat_with(from, name, top, &to, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            result => return result,
        }
    }
}

fn open_directory(at: BorrowedFd<'_>, name: impl Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// Names, and whether each is a directory.
fn entries(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<(CString, bool)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            known => known,
        };
        found.push((name.to_owned(), kind == FileType::Directory));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn deep_and_locked_trees_go() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("build");
        std::fs::create_dir(&dir).unwrap();
        std::fs::create_dir(dir.join(".removing-0")).unwrap();
        std::fs::write(dir.join(".removing-0/file"), "x").unwrap();
        std::os::unix::fs::symlink(temp.path(), dir.join("link")).unwrap();
        let mut at = open_directory(CWD, &dir).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, "a-rather-long-name", Mode::RWXU).unwrap();
            at = open_directory(at.as_fd(), "a-rather-long-name").unwrap();
        }
        rustix::fs::mkdirat(&at, "locked", Mode::RWXU).unwrap();
        let locked = dir.join("locked");
        std::fs::create_dir(&locked).unwrap();
        std::fs::write(locked.join("file"), "x").unwrap();
        std::fs::set_permissions(&locked, PermissionsExt::from_mode(0)).unwrap();
        drop(at);
        remove_tree(&dir).unwrap();
        assert!(!dir.exists() && temp.path().exists());
        remove_tree(&dir).unwrap();
    }
}
