//! What a session is told by whoever opens it.

use std::path::PathBuf;
use std::time::Duration;

use crate::Memory;
use crate::wire::WireLimits;

/// Bounds, deadlines and texts of a session.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// How much a client may make the session read.
    pub limits: WireLimits,
    /// What all sessions may keep in memory of their requests.
    pub memory: Memory,
    /// Whose part of it the session uses.
    pub account: i64,
    /// Shown by `nix store info` as the version of the store; free text.
    pub daemon_version: String,
    /// Refuses the session with this text, as part of the handshake: clients print it and go on without this machine.
    pub refusal: Option<String>,
    /// Whether worker clients are told that they are trusted. Those that are not send derivations to be built as a graph, and take
    /// what they upload to need a signature.
    pub trusted: bool,
    /// Longest time for the handshake, waiting for its first byte included.
    pub handshake_timeout: Duration,
    /// Longest wait for the next bytes inside a request or an upload.
    pub read_timeout: Duration,
    /// Longest wait for a client that takes nothing of what is sent.
    pub write_timeout: Duration,
    /// Longest wait between operations; `None` waits for ever, as build hooks and remote stores need it.
    pub idle_timeout: Option<Duration>,
    /// Bytes of a long upload after which what has come whole is made valid.
    pub checkpoint_bytes: u64,
    /// The same by time, for slow clients.
    pub checkpoint_time: Duration,
    /// High bits of the activity numbers, which must differ between the servers that one client talks to. `None`: random.
    pub activity_base: Option<u64>,
    /// Where archives of unknown size wait until their name is known (`nix-store --import` over `ssh://`, Hydra). Nothing stays there.
    pub spool_dir: PathBuf,
}

impl SessionOptions {
    /// Defaults: trusted, the limits of [`WireLimits::default`], 512 MiB for the requests, 30 s for the handshake, 5 min for reads, 15 min for writes; checkpoints every 256 MiB or minute.
    #[must_use]
    pub fn new(daemon_version: impl Into<String>) -> Self {
        Self {
            limits: WireLimits::default(),
            memory: Memory::new(512 << 20),
            account: 0,
            daemon_version: daemon_version.into(),
            refusal: None,
            trusted: true,
            handshake_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(5 * 60),
            write_timeout: Duration::from_secs(15 * 60),
            idle_timeout: None,
            checkpoint_bytes: 256 << 20,
            checkpoint_time: Duration::from_secs(60),
            activity_base: None,
            spool_dir: std::env::temp_dir(),
        }
    }
}
