use std::fmt;

use rustix::fs::FileType;
use rustix::io::Errno;

/// Why a walk ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped<E> {
    /// The tree is not acceptable or not readable.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The visitor gave up.
    #[error("{0}")]
    Visitor(E),
}

/// What is wrong with a tree on disk, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkError {
    /// Place within the tree: names joined with `/`, empty for the root.
    pub path: Vec<u8>,
    /// What is wrong.
    pub problem: WalkProblem,
}

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{}", self.problem)
        } else {
            write!(f, "'{}': {}", self.path.escape_ascii(), self.problem)
        }
    }
}

impl std::error::Error for WalkError {}

/// What can be wrong with a tree on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkProblem {
    /// Neither regular file, directory nor symbolic link.
    #[error("a {0} cannot be stored")]
    FileType(&'static str),
    /// Belongs to somebody else than the builder.
    #[error("suspicious ownership: user {found} instead of {expected}")]
    Owner {
        /// The builder.
        expected: u32,
        /// The owner.
        found: u32,
    },
    /// The root of an output is writable for group or others.
    #[error("suspicious permission: mode {0:o}")]
    Writable(u32),
    /// It changed while it was read.
    #[error("changed while it was read")]
    Changed,
    /// Another file system is mounted there.
    #[error("another file system is mounted here")]
    Mount,
    /// Deeper than allowed.
    #[error("nested deeper than {0}")]
    Depth(usize),
    /// More nodes than allowed.
    #[error("more than {0} files, directories and links")]
    Entries(u64),
    /// More bytes than allowed.
    #[error("larger than {0} bytes")]
    Bytes(u64),
    /// A file name of more than 255 bytes.
    #[error("file name too long")]
    Name,
    /// An empty or overlong target of a symbolic link.
    #[error("target of the symbolic link is empty or too long")]
    Target,
    /// A stored tree is not as the store makes them.
    #[error("unexpected {0}")]
    NotCanonical(&'static str),
    /// The file system refused.
    #[error("{0}")]
    Io(Errno),
}

pub(super) fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        _ => "file of unknown type",
    }
}
