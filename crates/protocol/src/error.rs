//! How a session ends other than well.

use std::io;

use crate::wire::{Lost, WireError};

/// Why a session ended before its client was done. `during` names the operation.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The client went away in the middle of something; whatever it asked for was dropped.
    #[error("the client closed the connection during {during}")]
    Closed {
        /// Operation.
        during: &'static str,
    },
    /// The client sent or took nothing for longer than the session waits, in the middle of something.
    #[error("the client stalled during {during}")]
    Stalled {
        /// Operation.
        during: &'static str,
    },
    /// The client broke the protocol.
    #[error("protocol violation during {during}: {field}: {reason}")]
    Protocol {
        /// Operation.
        during: &'static str,
        /// The protocol documentation's name for the value.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The client's store directory is another one; the sentence names a path of its.
    #[error("{0}")]
    OtherStore(String),
    /// The session was refused, and the client told so: by [`SessionOptions::refusal`](crate::SessionOptions::refusal), or by an
    /// error in the serve protocol, which knows no other way to report one, or because there is no memory for a request.
    #[error("refused: {0}")]
    Refused(String),
    /// The transport failed.
    #[error("transport failed during {during}: {source}")]
    Io {
        /// Operation.
        during: &'static str,
        /// What the transport says.
        source: io::Error,
    },
    /// The store's own stream broke off when the client had been promised all of it.
    #[error("the archive broke off during {during}: {source}")]
    Archive {
        /// Operation.
        during: &'static str,
        /// What the stream says.
        source: io::Error,
    },
}

impl SessionError {
    pub(crate) fn from_wire(during: &'static str, error: WireError) -> Self {
        match error {
            WireError::Ended { .. } => Self::Closed { during },
            WireError::Invalid { field, reason } => Self::Protocol {
                during,
                field,
                reason,
            },
            error @ WireError::OtherStore(_) => Self::OtherStore(error.to_string()),
            WireError::Io(source) => Self::from_io(during, source),
            WireError::Busy(busy) => Self::Refused(busy.to_string()),
        }
    }

    pub(crate) fn from_io(during: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::TimedOut => Self::Stalled { during },
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::WriteZero => Self::Closed { during },
            _ => Self::Io { during, source },
        }
    }

    /// Whether the client went away between two requests, however its transport tells of it: most clients end so.
    pub(crate) fn is_departure(error: &io::Error) -> bool {
        matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
        )
    }

    pub(crate) fn from_loss(during: &'static str, lost: &Lost) -> Self {
        Self::from_io(during, lost.to_io())
    }
}
