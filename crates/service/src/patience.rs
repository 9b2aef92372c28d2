//! What a requester allows a build: its own limits, which end its waiting and nothing else.

use std::time::Duration;

use firn_nix::StorePath;
use firn_protocol::BuildOptions;
use tokio::time::Instant;

use crate::ports::RunFailure;

/// One requester's limits and what is left of them. Time counts from the start of the builder, not in the queue, as Nix has it.
pub(crate) struct Patience<'a> {
    drv_path: &'a StorePath,
    options: BuildOptions,
    /// Bytes of log so far.
    heard: u64,
    whole: Option<Instant>,
    silent: Option<Instant>,
}

impl<'a> Patience<'a> {
    /// Before the start of the builder. Limits of zero are none.
    pub(crate) fn new(drv_path: &'a StorePath, options: BuildOptions) -> Self {
        Self {
            drv_path,
            options: BuildOptions {
                max_silent_time: options.max_silent_time.filter(|&limit| limit > 0),
                timeout: options.timeout.filter(|&limit| limit > 0),
                max_log_size: options.max_log_size.filter(|&limit| limit > 0),
            },
            heard: 0,
            whole: None,
            silent: None,
        }
    }

    /// The builder starts.
    pub(crate) fn begin(&mut self) {
        self.whole = from_now(self.options.timeout);
        self.silent = from_now(self.options.max_silent_time);
    }

    /// It waits in the queue again.
    pub(crate) fn rest(&mut self) {
        (self.whole, self.silent) = (None, None);
    }

    /// Bytes of log have come.
    pub(crate) fn heard(&mut self, bytes: usize) -> Result<(), RunFailure> {
        self.heard += bytes as u64;
        if self.whole.is_some() || self.silent.is_some() {
            self.silent = from_now(self.options.max_silent_time);
        }
        match self.options.max_log_size.filter(|&limit| self.heard > limit) {
            None => Ok(()),
            Some(limit) => Err(RunFailure::LogLimit(format!(
                "building of '{}' wrote more than {limit} bytes of log",
                self.drv_path
            ))),
        }
    }

    /// Waits for the end of the requester's patience, if need be for ever.
    pub(crate) async fn end(&self) -> RunFailure {
        let (limit, of_silence) = tokio::select! {
            () = until(self.whole) => (self.options.timeout, ""),
            () = until(self.silent) => (self.options.max_silent_time, " of silence"),
        };
        RunFailure::TimedOut(format!(
            "building of '{}' timed out after {} seconds{of_silence}",
            self.drv_path,
            limit.unwrap_or_default()
        ))
    }
}

fn from_now(seconds: Option<u64>) -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(seconds?))
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
