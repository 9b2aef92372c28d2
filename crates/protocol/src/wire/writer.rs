//! Bytes for the client, buffered until somebody is about to wait.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::Encoder;
use super::stall::Stall;

/// A buffered writer with explicit flushes.
#[derive(Debug)]
pub struct WireWriter<W> {
    inner: W,
    out: Encoder,
    written: usize,
    unflushed: bool,
    stall: Stall,
}

impl<W: AsyncWrite + Unpin> WireWriter<W> {
    /// `stall` is the longest wait for a client that takes nothing.
    pub fn new(inner: W, stall: Option<Duration>) -> Self {
        Self {
            inner,
            out: Encoder::default(),
            written: 0,
            unflushed: false,
            stall: Stall::new(stall),
        }
    }

    /// Where to encode what comes next.
    pub fn out(&mut self) -> &mut Encoder {
        &mut self.out
    }

    /// Bytes that the transport has not taken.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.out.as_bytes().len() - self.written
    }

    /// Hands everything to the transport and flushes it. Dropping the future loses nothing: the next flush goes on where it stopped.
    ///
    /// # Errors
    /// The transport's; `TimedOut` when the client takes nothing for too long.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_drain(cx)).await
    }

    /// Exchanges the empty buffer for a full one, without copying.
    pub(crate) fn swap(&mut self, chunk: &mut Vec<u8>) {
        debug_assert_eq!(self.pending(), 0);
        std::mem::swap(self.out.buffer(), chunk);
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let rest = self.out.as_bytes().get(self.written..).unwrap_or(&[]);
            if rest.is_empty() {
                break;
            }
            match Pin::new(&mut self.inner).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    self.written += n;
                    self.unflushed = true;
                    self.stall.progress();
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return self.poll_stalled(cx),
            }
        }
        self.written = 0;
        self.out.clear();
        if self.unflushed {
            match Pin::new(&mut self.inner).poll_flush(cx) {
                Poll::Ready(done) => done?,
                Poll::Pending => return self.poll_stalled(cx),
            }
            self.unflushed = false;
            self.stall.progress();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stall.poll_expired(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client stopped reading",
        )))
    }
}
