use std::fmt;

use crate::excerpt;

/// Why reading a NAR ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarError<E> {
    /// The bytes are not an acceptable NAR.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The visitor gave up.
    #[error("{0}")]
    Visitor(E),
}

/// What is wrong with a NAR, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Bytes from the start of the archive to the start of the offending token (or to where the input ended).
    pub offset: u64,
    /// The node in which it happened: names joined with `/`, empty for the root.
    pub path: Vec<u8>,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad NAR at byte {}", self.offset)?;
        if !self.path.is_empty() {
            write!(f, " in '{}'", excerpt(&self.path))?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for Malformed {}

/// What can be wrong with a NAR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Another token than the grammar allows here.
    #[error("expected {expected}, found '{}'", excerpt(found))]
    Token {
        /// The token or tokens allowed, in words.
        expected: &'static str,
        /// What was there.
        found: Vec<u8>,
    },
    /// A token longer than anything allowed here.
    #[error("expected {expected}, found {length} bytes (at most {limit})")]
    Length {
        /// The token or tokens allowed, in words.
        expected: &'static str,
        /// Announced length.
        length: u64,
        /// Allowed length.
        limit: u64,
    },
    /// The padding to a multiple of 8 bytes is not zero.
    #[error("padding is not zero")]
    Padding,
    /// `""`, `"."`, `".."`, or a name with a slash or NUL in it.
    #[error("'{}' cannot be a file name", excerpt(.0))]
    Name(Vec<u8>),
    /// Entries not in strictly ascending byte order.
    #[error("entry '{}' after '{}'", excerpt(name), excerpt(previous))]
    Order {
        /// The entry before.
        previous: Vec<u8>,
        /// The entry that should have come earlier, or not a second time.
        name: Vec<u8>,
    },
    /// An empty symlink target, or one with NUL in it.
    #[error("'{}' cannot be the target of a symbolic link", excerpt(.0))]
    Target(Vec<u8>),
    /// More nested directories than [`NarLimits::depth`](super::NarLimits::depth) allows.
    #[error("nested deeper than {0}")]
    Depth(usize),
    /// More nodes than [`NarLimits::entries`](super::NarLimits::entries).
    #[error("more than {0} files, directories and links")]
    Entries(u64),
    /// More bytes than [`NarLimits::total_bytes`](super::NarLimits::total_bytes), read or announced.
    #[error("larger than {0} bytes")]
    TotalBytes(u64),
    /// The input ended within the archive.
    #[error("the archive breaks off")]
    Truncated,
    /// An earlier call failed; the reader cannot go on.
    #[error("reading failed before")]
    Failed,
}
