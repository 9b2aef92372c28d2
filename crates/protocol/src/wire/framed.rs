//! Framed bodies: `u64 length, bytes` without padding, ended by a frame of length zero (Nix's `FramedSource`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, ReadBuf};

use super::{Lost, WireLimits, WireReader};

/// Reads one framed body; ends where the body ends.
#[derive(Debug)]
pub struct Framed<'a, R> {
    reader: &'a mut WireReader<R>,
    limits: &'a WireLimits,
    header: [u8; 8],
    header_len: usize,
    frame_left: u64,
    total: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Broken,
}

impl<'a, R: AsyncRead + Unpin + Send> Framed<'a, R> {
    /// A body that begins at the reader's next byte.
    pub const fn new(reader: &'a mut WireReader<R>, limits: &'a WireLimits) -> Self {
        Self {
            reader,
            limits,
            header: [0; 8],
            header_len: 0,
            frame_left: 0,
            total: 0,
            state: State::Open,
        }
    }

    /// Whether the client was lost or broke the framing, so that nothing can be read after this body.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// How the client was lost, if it was.
    #[must_use]
    pub const fn loss(&self) -> Option<&Lost> {
        self.reader.loss()
    }

    /// Reads the end of the body; false when bytes come before it.
    ///
    /// # Errors
    /// A lost client or broken framing.
    pub async fn at_end(&mut self) -> io::Result<bool> {
        Ok(self.fill_buf().await?.is_empty())
    }

    /// Reads and throws away the rest of the body, at most [`WireLimits::drain_bytes`].
    ///
    /// # Errors
    /// A lost client, broken framing, or more bytes than that.
    pub async fn drain(&mut self) -> io::Result<()> {
        let mut left = self.limits.drain_bytes;
        loop {
            let n = self.fill_buf().await?.len();
            if n == 0 {
                return Ok(());
            }
            self.consume(n);
            left = left
                .checked_sub(n as u64)
                .ok_or_else(|| self.break_off("the client goes on sending a refused body"))?;
        }
    }

    fn break_off(&mut self, reason: &'static str) -> io::Error {
        self.state = State::Broken;
        io::Error::new(io::ErrorKind::InvalidData, reason)
    }

    /// Number of bytes that are there, zero at the end of the body.
    fn poll_available(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            match self.state {
                State::Open => {}
                State::Ended => return Poll::Ready(Ok(0)),
                State::Broken => {
                    return Poll::Ready(Err(io::Error::other("the body broke off")));
                }
            }
            let available = match ready!(self.reader.poll_ready(cx)) {
                Ok(0) => {
                    self.state = State::Broken;
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(n) => n,
                Err(e) => {
                    self.state = State::Broken;
                    return Poll::Ready(Err(e));
                }
            };
            if self.frame_left > 0 {
                let frame = usize::try_from(self.frame_left).unwrap_or(usize::MAX);
                return Poll::Ready(Ok(available.min(frame)));
            }
            self.read_header(available)?;
        }
    }

    fn read_header(&mut self, available: usize) -> io::Result<()> {
        let n = available.min(self.header.len() - self.header_len);
        let target = self
            .header
            .get_mut(self.header_len..self.header_len + n)
            .unwrap_or(&mut []);
        target.copy_from_slice(self.reader.buffered().get(..n).unwrap_or(&[]));
        self.reader.consume(n);
        self.header_len += n;
        if self.header_len < self.header.len() {
            return Ok(());
        }
        self.header_len = 0;
        self.frame_left = u64::from_le_bytes(self.header);
        self.total = self.total.saturating_add(self.frame_left);
        if self.frame_left == 0 {
            self.state = State::Ended;
        } else if self.frame_left > self.limits.frame_bytes {
            return Err(self.break_off("a frame is longer than accepted"));
        } else if self.total > self.limits.upload_bytes {
            return Err(self.break_off("the body is longer than accepted"));
        }
        Ok(())
    }
}

impl<R: AsyncRead + Unpin + Send> AsyncBufRead for Framed<'_, R> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        let n = ready!(this.poll_available(cx))?;
        Poll::Ready(Ok(this.reader.buffered().get(..n).unwrap_or(&[])))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        let this = self.get_mut();
        this.reader.consume(n);
        this.frame_left = this.frame_left.saturating_sub(n as u64);
    }
}

impl<R: AsyncRead + Unpin + Send> AsyncRead for Framed<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let n = ready!(this.poll_available(cx))?.min(out.remaining());
        out.put_slice(this.reader.buffered().get(..n).unwrap_or(&[]));
        self.consume(n);
        Poll::Ready(Ok(()))
    }
}
