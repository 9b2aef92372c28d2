//! Opening one node and checking it against the policy.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, ResolveFlags, Stat};
use rustix::io::Errno;

use super::policy::WalkPolicy;
use super::{WalkError, WalkProblem, Walker};

/// Longest symbolic link that Linux makes.
const LONGEST_TARGET: usize = 4095;

impl Walker {
    /// The type of a node whose directory entry does not say it.
    pub(super) fn kind_of(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<FileType, WalkError> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.problem(WalkProblem::Io(errno)))?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    /// The target of a symbolic link.
    pub(super) fn link(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>, WalkError> {
        let io = |errno| self.problem(WalkProblem::Io(errno));
        if self.policy.looks_at_links() {
            let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
            self.check(&stat)?;
        }
        let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(io)?;
        if target.is_empty() || target.as_bytes().len() > LONGEST_TARGET {
            return Err(self.problem(WalkProblem::Target));
        }
        Ok(target.into_bytes())
    }

    /// A directory or regular file, which must still be what its directory entry said.
    pub(super) fn open(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        kind: FileType,
    ) -> Result<(OwnedFd, Stat), WalkError> {
        let io = |errno| self.problem(WalkProblem::Io(errno));
        let mut flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        if kind == FileType::Directory {
            flags |= OFlags::DIRECTORY;
        }
        let opened = match self.open_with(dir, name, flags) {
            Err(Errno::ACCESS) if self.policy.is_foreign() => {
                self.make_readable(dir, name)?;
                self.open_with(dir, name, flags)
            }
            opened => opened,
        };
        let file = match opened {
            Ok(file) => file,
            Err(Errno::LOOP | Errno::NOTDIR | Errno::NOENT) if !self.path.is_empty() => {
                return Err(self.problem(WalkProblem::Changed));
            }
            Err(Errno::XDEV) => return Err(self.problem(WalkProblem::Mount)),
            Err(errno) => return Err(io(errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(io)?;
        if FileType::from_raw_mode(stat.st_mode) != kind {
            return Err(self.problem(WalkProblem::Changed));
        }
        self.check(&stat)?;
        Ok((file, stat))
    }

    fn open_with(&self, dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        if self.policy.is_foreign() && !self.path.is_empty() {
            let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            match rustix::fs::openat2(dir, name, flags, Mode::empty(), within) {
                // Kernels and sandboxes without openat2.
                Err(Errno::NOSYS | Errno::PERM) => {}
                result => return result,
            }
        } else {
            // A read must not change what a later build sees of a stored file.
            match rustix::fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
                // Only the owner may ask for this.
                Err(Errno::PERM) => {}
                result => return result,
            }
        }
        rustix::fs::openat(dir, name, flags, Mode::empty())
    }

    /// The directory of the innermost level, which is always held.
    pub(super) fn held<'a>(&self, dir: Option<&'a OwnedFd>) -> Result<&'a OwnedFd, WalkError> {
        dir.ok_or_else(|| self.problem(WalkProblem::Io(Errno::BADF)))
    }

    /// The directory that `dir` is in, which must be the one that it was found in.
    pub(super) fn above(&self, dir: &OwnedFd, before: &Stat) -> Result<OwnedFd, WalkError> {
        let io = |errno| self.problem(WalkProblem::Io(errno));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = match rustix::fs::openat(dir, "..", flags | OFlags::NOATIME, Mode::empty()) {
            // Only the owner may ask for this.
            Err(Errno::PERM) => rustix::fs::openat(dir, "..", flags, Mode::empty()),
            opened => opened,
        };
        let above = above.map_err(io)?;
        let stat = rustix::fs::fstat(&above).map_err(io)?;
        if (stat.st_dev, stat.st_ino) != (before.st_dev, before.st_ino) {
            return Err(self.problem(WalkProblem::Changed));
        }
        Ok(above)
    }

    /// Gives ourselves the right to read a node that its builder left without it, as Nix does by canonicalising modes
    /// before it dumps. Only possible, and only needed, when the builder ran as the user we are.
    fn make_readable(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), WalkError> {
        let io = |errno| self.problem(WalkProblem::Io(errno));
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(io)?;
        let stat = rustix::fs::fstat(&node).map_err(io)?;
        let more = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => 0o500,
            FileType::RegularFile => 0o400,
            _ => return Err(self.problem(WalkProblem::Changed)),
        };
        self.check(&stat)?;
        // A descriptor from O_PATH cannot be given to fchmod; its magic link can be followed to just this node.
        let magic = format!("/proc/self/fd/{}", node.as_raw_fd());
        let mode = Mode::from_raw_mode((stat.st_mode & 0o777) | more);
        rustix::fs::chmod(magic, mode).map_err(io)
    }

    fn check(&self, stat: &Stat) -> Result<(), WalkError> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mode: RawMode = stat.st_mode & 0o7777;
        let problem = match self.policy {
            WalkPolicy::Own => None,
            WalkPolicy::Canonical => canonical(stat, kind, mode),
            WalkPolicy::BuildOutput { owner } => {
                let root = self.path.is_empty();
                if stat.st_uid != owner {
                    Some(WalkProblem::Owner {
                        expected: owner,
                        found: stat.st_uid,
                    })
                } else if root && kind != FileType::Symlink && mode & 0o022 != 0 {
                    Some(WalkProblem::Writable(mode))
                } else {
                    None
                }
            }
        };
        problem.map_or(Ok(()), |problem| Err(self.problem(problem)))
    }

    /// Whether a file or directory is as it was when it was opened.
    pub(super) fn unchanged(&self, file: BorrowedFd<'_>, before: &Stat) -> Result<(), WalkError> {
        let after = rustix::fs::fstat(file).map_err(|errno| self.problem(WalkProblem::Io(errno)))?;
        let times = |s: &Stat| (s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
        if after.st_size != before.st_size || times(&after) != times(before) {
            return Err(self.problem(WalkProblem::Changed));
        }
        Ok(())
    }
}

fn canonical(stat: &Stat, kind: FileType, mode: RawMode) -> Option<WalkProblem> {
    let wrong = match kind {
        FileType::Directory if mode != 0o555 => "mode",
        FileType::RegularFile if mode != 0o444 && mode != 0o555 => "mode",
        FileType::RegularFile if stat.st_nlink != 1 => "link count",
        _ if stat.st_mtime != 1 => "modification time",
        _ => return None,
    };
    Some(WalkProblem::NotCanonical(wrong))
}
