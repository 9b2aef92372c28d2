//! NAR: the archive format whose SHA-256 identifies a store object (Nix manual, "Nix Archive (NAR) format").
//!
//! Reading and writing without I/O: [`NarReader`] is fed bytes in pieces of any size and calls a [`NarVisitor`];
//! [`NarWriter`] is a visitor that produces the one encoding a tree has. Contents are streamed, so the memory needed
//! does not depend on the size of the archive.
//!
//! The reader accepts exactly the canonical encoding: whatever it accepts, the writer reproduces byte for byte.
//!
//! ```
//! use std::io;
//! use firn_nix::nar::{NarLimits, NarReader, NarVisitor, NarWriter};
//!
//! let mut writer = NarWriter::new(Vec::new());
//! writer.directory()?;
//! writer.entry(b"hello")?;
//! writer.regular(false, 3)?;
//! writer.data(b"hi\n")?;
//! writer.end_regular()?;
//! writer.end_directory()?;
//! let nar = writer.into_inner();
//!
//! let mut copy = NarWriter::new(Vec::new());
//! let mut reader = NarReader::new(NarLimits::default());
//! for piece in nar.chunks(10) {
//!     reader.push(piece, &mut copy).map_err(io::Error::other)?;
//! }
//! assert!(reader.is_complete());
//! assert_eq!(copy.into_inner(), nar);
//! # Ok::<(), io::Error>(())
//! ```

mod error;
mod grammar;
mod reader;
#[cfg(test)]
mod tests;
mod visitor;
mod writer;

pub use error::{Malformed, NarError, Problem};
pub use reader::NarReader;
pub use visitor::{NarVisitor, Skip};
pub use writer::NarWriter;

/// What a reader accepts at most. The defaults for names and targets are those of Nix 2.36 (`archive.cc`), which itself takes archives of depth
/// 64 only; older ones have no such limit. All are checked before anything is allocated or passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NarLimits {
    /// Nodes on the way from the root to the deepest node, both counted. Each costs one remembered name.
    pub depth: usize,
    /// Bytes in the name of a directory entry.
    pub name: u64,
    /// Bytes in the target of a symbolic link.
    pub target: u64,
    /// Nodes in the whole archive.
    pub entries: u64,
    /// Bytes of the whole archive.
    pub total_bytes: u64,
}

impl Default for NarLimits {
    fn default() -> Self {
        Self {
            depth: 256,
            name: 255,
            target: 4095,
            entries: 10_000_000,
            total_bytes: 1 << 40,
        }
    }
}
