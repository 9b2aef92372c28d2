//! The limits of the front door.

use std::time::Duration;

use crate::Ciphers;

/// Limits and deadlines of the front door. [`Config::default`] suits a public service.
#[derive(Clone, Debug)]
pub struct Config {
    /// Sessions one account may have at a time, over all its connections. Every remote build is one.
    pub max_sessions_per_account: usize,
    /// Open channels of one connection (OpenSSH's `ControlMaster` shares one connection between sessions).
    pub max_channels_per_connection: usize,
    /// Connections at a time that have logged in. One more makes room: one of the account with the most loses its place. Of one account
    /// there are never many more than it may have sessions.
    pub max_connections: usize,
    /// Connections at a time that have not logged in yet. One more makes room: the oldest of the address with the most loses its place.
    pub max_unauthenticated: usize,
    /// Keys a client may offer in vain before it is disconnected. Agents offer every key they hold.
    pub max_auth_attempts: usize,
    /// From the TCP connection to the end of authentication.
    pub login_timeout: Duration,
    /// How long the client may be silent before it is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// Unanswered questions before the connection is given up, after
    /// `keepalive_interval * (keepalive_misses + 1)` of silence.
    pub keepalive_misses: u32,
    /// How long a session may go on after its client has gone, before it is dropped.
    pub abandon_grace: Duration,
    /// How long sessions may go on after the shutdown has begun.
    pub shutdown_grace: Duration,
    /// Which ciphers clients are offered.
    pub ciphers: Ciphers,
}

impl Config {
    /// Silence after which a client counts as gone.
    pub fn patience(&self) -> Duration {
        self.keepalive_interval
            .saturating_mul(self.keepalive_misses.saturating_add(1))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_sessions_per_account: 256,
            max_channels_per_connection: 64,
            max_connections: 4096,
            max_unauthenticated: 256,
            max_auth_attempts: 12,
            login_timeout: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(20),
            keepalive_misses: 3,
            abandon_grace: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(60),
            ciphers: Ciphers::default(),
        }
    }
}
