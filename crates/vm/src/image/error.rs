//! Why there is no image.

use std::io;
use std::path::PathBuf;

use firn_content::WalkProblem;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not a file name: empty, `.`, `..`, longer than 255 bytes, or with a slash or NUL in it.
    #[error("'{}' cannot be a name in an image", .0.escape_ascii())]
    Name(Vec<u8>),
    /// One name for two trees.
    #[error("two trees with the name '{}' in one image", .0.escape_ascii())]
    Twice(Vec<u8>),
    /// A tree is not acceptable, not readable, or changed meanwhile.
    #[error("{}: {problem}", path.display())]
    Tree {
        /// The node.
        path: PathBuf,
        /// What is wrong with it.
        problem: WalkProblem,
    },
    /// A file's bytes did not get into the image.
    #[error("copying {} into the image: {source}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// More than the format can address: 16 TiB, 128 GiB of them metadata.
    #[error("an image of {bytes} bytes is more than the format can address")]
    TooLarge {
        /// Size of the image, or of its metadata.
        bytes: u64,
    },
    /// The image file refused its metadata.
    #[error("writing the image: {0}")]
    Output(#[source] io::Error),
}
