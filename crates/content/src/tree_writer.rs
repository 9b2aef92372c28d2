//! Writing one tree into the staging area.

use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use firn_nix::nar::NarVisitor;
use rustix::fs::{Advice, AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{ContentError, tree_path};
use crate::held::Held;
use crate::session::DIRECTORY;
use crate::staged::Staging;

/// The modification time of everything in the store, as in Nix.
pub(crate) const TIMES: Timestamps = {
    let second_one = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: second_one,
        last_modification: second_one,
    }
};

pub(crate) const READ_ONLY_DIRECTORY: Mode = Mode::from_raw_mode(0o555);

/// Bytes of a file after which its write-back begins.
const WRITE_BACK: u64 = 8 << 20;

/// What is at the root of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootKind {
    Directory,
    Other,
}

/// What a tree turned out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) root: RootKind,
    /// Files, directories and links.
    pub(crate) nodes: u64,
}

/// Writes the tree whose events it is given, with the store's modes and times. A directory at the root stays writable,
/// because an ordinary user cannot move a read-only directory.
#[derive(Debug)]
pub(crate) struct TreeWriter {
    staging: Arc<Staging>,
    /// Directories on the way there.
    open: Held,
    /// Name of the node to come in the innermost open directory.
    name: Vec<u8>,
    /// Names on the way there, joined with `/`, and where each begins.
    path: Vec<u8>,
    starts: Vec<usize>,
    file: Option<OpenFile>,
    shape: Shape,
}

#[derive(Debug)]
struct OpenFile {
    file: OwnedFd,
    mode: Mode,
    written: u64,
    write_back_begun: u64,
}

impl TreeWriter {
    pub(crate) fn new(staging: Arc<Staging>) -> Self {
        Self {
            name: staging.name().as_bytes().to_vec(),
            staging,
            open: Held::default(),
            path: Vec::new(),
            starts: Vec::new(),
            file: None,
            shape: Shape {
                root: RootKind::Other,
                nodes: 0,
            },
        }
    }

    /// What was written so far.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    fn dir(&self) -> BorrowedFd<'_> {
        self.open
            .last()
            .map_or_else(|| self.staging.dir().as_fd(), OwnedFd::as_fd)
    }

    fn error(&self) -> impl FnOnce(Errno) -> ContentError {
        ContentError::at(tree_path(&self.path))
    }
}

impl NarVisitor for TreeWriter {
    type Error = ContentError;

    fn directory(&mut self) -> Result<(), ContentError> {
        rustix::fs::mkdirat(self.dir(), &self.name, Mode::RWXU).map_err(self.error())?;
        let inside =
            rustix::fs::openat(self.dir(), &self.name, DIRECTORY, Mode::empty()).map_err(self.error())?;
        if self.open.is_empty() {
            self.shape.root = RootKind::Directory;
        }
        self.shape.nodes += 1;
        self.open.push(inside);
        self.starts.push(self.path.len());
        Ok(())
    }

    fn entry(&mut self, name: &[u8]) -> Result<(), ContentError> {
        self.name.clear();
        self.name.extend_from_slice(name);
        let start = self.starts.last().copied().unwrap_or_default();
        self.path.truncate(start);
        if start > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        Ok(())
    }

    fn end_directory(&mut self) -> Result<(), ContentError> {
        self.path.truncate(self.starts.pop().unwrap_or_default());
        if let Some(dir) = self.open.pop().map_err(self.error())? {
            if !self.open.is_empty() {
                rustix::fs::fchmod(&dir, READ_ONLY_DIRECTORY).map_err(self.error())?;
            }
            rustix::fs::futimens(&dir, &TIMES).map_err(self.error())?;
        }
        Ok(())
    }

    fn regular(&mut self, executable: bool, _size: u64) -> Result<(), ContentError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.dir(), &self.name, flags, Mode::RUSR).map_err(self.error())?;
        self.shape.nodes += 1;
        self.file = Some(OpenFile {
            file,
            mode: Mode::from_raw_mode(if executable { 0o555 } else { 0o444 }),
            written: 0,
            write_back_begun: 0,
        });
        Ok(())
    }

    fn data(&mut self, mut chunk: &[u8]) -> Result<(), ContentError> {
        let Some(mut open) = self.file.take() else {
            return Ok(());
        };
        while !chunk.is_empty() {
            match rustix::io::write(&open.file, chunk) {
                Ok(0) => return Err(self.error()(Errno::IO)),
                Ok(written) => {
                    open.written += written as u64;
                    chunk = chunk.get(written..).unwrap_or_default();
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error()(errno)),
            }
        }
        open.begin_write_back();
        self.file = Some(open);
        Ok(())
    }

    fn end_regular(&mut self) -> Result<(), ContentError> {
        if let Some(open) = self.file.take() {
            rustix::fs::fchmod(&open.file, open.mode).map_err(self.error())?;
            rustix::fs::futimens(&open.file, &TIMES).map_err(self.error())?;
        }
        Ok(())
    }

    fn symlink(&mut self, target: &[u8]) -> Result<(), ContentError> {
        rustix::fs::symlinkat(target, self.dir(), &self.name).map_err(self.error())?;
        self.shape.nodes += 1;
        rustix::fs::utimensat(self.dir(), &self.name, &TIMES, AtFlags::SYMLINK_NOFOLLOW).map_err(self.error())
    }
}

impl OpenFile {
    /// Starts writing a large file to the disk while the rest is still coming, so that the sync at the end is short.
    ///
    /// This advice is the way to sync_file_range without `unsafe`: Linux begins the write-back of the range and drops
    /// only pages that are clean already, so nearly all stay cached for the build that will want them.
    fn begin_write_back(&mut self) {
        let range = self.written - self.write_back_begun;
        if range >= WRITE_BACK {
            let _ = rustix::fs::fadvise(
                &self.file,
                self.write_back_begun,
                NonZeroU64::new(range),
                Advice::DontNeed,
            );
            self.write_back_begun = self.written;
        }
    }
}
