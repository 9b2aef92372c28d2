//! stdout and stderr of a session: filled by the session, emptied by the task that sends to the client.
//!
//! Small writes are gathered until a flush or until they fill a packet, so that a protocol that writes eight
//! bytes at a time does not send eight bytes at a time.

use std::io::{ErrorKind, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// What may wait for the client, in bytes.
const CAPACITY: usize = 256 * 1024;
/// What is sent without waiting for a flush, in bytes: the largest packet OpenSSH takes.
pub(crate) const FULL_PACKET: usize = 32 * 1024;

/// When bytes may leave without a flush.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Send {
    /// When a packet is full.
    FullPackets,
    /// At once.
    AtOnce,
}

/// The session's end.
pub(crate) struct Output(Arc<Shared>);

/// The sending task's end.
#[derive(Clone)]
pub(crate) struct Outbox(Arc<Shared>);

struct Shared {
    send: Send,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    buffer: BytesMut,
    /// What is in the buffer should leave.
    due: bool,
    /// Nothing more is written.
    finished: bool,
    /// Nothing more can be sent.
    broken: bool,
    writer: Option<Waker>,
    sender: Option<Waker>,
}

pub(crate) fn output(send: Send) -> (Output, Outbox) {
    let shared = Arc::new(Shared {
        send,
        state: Mutex::default(),
    });
    (Output(shared.clone()), Outbox(shared))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        let mut state = self.0.state();
        if state.broken || state.finished {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let length = data.len().min(CAPACITY.saturating_sub(state.buffer.len()));
        if length == 0 && !data.is_empty() {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        state
            .buffer
            .extend_from_slice(data.get(..length).unwrap_or_default());
        if self.0.send == Send::AtOnce || state.buffer.len() >= FULL_PACKET {
            state.due = true;
            let sender = state.sender.take();
            drop(state);
            wake(sender);
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut state = self.0.state();
        if state.broken {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        state.due = true;
        let sender = state.sender.take();
        drop(state);
        wake(sender);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(context)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.due = true;
        let sender = state.sender.take();
        drop(state);
        wake(sender);
    }
}

impl Outbox {
    /// The next bytes to send; `None` when the session has written its last and all of it was taken.
    pub(crate) async fn next(&self) -> Option<Bytes> {
        std::future::poll_fn(|context| {
            let mut state = self.0.state();
            if !state.buffer.is_empty() && (state.due || state.finished) {
                state.due = false;
                let bytes = state.buffer.split().freeze();
                let writer = state.writer.take();
                drop(state);
                wake(writer);
                return Poll::Ready(Some(bytes));
            }
            if state.finished {
                return Poll::Ready(None);
            }
            state.due = false;
            state.sender = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The session has ended: what it has written is all. Dropping the session's end is not enough, because a
    /// session that panicked drops it before the last word is said.
    pub(crate) fn finish(&self) {
        let mut state = self.0.state();
        state.finished = true;
        let wakers = (state.writer.take(), state.sender.take());
        drop(state);
        wake(wakers.0);
        wake(wakers.1);
    }

    /// A last word after the session's own, which may not have finished in order.
    pub(crate) fn append(&self, text: &str) {
        let mut state = self.0.state();
        state.buffer.extend_from_slice(text.as_bytes());
        state.due = true;
        let sender = state.sender.take();
        drop(state);
        wake(sender);
    }

    /// Nothing more can be sent.
    pub(crate) fn break_off(&self) {
        let mut state = self.0.state();
        state.broken = true;
        state.buffer = BytesMut::new();
        let writer = state.writer.take();
        drop(state);
        wake(writer);
    }
}
