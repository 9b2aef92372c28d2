//! Why a request gave nothing, before it is decided whether to try again.

use std::error::Error as _;
use std::time::Duration;

use firn_service::ports::CacheError;
use reqwest::StatusCode;

use crate::network::PrivateNetwork;

/// Texts are the rest of a sentence that begins with the cache.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There is no such file (or, without a login, it is not for us: buckets that cannot be listed answer 403).
    Missing,
    /// It wants a login, or another one.
    Denied(String),
    /// It sent what no cache should send; asking again would not help.
    Bad(String),
    /// It may pass: no connection, a broken one, silence, 5xx, 429.
    Passing {
        /// What happened.
        text: String,
        /// For how long the cache asks to be left alone.
        after: Option<Duration>,
    },
}

impl Fault {
    pub(crate) fn passing(text: impl Into<String>) -> Self {
        Self::Passing {
            text: text.into(),
            after: None,
        }
    }

    /// The error for the person who configured the cache.
    pub(crate) fn into_error(self, cache: &str) -> CacheError {
        match self {
            Self::Missing => {
                CacheError::Bad(format!("the cache '{cache}' does not have a file that it names"))
            }
            Self::Denied(text) => CacheError::Denied(format!("the cache '{cache}' {text}")),
            Self::Bad(text) => CacheError::Bad(format!("the cache '{cache}' {text}")),
            Self::Passing { text, .. } => CacheError::Unreachable(format!("the cache '{cache}' {text}")),
        }
    }

    /// What a status other than success and redirection means. As in Nix, 404, 410 and 403 say that there is no such file; but to a
    /// login that is not good enough, 403 says so.
    pub(crate) fn of_status(status: StatusCode, with_login: bool, after: Option<Duration>) -> Self {
        match status.as_u16() {
            404 | 410 => Self::Missing,
            403 if !with_login => Self::Missing,
            401 | 403 | 407 if with_login => {
                Self::Denied(format!("refuses the login for its host ({status})"))
            }
            401 | 403 | 407 => Self::Denied(format!("wants a login ({status})")),
            408 | 425 | 429 | 500.. => Self::Passing {
                text: format!("answers {status}"),
                after,
            },
            _ => Self::Bad(format!("answers {status}")),
        }
    }
}

/// What the HTTP client says, without the address, as that may hold secrets.
impl From<reqwest::Error> for Fault {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut cause = error.source();
        let mut text = error.to_string();
        while let Some(inner) = cause {
            if let Some(private) = inner.downcast_ref::<PrivateNetwork>() {
                return Self::Bad(format!("cannot be used: {private}"));
            }
            text = inner.to_string();
            cause = inner.source();
        }
        let text: String = text.chars().take(300).collect();
        if error.is_builder() {
            return Self::Bad(format!("cannot be asked: {text}"));
        }
        let what = if error.is_connect() {
            "cannot be reached"
        } else {
            "breaks the connection"
        };
        Self::passing(format!("{what}: {text}"))
    }
}
