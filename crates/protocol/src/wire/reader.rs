//! The client's bytes, buffered.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use super::stall::Stall;

const CAPACITY: usize = 64 << 10;

/// How a client was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// End of the stream.
    Closed,
    /// It sent nothing for longer than a session waits in the middle of a request.
    Stalled,
    /// The transport failed.
    Io(io::ErrorKind, String),
}

impl Lost {
    /// As an error of a read.
    #[must_use]
    pub fn to_io(&self) -> io::Error {
        match self {
            Self::Closed => io::Error::new(io::ErrorKind::UnexpectedEof, "the client closed the connection"),
            Self::Stalled => io::Error::new(io::ErrorKind::TimedOut, "the client stopped sending"),
            Self::Io(kind, text) => io::Error::new(*kind, text.clone()),
        }
    }
}

/// A buffered reader that knows how its client was lost. Reads through [`AsyncBufRead`] are under the stall deadline; those of
/// [`WireReader::ready`] and [`WireReader::lost`] wait for ever.
#[derive(Debug)]
pub struct WireReader<R> {
    inner: R,
    buf: Box<[u8]>,
    pos: usize,
    end: usize,
    stall: Stall,
    lost: Option<Lost>,
}

impl<R: AsyncRead + Unpin> WireReader<R> {
    /// `stall` is the longest wait for the next bytes inside a request.
    pub fn new(inner: R, stall: Option<Duration>) -> Self {
        Self {
            inner,
            buf: vec![0; CAPACITY].into_boxed_slice(),
            pos: 0,
            end: 0,
            stall: Stall::new(stall),
            lost: None,
        }
    }

    /// What was read and not consumed.
    #[must_use]
    pub fn buffered(&self) -> &[u8] {
        self.buf.get(self.pos..self.end).unwrap_or(&[])
    }

    /// How the client was lost, if it was.
    #[must_use]
    pub const fn loss(&self) -> Option<&Lost> {
        self.lost.as_ref()
    }

    /// Waits, without a deadline, until a byte is there; false at the end of the stream.
    ///
    /// # Errors
    /// The transport's.
    pub async fn ready(&mut self) -> io::Result<bool> {
        self.stall.progress();
        if self.buffered().is_empty() {
            poll_fn(|cx| self.poll_more(cx, false)).await?;
        }
        Ok(!self.buffered().is_empty())
    }

    /// Resolves when the client goes away. Bytes that come meanwhile are kept; once the buffer is full nothing more is noticed.
    pub async fn lost(&mut self) -> Lost {
        loop {
            if let Some(lost) = &self.lost {
                return lost.clone();
            }
            // The outcome is in `self.lost`.
            let _ = poll_fn(|cx| self.poll_more(cx, false)).await;
        }
    }

    /// Number of buffered bytes, at least one unless the stream ended.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffered().is_empty() {
            ready!(self.poll_more(cx, true))?;
        }
        Poll::Ready(Ok(self.end - self.pos))
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.pos = self.end.min(self.pos + n);
    }

    /// Reads once into the free part of the buffer.
    fn poll_more(&mut self, cx: &mut Context<'_>, deadline: bool) -> Poll<io::Result<()>> {
        match &self.lost {
            Some(Lost::Closed) => return Poll::Ready(Ok(())),
            Some(lost) => return Poll::Ready(Err(lost.to_io())),
            None => {}
        }
        if self.pos == self.end {
            (self.pos, self.end) = (0, 0);
        } else if self.end == self.buf.len() && self.pos > 0 {
            self.buf.copy_within(self.pos..self.end, 0);
            (self.pos, self.end) = (0, self.end - self.pos);
        }
        let free = self.buf.get_mut(self.end..).unwrap_or(&mut []);
        if free.is_empty() {
            return Poll::Pending;
        }
        let mut target = ReadBuf::new(free);
        let lost = match Pin::new(&mut self.inner).poll_read(cx, &mut target) {
            Poll::Pending if deadline && self.stall.poll_expired(cx).is_ready() => Lost::Stalled,
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => match target.filled().len() {
                0 => Lost::Closed,
                n => {
                    self.end += n;
                    self.stall.progress();
                    return Poll::Ready(Ok(()));
                }
            },
            Poll::Ready(Err(e)) => Lost::Io(e.kind(), e.to_string()),
        };
        let result = match &lost {
            Lost::Closed => Ok(()),
            other => Err(other.to_io()),
        };
        self.lost = Some(lost);
        Poll::Ready(result)
    }
}

impl<R: AsyncRead + Unpin> AsyncBufRead for WireReader<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_ready(cx))?;
        Poll::Ready(Ok(this.buffered()))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        Self::consume(self.get_mut(), n);
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for WireReader<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let n = ready!(this.poll_ready(cx))?.min(out.remaining());
        out.put_slice(this.buffered().get(..n).unwrap_or(&[]));
        Self::consume(this, n);
        Poll::Ready(Ok(()))
    }
}
