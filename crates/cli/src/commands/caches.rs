//! `trusted-keys`, `substituters`, `logins`: binary caches, whose signatures count, and what is shown at their doors.

use clap::Subcommand;
use firn_core::CacheUrl;
use firn_nix::signature::PublicKey;
use firn_service::ports::Ports;
use firn_service::{AddedCache, CacheState, Desk, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Reply;

/// `trusted-keys …`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
pub enum TrustedKeys {
    /// The keys, the most preferred first
    List,
    /// Believe what a key has signed, whoever brings it
    Add {
        /// As in Nix's trusted-public-keys
        #[arg(value_name = "NAME:BASE64")]
        key: String,
    },
    /// Believe it no more: what only this key has signed is not valid for the account any more
    Remove {
        /// Its name, or the whole key
        #[arg(value_name = "NAME")]
        key: String,
    },
}

impl TrustedKeys {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        match self {
            Self::List => {
                let keys = desk.trusted_keys().await?;
                let row = |key: &PublicKey| json!({ "name": key.name(), "key": key.to_string() });
                Ok(Reply::table(
                    keys.iter().map(row).collect(),
                    &["name", "key"],
                    "no keys are trusted",
                ))
            }
            Self::Add { key } => {
                let key = desk.add_trusted_key(&key).await?;
                Ok(Reply::done(
                    json!({ "name": key.name(), "key": key.to_string() }),
                    &format!("what '{}' has signed is believed now", key.name()),
                ))
            }
            Self::Remove { key } => {
                desk.remove_trusted_key(&key).await?;
                Ok(Reply::done(
                    json!({ "removed": key }),
                    &format!("the key '{key}' is not trusted any more"),
                ))
            }
        }
    }
}

/// `substituters …`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
pub enum Substituters {
    /// The caches, in the order in which they are asked, and how each answered last
    List,
    /// Fetch from this cache too; it is tried at once
    Add {
        /// https://HOST/PATH, with ?priority=N to be asked earlier or later than it says itself
        url: String,
    },
    /// Fetch from it no more
    Remove {
        /// As `substituters list` shows it
        url: String,
    },
    /// Forget what the caches said, and that they failed: everything is asked anew
    Refresh,
}

impl Substituters {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        match self {
            Self::List => {
                let caches = desk.substituters().await?;
                let states = desk.cache_states();
                let rows = caches.iter().map(|cache| row(cache, states.get(&cache.base())));
                Ok(Reply::table(
                    rows.collect(),
                    &["url", "asked", "state", "not_taken"],
                    "no binary cache is asked",
                ))
            }
            Self::Add { url } => {
                let AddedCache { cache, trouble } = desk.add_substituter(&url).await?;
                let warning = trouble.map(|error| error.to_string());
                let value = json!({ "url": cache.to_string(), "warning": warning });
                let reply = Reply::done(value, &format!("{cache} is asked now"));
                let reply = match warning {
                    Some(warning) => reply.hint(&format!(
                        "Warning: {warning}. It is asked all the same, later again."
                    )),
                    None => reply,
                };
                Ok(reply
                    .hint("What comes from it counts only when it is signed by one of your trusted-keys."))
            }
            Self::Remove { url } => {
                desk.remove_substituter(&url).await?;
                Ok(Reply::done(
                    json!({ "removed": url }),
                    &format!("{url} is not asked any more"),
                ))
            }
            Self::Refresh => {
                desk.refresh_substituters();
                Ok(Reply::done(
                    json!({}),
                    "what your substituters said is forgotten: they are asked anew",
                ))
            }
        }
    }
}

/// One cache, and how it answered last.
fn row(cache: &CacheUrl, state: Option<&CacheState>) -> Value {
    let refused = state.and_then(|state| state.refused.as_ref());
    json!({
        "url": cache.to_string(),
        "asked": state.map(|state| state.time),
        "state": match state {
            None => "not asked yet",
            Some(state) => state.trouble.as_deref().unwrap_or("answers"),
        },
        "not_taken": refused.map(|(_, why)| why),
        "not_taken_at": refused.map(|(time, _)| time),
    })
}

/// `logins …`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
pub enum Logins {
    /// Hosts and user names; passwords are never shown
    List,
    /// Keep a login; the password is the next line of input
    Set {
        /// HOST or HOST:PORT
        host: String,
        /// User name; '' where a token is all
        user: String,
    },
    /// Forget a login
    Remove {
        /// HOST or HOST:PORT
        host: String,
    },
}

impl Logins {
    pub(super) async fn run<P: Ports>(
        self,
        desk: &Desk<P>,
        secret: Option<String>,
    ) -> Result<Reply, StoreError> {
        match self {
            Self::List => {
                let logins = desk.logins().await?;
                let row = |(host, user): (String, String)| json!({ "host": host, "user": user });
                Ok(Reply::table(
                    logins.into_iter().map(row).collect(),
                    &["host", "user"],
                    "no logins",
                ))
            }
            Self::Set { host, user } => {
                let password = secret.ok_or_else(|| StoreError::new("the password is missing"))?;
                desk.set_login(&host, &user, &password).await?;
                let reply = Reply::done(
                    json!({ "host": host, "user": user }),
                    &format!("the login for {host} is kept"),
                );
                Ok(reply.hint(
                    "What is fetched with it serves no other account that has not fetched it with its own.",
                ))
            }
            Self::Remove { host } => {
                desk.remove_login(&host).await?;
                Ok(Reply::done(
                    json!({ "removed": host }),
                    &format!("the login for {host} is forgotten"),
                ))
            }
        }
    }
}
