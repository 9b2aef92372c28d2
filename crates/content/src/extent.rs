//! How far one NAR, or one body, reaches in a stream.

use std::io;

use bytes::BufMut as _;
use firn_nix::nar::{NarError, NarLimits, NarReader, Skip};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::error::IngestError;

/// What may still be read from a stream.
pub(crate) enum Extent {
    /// So many bytes.
    Size(u64),
    /// As many as the NAR turns out to have.
    Nar(Box<NarReader>),
    /// Up to the end of the stream, at most so many bytes.
    All { left: u64, limit: u64 },
}

impl Extent {
    pub(crate) fn nar(size: Option<u64>, limits: NarLimits) -> Self {
        match size {
            Some(size) => Self::Size(size),
            None => Self::Nar(Box::new(NarReader::new(limits))),
        }
    }

    pub(crate) fn all(limit: u64) -> Self {
        Self::All { left: limit, limit }
    }

    /// How many bytes may be read at once; 0 when there are no more.
    fn next(&self) -> u64 {
        match self {
            Self::Size(left) => *left,
            Self::Nar(reader) => reader.bytes_to_come(),
            // One more than allowed, to see whether there is more.
            Self::All { left, .. } => left.saturating_add(1),
        }
    }

    fn took(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        let count = bytes.len() as u64;
        match self {
            Self::Size(left) => *left = left.saturating_sub(count),
            Self::Nar(reader) => {
                reader.push(bytes, &mut Skip).map_err(|error| match error {
                    NarError::Malformed(malformed) => IngestError::from_malformed(malformed),
                    NarError::Visitor(never) => match never {},
                })?;
            }
            Self::All { left, limit } => {
                *left = left
                    .checked_sub(count)
                    .ok_or(IngestError::TooLarge { limit: *limit })?;
            }
        }
        Ok(())
    }

    /// Reads from `input` into `buffer` until it is full or the extent ends; true at the end.
    pub(crate) async fn fill<R: AsyncRead + Unpin>(
        &mut self,
        input: &mut R,
        buffer: &mut Vec<u8>,
        received: &mut u64,
    ) -> Result<bool, IngestError> {
        loop {
            let next = self.next();
            if next == 0 {
                return Ok(true);
            }
            let space = buffer.capacity() - buffer.len();
            if space == 0 {
                return Ok(false);
            }
            let before = buffer.len();
            let most = usize::try_from(next).unwrap_or(usize::MAX).min(space);
            let read = input
                .read_buf(&mut (&mut *buffer).limit(most))
                .await
                .map_err(|error| input_error(error, *received))?;
            if read == 0 {
                return match self {
                    Self::All { .. } => Ok(true),
                    _ => Err(IngestError::ConnectionEnded { received: *received }),
                };
            }
            *received += read as u64;
            self.took(buffer.get(before..).unwrap_or_default())?;
        }
    }
}

fn input_error(error: io::Error, received: u64) -> IngestError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => IngestError::ConnectionEnded { received },
        _ => IngestError::Input(error),
    }
}
