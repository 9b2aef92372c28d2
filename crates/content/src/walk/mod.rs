//! Reading a tree from disk without trusting whoever made it.
//!
//! Everything is opened relative to the directory it was listed in and never through a symbolic link; what is not a
//! regular file, directory or symbolic link is refused before it is opened. Depth, number of files and bytes are
//! bounded before they cost anything; how many directories are held open does not grow with the depth.

mod listing;
mod open;
mod policy;
mod problem;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use firn_nix::nar::NarVisitor;
use rustix::fs::{CWD, FileType, Stat};
use rustix::io::Errno;

use crate::held::HELD;

pub(crate) use listing::Listing;
pub use policy::{WalkLimits, WalkPolicy};
pub use problem::{Stopped, WalkError, WalkProblem};

/// Bytes read from a file at a time.
const CHUNK: usize = 256 * 1024;

/// Tells `visitor` what is at `path`, in the order of a NAR. `path` itself is not followed when it is a symbolic link;
/// the directories that lead to it are the caller's.
///
/// # Errors
/// [`Stopped::Walk`] with the place inside the tree, or what the visitor returned.
pub fn walk<V: NarVisitor>(
    path: &Path,
    policy: WalkPolicy,
    limits: WalkLimits,
    visitor: &mut V,
) -> Result<(), Stopped<V::Error>> {
    let mut walker = Walker::new(path, policy, limits);
    while walker.step(visitor)? {}
    Ok(())
}

/// A walk that can be interrupted between two pieces of data.
#[derive(Debug)]
pub(crate) struct Walker {
    policy: WalkPolicy,
    limits: WalkLimits,
    state: State,
    levels: Vec<Level>,
    /// Names on the way to the current node, joined with `/`.
    path: Vec<u8>,
    entries: u64,
    bytes: u64,
    chunk: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Root(Vec<u8>),
    /// In the innermost level.
    Directory,
    File(OpenFile),
    Done,
}

#[derive(Debug)]
struct Level {
    /// `None` while it is further out than [`HELD`] levels.
    dir: Option<OwnedFd>,
    stat: Stat,
    listing: Listing,
    /// Length of the directory's own path.
    path: usize,
}

#[derive(Debug)]
struct OpenFile {
    file: OwnedFd,
    stat: Stat,
    left: u64,
}

impl Walker {
    pub(crate) fn new(path: &Path, policy: WalkPolicy, limits: WalkLimits) -> Self {
        Self {
            policy,
            limits,
            state: State::Root(path.as_os_str().as_bytes().to_vec()),
            levels: Vec::new(),
            path: Vec::new(),
            entries: 1,
            bytes: 0,
            chunk: Vec::new(),
        }
    }

    /// Goes on to the next event or so; false when the tree is complete.
    pub(crate) fn step<V: NarVisitor>(&mut self, visitor: &mut V) -> Result<bool, Stopped<V::Error>> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Root(name) => {
                let kind = self.kind_of(CWD, &name)?;
                self.state = self.node(CWD, &name, kind, visitor)?;
            }
            State::Directory => self.next_entry(visitor)?,
            State::File(file) => self.state = self.contents(file, visitor)?,
            State::Done => {}
        }
        Ok(!matches!(self.state, State::Done))
    }

    fn next_entry<V: NarVisitor>(&mut self, visitor: &mut V) -> Result<(), Stopped<V::Error>> {
        let Some(mut level) = self.levels.pop() else {
            return Ok(());
        };
        self.path.truncate(level.path);
        let Some((name, kind)) = level.listing.next() else {
            let dir = self.held(level.dir.as_ref())?;
            if self.policy.is_foreign() {
                self.unchanged(dir.as_fd(), &level.stat)?;
            }
            let above = match self.levels.last() {
                Some(above) if above.dir.is_none() => Some(self.above(dir, &above.stat)?),
                _ => None,
            };
            if let (Some(level), Some(above)) = (self.levels.last_mut(), above) {
                level.dir = Some(above);
            }
            visitor.end_directory().map_err(Stopped::Visitor)?;
            self.state = self.outside();
            return Ok(());
        };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        if name.len() > 255 {
            return Err(self.error(WalkProblem::Name));
        }
        visitor.entry(name).map_err(Stopped::Visitor)?;
        let dir = self.held(level.dir.as_ref())?;
        let kind = match kind {
            FileType::Unknown => self.kind_of(dir.as_fd(), name)?,
            kind => kind,
        };
        // The level goes back under the one that a subdirectory adds.
        let below = self.levels.len();
        let state = self.node(dir, name, kind, visitor)?;
        self.levels.insert(below, level);
        let outside = self.levels.len().checked_sub(HELD + 1);
        if let Some(far) = outside.and_then(|at| self.levels.get_mut(at)) {
            far.dir = None;
        }
        self.state = match state {
            State::Done => State::Directory,
            state => state,
        };
        Ok(())
    }

    /// One node: a link is done at once, a directory adds a level, a file is to be read.
    fn node<V: NarVisitor>(
        &mut self,
        dir: impl AsFd,
        name: &[u8],
        kind: FileType,
        visitor: &mut V,
    ) -> Result<State, Stopped<V::Error>> {
        let depth = if self.path.is_empty() {
            0
        } else {
            self.levels.len() + 1
        };
        if depth >= self.limits.depth {
            return Err(self.error(WalkProblem::Depth(self.limits.depth)));
        }
        match kind {
            FileType::Symlink => {
                let target = self.link(dir.as_fd(), name)?;
                visitor.symlink(&target).map_err(Stopped::Visitor)?;
                Ok(State::Done)
            }
            FileType::Directory => {
                let (dir, stat) = self.open(dir.as_fd(), name, kind)?;
                let room = self.limits.entries.saturating_sub(self.entries);
                let listing = Listing::read(&dir, room)
                    .map_err(|errno| self.error(WalkProblem::Io(errno)))?
                    .ok_or_else(|| self.error(WalkProblem::Entries(self.limits.entries)))?;
                self.entries += listing.len();
                visitor.directory().map_err(Stopped::Visitor)?;
                let path = self.path.len();
                self.levels.push(Level {
                    dir: Some(dir),
                    stat,
                    listing,
                    path,
                });
                Ok(State::Directory)
            }
            FileType::RegularFile => {
                let (file, stat) = self.open(dir.as_fd(), name, kind)?;
                let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                self.bytes = self.bytes.saturating_add(size);
                if self.bytes > self.limits.bytes {
                    return Err(self.error(WalkProblem::Bytes(self.limits.bytes)));
                }
                let executable = stat.st_mode & 0o100 != 0;
                visitor.regular(executable, size).map_err(Stopped::Visitor)?;
                let file = OpenFile {
                    file,
                    stat,
                    left: size,
                };
                if size <= CHUNK as u64 {
                    return self.contents(file, visitor);
                }
                Ok(State::File(file))
            }
            other => Err(self.error(WalkProblem::FileType(problem::kind_name(other)))),
        }
    }

    /// Reads one chunk of a file, or ends it.
    fn contents<V: NarVisitor>(
        &mut self,
        mut open: OpenFile,
        visitor: &mut V,
    ) -> Result<State, Stopped<V::Error>> {
        let want = usize::try_from(open.left).unwrap_or(CHUNK).min(CHUNK);
        if self.chunk.len() < want {
            self.chunk.resize(want, 0);
        }
        let mut filled = 0;
        while filled < want {
            let Some(space) = self.chunk.get_mut(filled..want) else {
                break;
            };
            match rustix::io::read(&open.file, space) {
                Ok(0) => return Err(self.error(WalkProblem::Changed)),
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error(WalkProblem::Io(errno))),
            }
        }
        if let Some(data) = self.chunk.get(..filled)
            && !data.is_empty()
        {
            visitor.data(data).map_err(Stopped::Visitor)?;
        }
        open.left -= filled as u64;
        if open.left > 0 {
            return Ok(State::File(open));
        }
        if self.policy.is_foreign() {
            self.unchanged(open.file.as_fd(), &open.stat)?;
        }
        visitor.end_regular().map_err(Stopped::Visitor)?;
        Ok(self.outside())
    }

    fn outside(&self) -> State {
        if self.levels.is_empty() {
            State::Done
        } else {
            State::Directory
        }
    }

    fn error<E>(&self, problem: WalkProblem) -> Stopped<E> {
        Stopped::Walk(self.problem(problem))
    }

    fn problem(&self, problem: WalkProblem) -> WalkError {
        WalkError {
            path: self.path.clone(),
            problem,
        }
    }
}
