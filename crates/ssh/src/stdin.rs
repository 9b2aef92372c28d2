//! stdin of a session: filled by the connection, emptied by the session.
//!
//! The queue has no bound of its own. [`Link`] counts what is queued over all channels of the connection and
//! stops reading from the network; a bound here would have to block the connection, which also carries the
//! session's output, the keepalives and the client's good-bye.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, ReadBuf};

use crate::wire::Link;

/// What a queued packet counts for beyond its bytes, so that many small packets are bounded too.
const PACKET_COST: usize = 64;

/// The connection's end: data goes in.
#[derive(Clone)]
pub(crate) struct StdinFeed(Arc<Shared>);

/// The session's end: data comes out.
pub(crate) struct Stdin(Arc<Shared>);

struct Shared {
    link: Arc<Link>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    end: Option<End>,
    deaf: bool,
    reader: Option<Waker>,
}

#[derive(Clone, Copy)]
enum End {
    /// The client closed its side; what is queued is still delivered.
    Eof,
    /// The client has gone.
    Gone,
}

pub(crate) fn stdin(link: Arc<Link>) -> (StdinFeed, Stdin) {
    let shared = Arc::new(Shared {
        link,
        state: Mutex::default(),
    });
    (StdinFeed(shared.clone()), Stdin(shared))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, state: &mut State) {
        let queued = state
            .queue
            .drain(..)
            .map(|packet| packet.len() + PACKET_COST)
            .sum();
        self.link.taken(queued);
    }
}

impl StdinFeed {
    /// More from the client. Dropped when nobody will read it.
    pub(crate) fn push(&self, data: &[u8]) {
        let mut state = self.0.state();
        if data.is_empty() || state.deaf || state.end.is_some() {
            return;
        }
        self.0.link.queued(data.len() + PACKET_COST);
        state.queue.push_back(Bytes::copy_from_slice(data));
        wake(state);
    }

    /// The client closed its side.
    pub(crate) fn eof(&self) {
        let mut state = self.0.state();
        if state.end.is_none() {
            state.end = Some(End::Eof);
            wake(state);
        }
    }

    /// The client has gone. After an end of file this changes nothing: all of stdin has arrived.
    pub(crate) fn gone(&self) {
        let mut state = self.0.state();
        if state.end.is_none() {
            state.end = Some(End::Gone);
            self.0.forget(&mut state);
            wake(state);
        }
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl AsyncRead for Stdin {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let mut state = self.0.state();
        let mut taken = 0;
        while buf.remaining() > 0
            && let Some(packet) = state.queue.front_mut()
        {
            let length = packet.len().min(buf.remaining());
            buf.put_slice(packet.get(..length).unwrap_or_default());
            packet.advance(length);
            taken += length;
            if packet.is_empty() {
                state.queue.pop_front();
                taken += PACKET_COST;
            }
        }
        if taken > 0 || buf.remaining() == 0 {
            drop(state);
            self.0.link.taken(taken);
            return Poll::Ready(Ok(()));
        }
        match state.end {
            Some(End::Eof) => Poll::Ready(Ok(())),
            Some(End::Gone) => Poll::Ready(Err(Error::new(
                ErrorKind::ConnectionAborted,
                "the client disconnected",
            ))),
            None => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.deaf = true;
        self.0.forget(&mut state);
    }
}
