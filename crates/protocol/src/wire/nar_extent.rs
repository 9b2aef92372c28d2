//! Where a NAR ends in a stream that does not say so: counts brackets, understands nothing else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

const MAGIC: &[u8] = b"nix-archive-1";
const TAG_MAX: usize = 16;
const TAGS: [&[u8]; 8] = [
    b"type",
    b"regular",
    b"symlink",
    b"directory",
    b"executable",
    b"",
    b"entry",
    b"node",
];
/// Tags that an arbitrary string follows.
const DATA_TAGS: [&[u8]; 3] = [b"contents", b"target", b"name"];

/// The bytes are not a NAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a NAR archive")]
pub struct NarExtentError;

/// Follows a NAR piece by piece. It finds the same end as a strict reader in a valid NAR, and does not check that one is valid.
#[derive(Debug)]
pub struct NarExtent {
    part: Part,
    /// Bytes of a length or a tag that came so far.
    held: [u8; TAG_MAX],
    held_len: usize,
    padding: u64,
    depth: u64,
    magic_seen: bool,
    closed: bool,
    data_follows: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Length,
    Tag(usize),
    Data(u64),
    Padding(u64),
    Done,
}

impl Default for NarExtent {
    fn default() -> Self {
        Self {
            part: Part::Length,
            held: [0; TAG_MAX],
            held_len: 0,
            padding: 0,
            depth: 0,
            magic_seen: false,
            closed: false,
            data_follows: false,
        }
    }
}

impl NarExtent {
    /// Whether the end was seen.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.part == Part::Done
    }

    /// Takes the next bytes; returns how many of them belong to the NAR, fewer than given only at its end.
    ///
    /// # Errors
    /// [`NarExtentError`] when these are not a NAR's tags.
    pub fn advance(&mut self, input: &[u8]) -> Result<usize, NarExtentError> {
        let mut rest = input;
        loop {
            let part = self.part;
            match part {
                Part::Done => return Ok(input.len() - rest.len()),
                Part::Length if self.hold(&mut rest, 8) => self.length()?,
                Part::Tag(len) if self.hold(&mut rest, len) => self.tag(len)?,
                Part::Data(left) => match skip(&mut rest, left) {
                    0 => self.part = Part::Padding(self.padding),
                    left => {
                        self.part = Part::Data(left);
                        return Ok(input.len());
                    }
                },
                Part::Padding(left) => match skip(&mut rest, left) {
                    0 if self.closed => self.part = Part::Done,
                    0 => self.part = Part::Length,
                    left => {
                        self.part = Part::Padding(left);
                        return Ok(input.len());
                    }
                },
                Part::Length | Part::Tag(_) => return Ok(input.len()),
            }
        }
    }

    fn hold(&mut self, rest: &mut &[u8], wanted: usize) -> bool {
        let n = rest.len().min(wanted.saturating_sub(self.held_len));
        let (now, later) = rest.split_at(n);
        if let Some(target) = self.held.get_mut(self.held_len..self.held_len + n) {
            target.copy_from_slice(now);
        }
        *rest = later;
        self.held_len += n;
        let full = self.held_len == wanted;
        if full {
            self.held_len = 0;
        }
        full
    }

    fn length(&mut self) -> Result<(), NarExtentError> {
        let raw = self.held.first_chunk::<8>().ok_or(NarExtentError)?;
        let len = u64::from_le_bytes(*raw);
        self.padding = (8 - len % 8) % 8;
        self.part = if std::mem::take(&mut self.data_follows) {
            Part::Data(len)
        } else {
            let len = usize::try_from(len).map_err(|_| NarExtentError)?;
            if len > TAG_MAX {
                return Err(NarExtentError);
            }
            Part::Tag(len)
        };
        Ok(())
    }

    fn tag(&mut self, len: usize) -> Result<(), NarExtentError> {
        let tag = self.held.get(..len).ok_or(NarExtentError)?;
        match tag {
            MAGIC if !self.magic_seen => self.magic_seen = true,
            _ if !self.magic_seen => return Err(NarExtentError),
            b"(" => self.depth += 1,
            _ if self.depth == 0 => return Err(NarExtentError),
            b")" => {
                self.depth -= 1;
                self.closed = self.depth == 0;
            }
            tag if DATA_TAGS.contains(&tag) => self.data_follows = true,
            tag if TAGS.contains(&tag) => {}
            _ => return Err(NarExtentError),
        }
        self.part = Part::Padding(self.padding);
        Ok(())
    }
}

fn skip(rest: &mut &[u8], left: u64) -> u64 {
    let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
    *rest = rest.get(n..).unwrap_or(&[]);
    left - n as u64
}

/// Reads one NAR from a source and ends with it.
#[derive(Debug)]
pub struct SingleNar<'a, B> {
    source: &'a mut B,
    extent: NarExtent,
    left: u64,
}

impl<'a, B: AsyncBufRead + Unpin> SingleNar<'a, B> {
    /// A NAR of at most `most` bytes that begins at the source's next byte.
    pub fn new(source: &'a mut B, most: u64) -> Self {
        Self {
            source,
            extent: NarExtent::default(),
            left: most,
        }
    }

    /// Whether the whole NAR was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.extent.is_done()
    }
}

impl<B: AsyncBufRead + Unpin> AsyncRead for SingleNar<'_, B> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.extent.is_done() {
            return Poll::Ready(Ok(()));
        }
        let available = ready!(Pin::new(&mut *this.source).poll_fill_buf(cx))?;
        if available.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let piece = available
            .get(..available.len().min(out.remaining()))
            .unwrap_or(available);
        let invalid = |e| io::Error::new(io::ErrorKind::InvalidData, e);
        let n = this.extent.advance(piece).map_err(invalid)?;
        out.put_slice(piece.get(..n).unwrap_or(&[]));
        Pin::new(&mut *this.source).consume(n);
        this.left = this
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the NAR is longer than accepted"))?;
        Poll::Ready(Ok(()))
    }
}
