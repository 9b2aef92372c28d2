use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use firn_nix::NarHash;
use firn_nix::nar::{Malformed, NarError, Problem};
use rustix::io::Errno;

use crate::walk::WalkError;

/// Why the content store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// No such content.
    #[error("content {0} is not in the store")]
    Missing(NarHash),
    /// No space, or no quota, left.
    #[error("no space left for '{}'", .path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("'{}': {source}", .path.display())]
    Io {
        /// Where, relative to the store or to the tree where that says more.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Writes were lost while it was written or before it was brought to the disk: it must be written again.
    #[error("the disk lost writes while content {0} was on its way; it must be written again")]
    Lost(NarHash),
    /// The runtime is shutting down.
    #[error("interrupted by shutdown")]
    Interrupted,
}

impl ContentError {
    /// Adds the place to an error number.
    pub(crate) fn at<P: AsRef<Path>>(path: P) -> impl FnOnce(Errno) -> Self {
        move |errno| {
            let path = path.as_ref().to_owned();
            match errno {
                Errno::NOSPC | Errno::DQUOT => Self::DiskFull { path },
                errno => Self::Io {
                    path,
                    source: errno.into(),
                },
            }
        }
    }
}

/// Bytes of a path in a tree as a path.
pub(crate) fn tree_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// Why a content did not come into the store. Nothing of it is left there.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The bytes are not an acceptable NAR.
    #[error(transparent)]
    Nar(#[from] Malformed),
    /// Other bytes than announced.
    #[error("hash mismatch: expected {expected}, got {got}")]
    HashMismatch {
        /// The hash announced.
        expected: NarHash,
        /// The hash of what came.
        got: NarHash,
    },
    /// More or fewer bytes than announced.
    #[error("size mismatch: expected {expected} bytes, got {got}")]
    SizeMismatch {
        /// The size announced.
        expected: u64,
        /// The size of the NAR; when it is longer than announced, how long it is at least.
        got: u64,
    },
    /// Larger than the caller allows.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// The sender went away in the middle.
    #[error("the connection ended after {received} bytes")]
    ConnectionEnded {
        /// Bytes that came.
        received: u64,
    },
    /// Reading from the sender failed in another way.
    #[error("reading the input: {0}")]
    Input(#[source] io::Error),
    /// A tree on disk that cannot become a content.
    #[error(transparent)]
    Tree(#[from] WalkError),
    /// The store could not keep it.
    #[error(transparent)]
    Store(#[from] ContentError),
}

impl From<NarError<ContentError>> for IngestError {
    fn from(error: NarError<ContentError>) -> Self {
        match error {
            NarError::Malformed(malformed) => Self::from_malformed(malformed),
            NarError::Visitor(error) => Self::Store(error),
        }
    }
}

impl IngestError {
    pub(crate) fn from_malformed(malformed: Malformed) -> Self {
        match malformed.problem {
            Problem::TotalBytes(limit) => Self::TooLarge { limit },
            _ => Self::Nar(malformed),
        }
    }
}
