use std::io::{self, BufWriter};
use std::sync::Arc;

use firn_nix::HashAlgo;
use firn_nix::nar::{NarVisitor, NarWriter};
use rustix::io::Errno;
use tokio::io::AsyncRead;

use crate::blocking::blocking;
use crate::error::{ContentError, IngestError};
use crate::extent::Extent;
use crate::hashing::{FlatDigest, FlatHashes, NarDigest};
use crate::ingest::Observer;
use crate::pump::{BUFFER, Sink, give, pump};
use crate::staged::{Staged, Staging};
use crate::store::ContentStore;
use crate::tree_writer::TreeWriter;

/// What a single file becomes and may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatOptions {
    /// Whether the file gets the executable bit.
    pub executable: bool,
    /// Bytes allowed.
    pub max_size: u64,
    /// Hashes of the file's bytes to be computed besides SHA-256.
    pub algorithms: Vec<HashAlgo>,
}

impl ContentStore {
    /// Takes in one regular file of unknown length: everything up to the end of `body`. The `observer` sees the NAR.
    ///
    /// A NAR begins with the size of its file, so the file is read again for the hash of the NAR.
    ///
    /// # Errors
    /// [`IngestError`]; nothing is left in the store.
    pub async fn ingest_flat<R>(
        &self,
        body: &mut R,
        options: FlatOptions,
        observer: Option<Observer>,
    ) -> Result<(Staged, FlatHashes), IngestError>
    where
        R: AsyncRead + Unpin + Send + ?Sized,
    {
        let extent = Extent::all(options.max_size);
        let intake = FlatIntake::new(Staging::new(Arc::clone(&self.inner)), &options);
        let (intake, buffer) = pump(&mut &mut *body, extent, intake, BUFFER).await?;
        blocking(move || give(intake, &buffer)?.finish(observer)).await?
    }
}

struct FlatIntake {
    executable: bool,
    begun: bool,
    size: u64,
    tree: TreeWriter,
    staging: Arc<Staging>,
    digest: FlatDigest,
}

impl FlatIntake {
    fn new(staging: Arc<Staging>, options: &FlatOptions) -> Self {
        Self {
            executable: options.executable,
            begun: false,
            size: 0,
            tree: TreeWriter::new(Arc::clone(&staging)),
            staging,
            digest: FlatDigest::new(&options.algorithms),
        }
    }

    fn finish(mut self, observer: Option<Observer>) -> Result<(Staged, FlatHashes), IngestError> {
        self.tree.end_regular()?;
        let digest = BufWriter::with_capacity(4096, NarDigest::new(observer));
        let mut nar = NarWriter::new(digest);
        let error =
            |error: io::Error| ContentError::at("staging")(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        nar.regular(self.executable, self.size).map_err(error)?;
        self.staging
            .read_file(&mut |bytes| nar.data(bytes))
            .map_err(error)?;
        nar.end_regular().map_err(error)?;
        let digest = nar.into_inner().into_inner().map_err(|e| error(e.into_error()))?;
        let (hash, size) = digest.finish();
        let staged = Staged::new(self.staging, hash, size, self.tree.shape());
        Ok((staged, self.digest.finish()))
    }
}

impl Sink for FlatIntake {
    fn take(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        if !self.begun {
            // The writer does not need the size.
            self.tree.regular(self.executable, 0)?;
            self.begun = true;
        }
        self.tree.data(bytes)?;
        self.size += bytes.len() as u64;
        self.digest.update(bytes);
        Ok(())
    }
}
