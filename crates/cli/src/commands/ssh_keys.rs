//! `ssh-keys`

use clap::Subcommand;
use firn_service::ports::{Ports, SshKey};
use firn_service::{Clock as _, Desk, StoreError, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Caller, Reply};

/// `ssh-keys …`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
pub enum SshKeys {
    /// The account's keys
    List,
    /// Let a key act for the account
    Add {
        /// A line as in a .pub file: TYPE BASE64 [COMMENT]; with `firn ssh-keys add` on the server also the file, or '-'
        #[arg(required = true)]
        line: Vec<String>,
    },
    /// Let a key act for the account no more
    Remove {
        /// As `ssh-keys list` shows it
        fingerprint: String,
        /// Even if nobody can log in any more; the operator can add a key
        #[arg(long)]
        yes_last: bool,
    },
}

impl SshKeys {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>, caller: &Caller) -> Result<Reply, StoreError> {
        match self {
            Self::List => {
                let rows = desk.ssh_keys().await?.into_iter().map(|key| {
                    json!({
                        "fingerprint": key.fingerprint,
                        "algorithm": key.algorithm,
                        "comment": key.comment,
                        "added": key.added,
                        "in_use": *caller == Caller::Account(Some(key.fingerprint.clone())),
                    })
                });
                let columns: &[&str] = match caller {
                    Caller::Operator => &["fingerprint", "algorithm", "comment", "added"],
                    Caller::Account(_) => &["fingerprint", "algorithm", "comment", "added", "in_use"],
                };
                Ok(Reply::table(
                    rows.collect(),
                    columns,
                    "no keys; add one with: ssh-keys add LINE",
                ))
            }
            Self::Add { line } => {
                let key = read(&line.join(" "))?;
                desk.add_ssh_key(&key).await?;
                let (fingerprint, name) = (&key.fingerprint, &desk.account().name);
                Ok(Reply::done(
                    json!({ "fingerprint": fingerprint, "algorithm": key.algorithm, "comment": key.comment }),
                    &format!("the key {fingerprint} acts for account '{name}' now"),
                ))
            }
            Self::Remove {
                fingerprint,
                yes_last,
            } => {
                let keys = desk.ssh_keys().await?;
                let last = keys.iter().all(|key| key.fingerprint == fingerprint);
                if last && !keys.is_empty() && !yes_last && *caller != Caller::Operator {
                    return Err(StoreError::new(
                        "this is the last key: without it you cannot log in any more; add another one first, or say --yes-last",
                    ));
                }
                desk.remove_ssh_key(&fingerprint).await?;
                let name = &desk.account().name;
                Ok(Reply::done(
                    json!({ "removed": fingerprint }),
                    &format!(
                        "the key {fingerprint} acts for account '{name}' no more; sessions that run go on"
                    ),
                ))
            }
        }
    }
}

/// The key in a line of a `.pub` file.
///
/// # Errors
/// What is wrong with it.
pub fn read(line: &str) -> Result<SshKey, StoreError> {
    let line = firn_ssh::parse_public_key_line(line).map_err(|e| StoreError::new(e.to_string()))?;
    Ok(SshKey {
        algorithm: line.key.algorithm().to_owned(),
        blob: line.key.as_bytes().to_vec(),
        fingerprint: line.key.fingerprint(),
        comment: line.comment,
        added: SystemClock.now().as_secs(),
    })
}
