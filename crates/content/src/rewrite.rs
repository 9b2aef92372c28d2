use std::io;
use std::sync::Arc;

use firn_nix::nar::NarVisitor;
use firn_nix::rewrite::HashRewriter;
use rustix::io::Errno;

use crate::error::{ContentError, IngestError};
use crate::ingest::Observer;
use crate::staged::{Staged, Staging};
use crate::store::ContentStore;
use crate::tree_writer::TreeWriter;
use crate::verify::digest_tree;
use crate::walk::{Stopped, WalkLimits, WalkPolicy, walk};

impl ContentStore {
    /// A copy of a staged content with hash parts replaced in files, names and links. The `observer` sees its NAR. Blocks.
    ///
    /// # Errors
    /// What the file system said; nothing is left in the store.
    pub fn rewrite(
        &self,
        staged: &Staged,
        rewriter: HashRewriter,
        observer: Option<Observer>,
    ) -> Result<Staged, IngestError> {
        let from = staged.path().ok_or(ContentError::Interrupted)?;
        let staging = Staging::new(Arc::clone(&self.inner));
        let to = staging.path();
        let mut copy = Rewrite {
            tree: TreeWriter::new(Arc::clone(&staging)),
            rewriter,
            buffer: Vec::new(),
        };
        walk(&from, WalkPolicy::Own, WalkLimits::default(), &mut copy).map_err(|stopped| match stopped {
            Stopped::Walk(error) => IngestError::Tree(error),
            Stopped::Visitor(error) => error.into(),
        })?;
        let shape = copy.tree.shape();
        drop(copy);
        // A second walk: new names may have another order.
        let (hash, size) = digest_tree(&to, WalkPolicy::Own, observer).map_err(|stopped| match stopped {
            Stopped::Walk(error) => IngestError::Tree(error),
            Stopped::Visitor(error) => hashing(&error),
        })?;
        Ok(Staged::new(staging, hash, size, shape))
    }
}

fn hashing(error: &io::Error) -> IngestError {
    ContentError::at("NAR")(Errno::from_io_error(error).unwrap_or(Errno::IO)).into()
}

/// Writes the tree that it is shown, rewritten. Hash parts do not reach from one file, name or link into another.
struct Rewrite {
    tree: TreeWriter,
    rewriter: HashRewriter,
    buffer: Vec<u8>,
}

impl NarVisitor for Rewrite {
    type Error = ContentError;

    fn directory(&mut self) -> Result<(), ContentError> {
        self.tree.directory()
    }

    fn entry(&mut self, name: &[u8]) -> Result<(), ContentError> {
        self.tree.entry(&self.rewriter.rewrite(name))
    }

    fn end_directory(&mut self) -> Result<(), ContentError> {
        self.tree.end_directory()
    }

    fn regular(&mut self, executable: bool, size: u64) -> Result<(), ContentError> {
        self.tree.regular(executable, size)
    }

    fn data(&mut self, chunk: &[u8]) -> Result<(), ContentError> {
        self.rewriter.push(chunk, &mut self.buffer);
        self.tree.data(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn end_regular(&mut self) -> Result<(), ContentError> {
        self.rewriter.finish(&mut self.buffer);
        self.tree.data(&self.buffer)?;
        self.buffer.clear();
        self.tree.end_regular()
    }

    fn symlink(&mut self, target: &[u8]) -> Result<(), ContentError> {
        self.tree.symlink(&self.rewriter.rewrite(target))
    }
}
