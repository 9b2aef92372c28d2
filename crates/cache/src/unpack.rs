//! From the compressed file to a stream of the unpacked bytes, neither too many nor too few.

use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use firn_service::ports::CacheError;
use futures_util::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use crate::decoder::Decoder;

/// Most bytes that are decoded before the task may be given up.
const STEP: usize = 64 << 10;

/// The unpacked bytes of a compressed file. Fails for ever after its first error.
pub(crate) struct Unpacked<S> {
    packed: S,
    decoder: Decoder,
    state: State,
    /// Bytes that may still come out.
    left: u64,
    /// Whether fewer are an error as well.
    exact: bool,
    /// What is unpacked, for errors.
    what: String,
}

enum State {
    Unpacking,
    /// All is out; the compressed file must end here, too.
    Draining,
    Done,
    Failed(CacheError),
}

impl<S: Stream<Item = Result<Bytes, CacheError>> + Unpin> Unpacked<S> {
    pub(crate) fn new(packed: S, decoder: Decoder, size: u64, exact: bool, what: String) -> Self {
        Self {
            packed,
            decoder,
            state: State::Unpacking,
            left: size,
            exact,
            what,
        }
    }

    /// Puts the next chunk into the decoder. False at the end of the file.
    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, CacheError>> {
        loop {
            match ready!(Pin::new(&mut self.packed).poll_next(cx)) {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    self.decoder.feed().push(chunk);
                    return Poll::Ready(Ok(true));
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => {
                    self.decoder.feed().end();
                    return Poll::Ready(Ok(false));
                }
            }
        }
    }

    fn poll_unpack(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<Result<usize, CacheError>> {
        loop {
            match self.decoder.read(out) {
                Ok(n) => return Poll::Ready(Ok(n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_feed(cx))?;
                }
                Err(e) => return Poll::Ready(Err(self.bad(format_args!("cannot be unpacked: {e}")))),
            }
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<Result<(), CacheError>> {
        let mut one_more = [0];
        if matches!(self.state, State::Unpacking) {
            let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(STEP);
            if room == 0 {
                if ready!(self.poll_unpack(cx, &mut one_more))? > 0 {
                    return Poll::Ready(Err(
                        self.bad(format_args!("unpacks to more bytes than were announced"))
                    ));
                }
            } else {
                let n = ready!(self.poll_unpack(cx, out.initialize_unfilled_to(room.min(out.remaining()))))?;
                if n > 0 {
                    out.advance(n);
                    self.left = self.left.saturating_sub(n as u64);
                    return Poll::Ready(Ok(()));
                }
                if self.exact {
                    return Poll::Ready(Err(
                        self.bad(format_args!("unpacks to fewer bytes than were announced"))
                    ));
                }
            }
            self.state = State::Draining;
        }
        if !self.decoder.feed().is_empty() || ready!(self.poll_feed(cx))? {
            return Poll::Ready(Err(self.bad(format_args!("goes on after its end"))));
        }
        self.state = State::Done;
        Poll::Ready(Ok(()))
    }

    fn bad(&self, reason: std::fmt::Arguments<'_>) -> CacheError {
        CacheError::Bad(format!("{} {reason}", self.what))
    }
}

impl<S: Stream<Item = Result<Bytes, CacheError>> + Unpin> AsyncRead for Unpacked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &self.state {
            State::Failed(error) => return Poll::Ready(Err(to_io(error.clone()))),
            State::Done => return Poll::Ready(Ok(())),
            _ if out.remaining() == 0 => return Poll::Ready(Ok(())),
            _ => {}
        }
        ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
        let result = ready!(self.poll_step(cx, out));
        Poll::Ready(result.map_err(|error| {
            self.state = State::Failed(error.clone());
            to_io(error)
        }))
    }
}

/// The inner error can be had back with `get_ref`.
fn to_io(error: CacheError) -> io::Error {
    let kind = match &error {
        CacheError::Bad(_) => io::ErrorKind::InvalidData,
        CacheError::Denied(_) => io::ErrorKind::PermissionDenied,
        CacheError::Unreachable(_) => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error)
}
