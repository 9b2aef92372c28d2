//! Why a request gave nothing, before it is decided whether to try again.

use std::error::Error as _;
use std::time::Duration;

use firn_service::ports::{CacheError, Trouble};
use reqwest::StatusCode;

use crate::network::{PrivateNetwork, UnknownHost};

/// Why a request gave nothing.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There is no such file (or, without a login, it is not for us: buckets that cannot be listed answer 403).
    Missing {
        /// What was answered.
        status: u16,
    },
    /// Asking again would not help.
    Final(Trouble),
    /// It may pass: no connection, a broken one, silence, 5xx, 429.
    Passing {
        /// What happened.
        trouble: Trouble,
        /// For how long the cache asks to be left alone.
        after: Option<Duration>,
    },
}

impl Fault {
    /// Texts are the rest of a sentence that begins with the cache.
    pub(crate) fn passing(text: impl Into<String>) -> Self {
        Self::Passing {
            trouble: Trouble::Unreachable(text.into()),
            after: None,
        }
    }

    /// It sent what no cache should send.
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::Final(Trouble::Bad(text.into()))
    }

    /// The error for the person who configured the cache.
    pub(crate) fn into_error(self, cache: &str) -> CacheError {
        let trouble = match self {
            Self::Missing { .. } => Trouble::Bad("does not have a file that it names".into()),
            Self::Final(trouble) | Self::Passing { trouble, .. } => trouble,
        };
        CacheError {
            cache: cache.to_owned(),
            trouble,
        }
    }

    /// What a status other than success and redirection means. As in Nix, 404, 410 and 403 say that there is no such file; but to a
    /// login that is not good enough, 403 says so.
    pub(crate) fn of_status(status: StatusCode, with_login: bool, after: Option<Duration>) -> Self {
        let number = status.as_u16();
        match number {
            404 | 410 => Self::Missing { status: number },
            403 if !with_login => Self::Missing { status: number },
            401 | 403 | 407 => Self::Final(Trouble::Login {
                status: number,
                shown: with_login,
            }),
            408 | 425 | 429 | 500.. => Self::Passing {
                trouble: Trouble::Unreachable(format!("answers {status}")),
                after,
            },
            _ => Self::bad(format!("answers {status}")),
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
            if let Some(PrivateNetwork(host)) = inner.downcast_ref() {
                return Self::Final(Trouble::PrivateNetwork(host.clone()));
            }
            if let Some(UnknownHost { host, .. }) = inner.downcast_ref() {
                return Self::Passing {
                    trouble: Trouble::UnknownHost(host.clone()),
                    after: None,
                };
            }
            text = inner.to_string();
            cause = inner.source();
        }
        let text: String = text.chars().take(300).collect();
        if error.is_builder() {
            return Self::bad(format!("cannot be asked: {text}"));
        }
        let what = if error.is_connect() {
            "cannot be reached"
        } else {
            "breaks the connection"
        };
        Self::passing(format!("{what}: {text}"))
    }
}
