//! Looking at every node of some trees without reading a file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use firn_content::{WalkLimits, WalkProblem};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::error::ImageError;
use super::tree::{Entry, Kind, Node, NodeId, ROOT, Text, Tree};

/// Longest symbolic link that Linux makes.
const LONGEST_TARGET: usize = 4095;

/// Opens a file without waiting for anything and without leaving a trace in its access time.
pub(super) fn open(dir: BorrowedFd<'_>, name: &[u8], more: OFlags) -> Result<OwnedFd, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | more;
    match rustix::fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner may ask for this.
        Err(Errno::PERM) => rustix::fs::openat(dir, name, flags, Mode::empty()),
        result => result,
    }
}

/// Everything that is to be in an image with these names at its root. The limits hold for all of them together; the
/// depth is counted from an entry.
pub(super) fn scan<'a>(entries: &[Entry<'a>], limits: WalkLimits) -> Result<Tree<'a>, ImageError> {
    let mut scan = Scan {
        tree: Tree::new(entries)?,
        limits,
        levels: Vec::new(),
        found: 0,
        bytes: 0,
    };
    for at in 0..scan.tree.entries.len() {
        if let Some(entry) = scan.tree.entries.get(at).copied() {
            scan.entry(entry)?;
        }
    }
    Ok(scan.tree)
}

struct Scan<'a> {
    tree: Tree<'a>,
    limits: WalkLimits,
    levels: Vec<Level>,
    /// Nodes, also those whose turn has not come.
    found: u64,
    bytes: u64,
}

/// A directory that is being gone through.
struct Level {
    dir: OwnedFd,
    node: NodeId,
    /// The names to come, the next one last.
    names: Vec<Text>,
}

impl Scan<'_> {
    fn entry(&mut self, entry: Entry<'_>) -> Result<(), ImageError> {
        if !self.count() {
            return Err(ImageError::Tree {
                path: entry.path.to_path_buf(),
                problem: WalkProblem::Entries(self.limits.entries),
            });
        }
        let name = self.tree.keep(entry.name);
        self.node(CWD, entry.path.as_os_str().as_bytes(), name, ROOT)?;
        while let Some(mut level) = self.levels.pop() {
            let Some(name) = level.names.pop() else {
                self.close(level.node);
                continue;
            };
            // The level goes back under the one that a subdirectory adds.
            let below = self.levels.len();
            let place = self.tree.text(name).to_vec();
            self.node(level.dir.as_fd(), &place, name, level.node)?;
            self.levels.insert(below, level);
        }
        self.close(ROOT);
        Ok(())
    }

    /// The directory's last descendant is known.
    fn close(&mut self, dir: NodeId) {
        let all = NodeId::try_from(self.tree.nodes.len()).unwrap_or(NodeId::MAX);
        if let Some(Kind::Directory { end, .. }) = self.tree.node_mut(dir).map(|node| &mut node.kind) {
            *end = all;
        }
    }

    /// One node, which is `place` in `dir`.
    fn node(
        &mut self,
        dir: BorrowedFd<'_>,
        place: &[u8],
        name: Text,
        parent: NodeId,
    ) -> Result<(), ImageError> {
        let id = NodeId::try_from(self.tree.nodes.len()).unwrap_or(NodeId::MAX);
        self.tree.nodes.push(Node {
            name,
            parent,
            kind: Kind::Symlink { target: Text::EMPTY },
        });
        if self.levels.len() + usize::from(parent != ROOT) >= self.limits.depth {
            return Err(self.tree.problem(id, WalkProblem::Depth(self.limits.depth)));
        }
        let stat = rustix::fs::statat(dir, place, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| self.io(id, e))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                self.bytes = self.bytes.saturating_add(size);
                if self.bytes > self.limits.bytes {
                    return Err(self.tree.problem(id, WalkProblem::Bytes(self.limits.bytes)));
                }
                Kind::Regular {
                    executable: stat.st_mode & 0o100 != 0,
                    size,
                }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, place, Vec::new()).map_err(|e| self.io(id, e))?;
                let target = target.as_bytes();
                if target.is_empty() || target.len() > LONGEST_TARGET {
                    return Err(self.tree.problem(id, WalkProblem::Target));
                }
                Kind::Symlink {
                    target: self.tree.keep(target),
                }
            }
            FileType::Directory => self.directory(dir, place, id, parent)?,
            other => {
                let what = kind_name(other);
                return Err(self.tree.problem(id, WalkProblem::FileType(what)));
            }
        };
        if let Some(node) = self.tree.node_mut(id) {
            node.kind = kind;
        }
        Ok(())
    }

    /// One more node. False when it is one too many.
    fn count(&mut self) -> bool {
        self.found += 1;
        // One number is for the root, which is none of the trees'.
        self.found <= self.limits.entries.min(u64::from(NodeId::MAX) - 1)
    }

    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        place: &[u8],
        id: NodeId,
        parent: NodeId,
    ) -> Result<Kind, ImageError> {
        let dir = open(dir, place, OFlags::DIRECTORY).map_err(|e| self.io(id, e))?;
        let mut names = self.list(&dir, id)?;
        let tree = &self.tree;
        names.sort_unstable_by(|a, b| tree.text(*b).cmp(tree.text(*a)));
        self.levels.push(Level { dir, node: id, names });
        if let Some(Kind::Directory { subdirectories, .. }) =
            self.tree.node_mut(parent).map(|node| &mut node.kind)
        {
            *subdirectories += 1;
        }
        Ok(Kind::Directory {
            end: id + 1,
            subdirectories: 0,
        })
    }

    /// The names in a directory, in no order.
    fn list(&mut self, dir: &OwnedFd, id: NodeId) -> Result<Vec<Text>, ImageError> {
        let mut names = Vec::new();
        let mut buffer = Vec::<u8>::with_capacity(32 * 1024);
        let mut raw = RawDir::new(dir, buffer.spare_capacity_mut());
        while let Some(entry) = raw.next() {
            let entry = entry.map_err(|e| self.io(id, e))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if name.len() > 255 {
                return Err(self.tree.problem(id, WalkProblem::Name));
            }
            names.push(self.tree.keep(name));
            if !self.count() {
                return Err(self.tree.problem(id, WalkProblem::Entries(self.limits.entries)));
            }
        }
        Ok(names)
    }

    fn io(&self, id: NodeId, errno: Errno) -> ImageError {
        self.tree.problem(id, WalkProblem::Io(errno))
    }
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        _ => "file of unknown type",
    }
}
