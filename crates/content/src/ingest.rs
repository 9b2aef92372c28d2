use std::sync::Arc;

use firn_nix::NarHash;
use firn_nix::nar::{NarLimits, NarReader};
use tokio::io::AsyncRead;
use tokio::task::JoinHandle;

use crate::blocking::finished;
use crate::error::IngestError;
use crate::extent::Extent;
use crate::hashing::NarDigest;
use crate::pump::{BUFFER, Sink, give, pump};
use crate::staged::{Staged, Staging};
use crate::store::ContentStore;
use crate::tree_writer::TreeWriter;

/// Bytes of the first buffer when the size is not known beforehand.
const FIRST_BUFFER: usize = 64 * 1024;

/// Sees all bytes of a NAR in order, in pieces of any size: for the reference scan, or for other hashes.
pub type Observer = Box<dyn FnMut(&[u8]) + Send>;

/// What is known of a content before it comes, and what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestOptions {
    /// Bytes of the NAR; nothing beyond is read from the stream.
    pub expected_size: Option<u64>,
    /// Its SHA-256.
    pub expected_hash: Option<NarHash>,
    /// Bytes allowed.
    pub max_size: u64,
}

impl IngestOptions {
    fn limits(&self) -> NarLimits {
        NarLimits {
            total_bytes: self.max_size,
            ..NarLimits::default()
        }
    }
}

/// A content whose bytes have all been read from the sender, and which is still being written.
///
/// Dropping it removes the content, once it is written.
#[derive(Debug)]
pub struct Arriving(JoinHandle<Result<Staged, IngestError>>);

impl Arriving {
    /// Waits until the content is written and checked.
    ///
    /// # Errors
    /// As [`ContentStore::ingest`].
    pub async fn staged(self) -> Result<Staged, IngestError> {
        finished(self.0.await)?
    }
}

impl ContentStore {
    /// Takes in one NAR and reads not a byte beyond it. The `observer` sees all of its bytes.
    ///
    /// Cancelling (dropping the future) removes what was written so far.
    ///
    /// # Errors
    /// [`IngestError`]; nothing is left in the store. How much of the NAR has been read is then undefined.
    pub async fn ingest<R>(
        &self,
        nar: &mut R,
        options: IngestOptions,
        observer: Option<Observer>,
    ) -> Result<Staged, IngestError>
    where
        R: AsyncRead + Unpin + Send + ?Sized,
    {
        self.receive(nar, options, observer).await?.staged().await
    }

    /// Like [`ContentStore::ingest`], but returns as soon as the NAR has been read, so that the next one can be read
    /// while this one is still being written. Each that is held costs up to 1 MiB.
    ///
    /// # Errors
    /// As [`ContentStore::ingest`].
    pub async fn receive<R>(
        &self,
        nar: &mut R,
        options: IngestOptions,
        observer: Option<Observer>,
    ) -> Result<Arriving, IngestError>
    where
        R: AsyncRead + Unpin + Send + ?Sized,
    {
        let limit = options.max_size;
        if options.expected_size.is_some_and(|size| size > limit) {
            return Err(IngestError::TooLarge { limit });
        }
        let extent = Extent::nar(options.expected_size, options.limits());
        let intake = Intake::new(Staging::new(Arc::clone(&self.inner)), options, observer);
        let first = options
            .expected_size
            .map_or(FIRST_BUFFER, |size| usize::try_from(size).unwrap_or(BUFFER));
        let (intake, buffer) = pump(&mut &mut *nar, extent, intake, first).await?;
        Ok(Arriving(tokio::task::spawn_blocking(move || {
            give(intake, &buffer)?.finish()
        })))
    }
}

/// A content while its bytes come in.
struct Intake {
    options: IngestOptions,
    reader: NarReader,
    tree: TreeWriter,
    staging: Arc<Staging>,
    digest: NarDigest,
}

impl Intake {
    fn new(staging: Arc<Staging>, options: IngestOptions, observer: Option<Observer>) -> Self {
        Self {
            options,
            reader: NarReader::new(options.limits()),
            tree: TreeWriter::new(Arc::clone(&staging)),
            staging,
            digest: NarDigest::new(observer),
        }
    }

    fn finish(self) -> Result<Staged, IngestError> {
        if !self.reader.is_complete() {
            // Only a wrong expectation ends the reading before the NAR ends.
            let least = self.reader.bytes_to_come();
            return Err(IngestError::SizeMismatch {
                expected: self.reader.bytes_read(),
                got: self.reader.bytes_read().saturating_add(least),
            });
        }
        let (got, size) = self.digest.finish();
        match self.options.expected_hash {
            Some(expected) if expected != got => Err(IngestError::HashMismatch { expected, got }),
            _ => Ok(Staged::new(self.staging, got, size, self.tree.shape())),
        }
    }
}

impl Sink for Intake {
    fn take(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        let taken = self.reader.push(bytes, &mut self.tree)?;
        self.digest.update(bytes.get(..taken).unwrap_or_default());
        match self.options.expected_size {
            Some(expected) if taken < bytes.len() => Err(IngestError::SizeMismatch {
                expected,
                got: self.reader.bytes_read(),
            }),
            _ => Ok(()),
        }
    }
}
