//! The log on its way from the terminal to standard output.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// How much is taken before it has to be delivered.
const CHUNK: usize = 64 << 10;

/// Holds at most one chunk: while it cannot be delivered nothing more is taken from the terminal, and the command waits.
pub(super) struct Output {
    master: Option<OwnedFd>,
    chunk: Box<[u8]>,
    /// What of the chunk is still to be delivered.
    pending: std::ops::Range<usize>,
    delivered: u64,
    cap: u64,
    over: bool,
}

impl Output {
    pub(super) fn new(master: OwnedFd, cap: Option<u64>) -> Self {
        Self {
            master: Some(master),
            chunk: vec![0; CHUNK].into(),
            pending: 0..0,
            delivered: 0,
            cap: cap.unwrap_or(u64::MAX),
            over: false,
        }
    }

    /// Where more comes from; `None` while a chunk waits and after the end.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.master.as_ref().filter(|_| !self.waiting()).map(AsFd::as_fd)
    }

    /// Whether a chunk waits for the reader.
    pub(super) fn waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether the command wrote more than it may.
    pub(super) fn over_limit(&self) -> bool {
        self.over
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Forget what is not delivered yet and take no more.
    pub(super) fn stop(&mut self) {
        self.pending = 0..0;
        self.master = None;
    }

    /// Take what there is. Whether there was anything.
    pub(super) fn fill(&mut self) -> bool {
        if self.waiting() {
            return false;
        }
        let mut length = 0;
        while let (Some(master), Some(free)) = (
            &self.master,
            self.chunk.get_mut(length..).filter(|f| !f.is_empty()),
        ) {
            match rustix::io::read(master, free) {
                Ok(more @ 1..) => length += more,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // EIO is how a terminal says that nobody has its other end.
                Ok(0) | Err(_) => self.master = None,
            }
        }
        let left = usize::try_from(self.cap - self.delivered).unwrap_or(usize::MAX);
        if length > left {
            self.over = true;
            self.master = None;
        }
        self.pending = 0..length.min(left);
        length > 0
    }

    /// Deliver what the reader takes now. An error means that there is no reader.
    pub(super) fn flush(&mut self, to: BorrowedFd<'_>) -> Result<(), Errno> {
        while let Some(bytes) = self.chunk.get(self.pending.clone()).filter(|b| !b.is_empty()) {
            match rustix::io::write(to, bytes) {
                Ok(written) => {
                    self.pending.start += written;
                    self.delivered += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
