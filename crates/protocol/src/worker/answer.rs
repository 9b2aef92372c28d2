//! What can become of a request.

use crate::drive::Interrupted;
use crate::wire::WireError;
use crate::{SessionError, StoreError};

/// Why a request has no reply.
#[derive(Debug)]
pub(super) enum Failure {
    /// The store said no; the client is told, the session goes on.
    Refused(StoreError),
    /// The client has been told already; the session goes on.
    Told,
    /// The session is over.
    Fatal(SessionError),
}

impl Failure {
    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self::Refused(StoreError::new(text))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self::Fatal(error)
    }
}

/// Why a body was not taken.
#[derive(Debug)]
pub(super) enum BodyError {
    /// The store said no.
    Store(StoreError),
    /// It could not be read.
    Wire(WireError),
}

impl BodyError {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Store(error) => error.message.clone(),
            Self::Wire(error) => error.to_string(),
        }
    }
}

impl From<StoreError> for BodyError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<WireError> for BodyError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<std::io::Error> for BodyError {
    fn from(error: std::io::Error) -> Self {
        Self::Wire(error.into())
    }
}

/// Both ways in which a driven request can fail, as one.
pub(super) fn flatten<T>(
    during: &'static str,
    result: Result<Result<T, StoreError>, Interrupted>,
) -> Result<T, Failure> {
    match result {
        Ok(done) => done.map_err(Failure::Refused),
        Err(interrupted) => Err(Failure::Fatal(interrupted.into_session(during))),
    }
}
