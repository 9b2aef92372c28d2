//! How a command ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a command ended and what it used. Every process of the sandbox is gone by the time this exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The ending.
    pub status: ExitKind,
    /// CPU time in user mode of the command and the children it waited for.
    pub user: Duration,
    /// CPU time in the kernel, likewise.
    pub system: Duration,
    /// Largest resident set of any one process, in bytes.
    pub max_rss_bytes: u64,
    /// From the start of the command (not of the helper) to its end.
    pub wall: Duration,
    /// Bytes of output delivered.
    pub log_bytes: u64,
}

impl Exit {
    /// Whether the command itself ended with exit status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status == ExitKind::Exited(0)
    }

    pub(crate) fn unstarted(status: ExitKind) -> Self {
        Self {
            status,
            user: Duration::ZERO,
            system: Duration::ZERO,
            max_rss_bytes: 0,
            wall: Duration::ZERO,
            log_bytes: 0,
        }
    }
}

/// The ways to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitKind {
    /// It exited with this status.
    Exited(i32),
    /// It was killed by this signal, and not by us.
    Signalled(i32),
    /// Stopped: [`Limits::wall`](crate::Limits::wall).
    TimedOut,
    /// Stopped: [`Limits::silent`](crate::Limits::silent).
    SilentTimedOut,
    /// Stopped: [`Limits::log_bytes`](crate::Limits::log_bytes).
    LogLimit,
    /// Stopped: the caller asked for it.
    Cancelled,
    /// The program could not be executed (absent, not executable, arguments too long, …): the request's own doing.
    NotExecutable(String),
    /// The sandbox could not be set up: this machine's doing. Names the step, the path and the error.
    SetupFailed(String),
}
