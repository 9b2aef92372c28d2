//! Read-only file system images (EROFS) with exactly the trees that a command is given.
//!
//! An image holds the bytes of its trees and nothing else: no compression, no shared data, no numbers or times that
//! tell where they came from. Equal trees under equal names are equal images. Files' blocks are aligned, so that file
//! systems which share extents share them with the image's sources.
//!
//! ```
//! use firn_content::WalkLimits;
//! use firn_vm::image::{Entry, write};
//!
//! # let dir = tempfile::tempdir()?;
//! # let tree = dir.path().join("hello");
//! std::fs::write(&tree, "hello\n")?;
//! let entry = Entry { name: b"abc-hello", path: &tree };
//! let image = tempfile::tempfile()?;
//! let info = write(&[entry], &image, WalkLimits::default())?;
//! assert_eq!(image.metadata()?.len(), info.size);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cache;
mod directory;
mod emit;
mod error;
mod format;
mod layout;
mod output;
mod scan;
mod shelf;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::File;

use firn_content::WalkLimits;

pub use cache::{Cache, CacheError, CacheOptions, Image, Input};
pub use error::ImageError;
pub use tree::Entry;

use layout::Layout;
use tree::Tree;

/// What an image turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Bytes, a multiple of 4096.
    pub size: u64,
    /// Files, directories and links, the root counted.
    pub nodes: u64,
}

/// Writes an image whose root directory has exactly these names, over whatever is in `out`. The limits hold for all
/// trees together; the depth is counted from an entry. Blocks; memory is proportional to the number of nodes.
///
/// # Errors
/// [`ImageError`]; `out` is then not an image.
pub fn write(entries: &[Entry<'_>], out: &File, limits: WalkLimits) -> Result<ImageInfo, ImageError> {
    let plan = Plan::new(entries, limits)?;
    plan.write(out)?;
    Ok(plan.info())
}

/// An image of which everything is known but the data of files.
#[derive(Debug)]
pub struct Plan<'a> {
    tree: Tree<'a>,
    layout: Layout,
}

impl<'a> Plan<'a> {
    /// Looks at every node of the trees, without reading files. The rest is as for [`write`].
    ///
    /// # Errors
    /// [`ImageError`] with the node that cannot be in an image.
    pub fn new(entries: &[Entry<'a>], limits: WalkLimits) -> Result<Self, ImageError> {
        let tree = scan::scan(entries, limits)?;
        let layout = Layout::new(&tree)?;
        Ok(Self { tree, layout })
    }

    /// What the image will be.
    #[must_use]
    pub fn info(&self) -> ImageInfo {
        ImageInfo {
            size: self.layout.size(),
            nodes: self.tree.nodes.len() as u64,
        }
    }

    /// Writes the image over whatever is in `out`, which must be open for reading as well.
    ///
    /// # Errors
    /// [`ImageError`], also when a tree is not what it was when it was looked at; `out` is then not an image.
    pub fn write(&self, out: &File) -> Result<(), ImageError> {
        emit::emit(&self.tree, &self.layout, out)
    }
}
