use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use firn_nix::nar::{NarVisitor, NarWriter};
use rustix::io::Errno;

use crate::error::{ContentError, IngestError};
use crate::hashing::NarDigest;
use crate::ingest::Observer;
use crate::staged::{Staged, Staging};
use crate::store::ContentStore;
use crate::tree_writer::TreeWriter;
use crate::walk::{Stopped, WalkLimits, WalkPolicy, walk};

impl ContentStore {
    /// Takes in a copy of a tree on disk, for instance what a build left behind. Its NAR is at most as large as
    /// `limits.bytes`. Blocks. The `observer` sees the NAR.
    ///
    /// # Errors
    /// [`IngestError::Tree`] with the place in the tree, [`IngestError::TooLarge`], or what the store ran into; nothing
    /// is left in the store.
    pub fn ingest_tree(
        &self,
        path: &Path,
        policy: WalkPolicy,
        limits: WalkLimits,
        observer: Option<Observer>,
    ) -> Result<Staged, IngestError> {
        let staging = Staging::new(Arc::clone(&self.inner));
        let digest = BufWriter::with_capacity(64 * 1024, NarDigest::new(observer));
        let mut copy = Copy {
            tree: TreeWriter::new(Arc::clone(&staging)),
            nar: NarWriter::new(digest),
            limit: limits.bytes,
        };
        walk(path, policy, limits, &mut copy).map_err(|stopped| match stopped {
            Stopped::Walk(error) => IngestError::Tree(error),
            Stopped::Visitor(error) => error,
        })?;
        let digest = copy
            .nar
            .into_inner()
            .into_inner()
            .map_err(|error| hashing(error.into_error()))?;
        let (hash, size) = digest.finish();
        if size > copy.limit {
            return Err(IngestError::TooLarge { limit: copy.limit });
        }
        Ok(Staged::new(staging, hash, size, copy.tree.shape()))
    }
}

/// Writes a tree and its NAR's hash at once.
struct Copy {
    tree: TreeWriter,
    nar: NarWriter<BufWriter<NarDigest>>,
    limit: u64,
}

/// Hashing does no I/O; what remains is a file whose size is not the announced one.
fn hashing(error: io::Error) -> IngestError {
    ContentError::at("NAR")(Errno::from_io_error(&error).unwrap_or(Errno::IO)).into()
}

impl NarVisitor for Copy {
    type Error = IngestError;

    fn directory(&mut self) -> Result<(), IngestError> {
        self.tree.directory()?;
        self.nar.directory().map_err(hashing)
    }

    fn entry(&mut self, name: &[u8]) -> Result<(), IngestError> {
        if self.nar.get_mut().get_ref().size() > self.limit {
            return Err(IngestError::TooLarge { limit: self.limit });
        }
        self.tree.entry(name)?;
        self.nar.entry(name).map_err(hashing)
    }

    fn end_directory(&mut self) -> Result<(), IngestError> {
        self.tree.end_directory()?;
        self.nar.end_directory().map_err(hashing)
    }

    fn regular(&mut self, executable: bool, size: u64) -> Result<(), IngestError> {
        self.tree.regular(executable, size)?;
        self.nar.regular(executable, size).map_err(hashing)
    }

    fn data(&mut self, chunk: &[u8]) -> Result<(), IngestError> {
        self.tree.data(chunk)?;
        self.nar.data(chunk).map_err(hashing)
    }

    fn end_regular(&mut self) -> Result<(), IngestError> {
        self.tree.end_regular()?;
        self.nar.end_regular().map_err(hashing)
    }

    fn symlink(&mut self, target: &[u8]) -> Result<(), IngestError> {
        self.tree.symlink(target)?;
        self.nar.symlink(target).map_err(hashing)
    }
}
