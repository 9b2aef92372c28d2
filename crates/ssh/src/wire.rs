//! The TCP connection under the SSH protocol: back-pressure, and noticing a peer that has gone.
//!
//! russh grants a client more window as soon as data arrives, whether or not anybody took it, and its only brake
//! is to block the loop that also sends output and keepalives. So the brake is here: while too much is queued,
//! [`Wire`] reads nothing from the network, and the rest of the loop runs on.
//!
//! There is one exception. A session may wait for the client to take output while it leaves its input alone; the
//! client's permission to send more output, or its part of a key exchange, then stands in line behind its data. While an output is so starved,
//! reading goes on to a higher limit. And so that not much stands in that line, a client whose data is not taken
//! as it comes is granted only a narrow window.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Input that may be queued for the sessions of one connection, in bytes.
const ENOUGH: usize = 4 * 1024 * 1024;
/// The same, while an output waits for the client.
const ENOUGH_WHILE_STARVED: usize = 32 * 1024 * 1024;
/// What a client may send ahead while the sessions take it as it comes, in bytes. It bounds the throughput over a
/// long way, to this much per round trip; but the OpenSSH client moves all of it in memory again and again, and with
/// 16 MiB spends three times the processor time of 4 MiB.
pub(crate) const WIDE_WINDOW: u32 = 4 * 1024 * 1024;
/// What a client may send ahead while the sessions are slower than the network, in bytes.
const NARROW_WINDOW: u32 = 256 * 1024;
/// What is read from the network at a time, in bytes.
const READ_SIZE: usize = 128 * 1024;
/// How often a connection that is not read is asked whether its peer has closed it.
const PEEK_INTERVAL: Duration = Duration::from_millis(500);

/// What the sessions of a connection share with its [`Wire`].
#[derive(Default)]
pub(crate) struct Link(Mutex<Flow>);

#[derive(Default)]
struct Flow {
    /// Bytes of input that no session has taken yet.
    queued: usize,
    /// Outputs that wait for something from the client.
    starved: usize,
    /// Why the connection must end.
    cut: Option<&'static str>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Reading {
    /// Read on.
    Open,
    /// Enough is queued; a session will take some.
    Paused,
    /// Enough is queued, and the sessions wait for the client.
    Stuck,
}

impl Link {
    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn queued(&self, bytes: usize) {
        self.flow().queued += bytes;
    }

    pub(crate) fn taken(&self, bytes: usize) {
        self.change(|flow| flow.queued = flow.queued.saturating_sub(bytes));
    }

    /// What each of `channels` channels may send ahead from now on.
    pub(crate) fn window(&self, channels: usize) -> u32 {
        let flow = self.flow();
        if flow.starved > 0 || flow.queued > ENOUGH / 2 {
            return NARROW_WINDOW;
        }
        let channels = u32::try_from(channels).unwrap_or(u32::MAX);
        (WIDE_WINDOW / channels.max(1)).max(NARROW_WINDOW)
    }

    /// Marks an output as waiting for the client until the guard is dropped.
    pub(crate) fn starve(&self) -> Starved<'_> {
        self.change(|flow| flow.starved += 1);
        Starved(self)
    }

    /// Ends the connection: every read and write fails from now on.
    pub(crate) fn cut(&self, reason: &'static str) {
        let mut flow = self.flow();
        flow.cut.get_or_insert(reason);
        let wakers = [flow.reader.take(), flow.writer.take()];
        drop(flow);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn change(&self, change: impl FnOnce(&mut Flow)) {
        let mut flow = self.flow();
        change(&mut flow);
        let reader = if flow.is_full() { None } else { flow.reader.take() };
        drop(flow);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn reading(&self, context: &Context<'_>) -> Result<Reading> {
        let mut flow = self.flow();
        flow.check_cut()?;
        flow.reader = Some(context.waker().clone());
        Ok(match (flow.is_full(), flow.starved) {
            (false, _) => Reading::Open,
            (true, 0) => Reading::Paused,
            (true, _) => Reading::Stuck,
        })
    }

    fn writing(&self, context: &Context<'_>) -> Result<()> {
        let mut flow = self.flow();
        flow.check_cut()?;
        flow.writer = Some(context.waker().clone());
        Ok(())
    }
}

impl Flow {
    fn is_full(&self) -> bool {
        self.queued
            >= if self.starved == 0 {
                ENOUGH
            } else {
                ENOUGH_WHILE_STARVED
            }
    }

    fn check_cut(&self) -> Result<()> {
        match self.cut {
            Some(reason) => Err(Error::new(ErrorKind::ConnectionAborted, reason)),
            None => Ok(()),
        }
    }
}

/// An output that waits for the client.
pub(crate) struct Starved<'a>(&'a Link);

impl Drop for Starved<'_> {
    fn drop(&mut self) {
        self.0.change(|flow| flow.starved -= 1);
    }
}

/// A TCP connection with back-pressure, that fails when the peer has been silent for too long.
pub(crate) struct Wire {
    tcp: TcpStream,
    link: Arc<Link>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    patience: Duration,
    heard: Instant,
    silence: Pin<Box<Sleep>>,
    peek: Pin<Box<Sleep>>,
    /// Bytes at the beginning of the output that the peer already has.
    already_sent: usize,
    write_stalled: bool,
    write_deadline: Pin<Box<Sleep>>,
}

impl Wire {
    /// `patience` is how long the peer may send nothing, and may take nothing of what it is sent.
    pub(crate) fn new(tcp: TcpStream, link: Arc<Link>, patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            tcp,
            link,
            buffer: vec![0; READ_SIZE].into_boxed_slice(),
            start: 0,
            end: 0,
            patience,
            heard: now,
            silence: Box::pin(sleep_until(now + patience)),
            peek: Box::pin(sleep_until(now)),
            already_sent: 0,
            write_stalled: false,
            write_deadline: Box::pin(sleep_until(now)),
        }
    }

    /// For a conversation that has begun: `received` is read first, and the first `sent` bytes of the output are
    /// not sent again.
    pub(crate) fn resume(mut self, received: &[u8], sent: usize) -> Self {
        if let Some(space) = self.buffer.get_mut(..received.len()) {
            space.copy_from_slice(received);
            self.end = received.len();
        }
        self.already_sent = sent;
        self
    }

    /// Waits until the peer has been silent for too long. Sleeps are moved only when they ring: once per
    /// `patience`, not once per packet.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        loop {
            ready!(self.silence.as_mut().poll(context));
            let deadline = self.heard + self.patience;
            if deadline <= Instant::now() {
                return Poll::Ready(Error::new(
                    ErrorKind::TimedOut,
                    "the client gives no sign of life",
                ));
            }
            self.silence.as_mut().reset(deadline);
        }
    }

    /// Waits until the peer has closed a connection that is not being read.
    fn poll_peer_closed(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        loop {
            ready!(self.peek.as_mut().poll(context));
            if self.peer_closed() {
                return Poll::Ready(Error::new(ErrorKind::ConnectionReset, "the client disconnected"));
            }
            self.peek.as_mut().reset(Instant::now() + PEEK_INTERVAL);
        }
    }

    fn peer_closed(&self) -> bool {
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut fds = [PollFd::new(&self.tcp, gone)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&at_once)).is_ok() && fds.iter().any(|fd| fd.revents().intersects(gone))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        match this.link.reading(context)? {
            Reading::Open => {}
            Reading::Paused => {
                // What the peer sends now is not looked at, so its silence means nothing.
                this.heard = Instant::now();
                return this.poll_peer_closed(context).map(Err);
            }
            Reading::Stuck => {
                if let Poll::Ready(error) = this.poll_peer_closed(context) {
                    return Poll::Ready(Err(error));
                }
                return this.poll_silence(context).map(Err);
            }
        }
        if this.start == this.end {
            let mut fresh = ReadBuf::new(&mut this.buffer);
            if Pin::new(&mut this.tcp)
                .poll_read(context, &mut fresh)?
                .is_pending()
            {
                return this.poll_silence(context).map(Err);
            }
            this.start = 0;
            this.end = fresh.filled().len();
            this.heard = Instant::now();
        }
        let available = this.buffer.get(this.start..this.end).unwrap_or_default();
        let length = available.len().min(buf.remaining());
        buf.put_slice(available.get(..length).unwrap_or_default());
        this.start += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        this.link.writing(context)?;
        if this.already_sent > 0 {
            let length = data.len().min(this.already_sent);
            this.already_sent -= length;
            return Poll::Ready(Ok(length));
        }
        if let Poll::Ready(written) = Pin::new(&mut this.tcp).poll_write(context, data) {
            this.write_stalled = false;
            return Poll::Ready(written);
        }
        if !this.write_stalled {
            this.write_stalled = true;
            this.write_deadline.as_mut().reset(Instant::now() + this.patience);
        }
        ready!(this.write_deadline.as_mut().poll(context));
        Poll::Ready(Err(Error::new(
            ErrorKind::TimedOut,
            "the client takes nothing of what it is sent",
        )))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}
