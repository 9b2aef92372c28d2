//! The server that a database belongs to, as another one is told.

use std::fmt;

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// Name of its machine.
    pub host: String,
    /// Where its SSH door is.
    pub address: String,
    /// Where it keeps contents.
    pub data_dir: String,
    /// When it started, in seconds since 1970.
    pub since: u64,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            address,
            data_dir,
            since,
        } = self;
        write!(
            f,
            "on host {host}, at {address}, with the data directory {data_dir}"
        )?;
        let since = i64::try_from(*since).ok();
        match since.and_then(|since| jiff::Timestamp::from_second(since).ok()) {
            Some(since) => write!(f, ", since {since}"),
            None => Ok(()),
        }
    }
}
