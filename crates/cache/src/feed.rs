//! Bytes on their way into a decoder.

use std::io::{self, BufRead, ErrorKind, Read};

use bytes::{Buf as _, Bytes};

/// What has arrived and is not decoded yet. Empty before the end, it answers `WouldBlock`, which decoders pass on without losing their
/// place.
#[derive(Default)]
pub(crate) struct Feed {
    chunk: Bytes,
    ended: bool,
}

impl Feed {
    /// Nothing is left of the last chunk.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunk.is_empty()
    }

    /// The next chunk; the one before must be used up.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.chunk = chunk;
    }

    /// There will be no more.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.is_empty() && !self.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, n: usize) {
        self.chunk.advance(n.min(self.chunk.len()));
    }
}

impl Read for Feed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let n = from.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..n), from.get(..n)) {
            to.copy_from_slice(from);
        }
        self.consume(n);
        Ok(n)
    }
}
