//! `ssh-keys`

use clap::Subcommand;
use firn_core::AccountName;
use firn_service::ports::{Ports, SshKey};
use firn_service::{Clock as _, Desk, Proposed, StoreError, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Caller, Reply};

/// `ssh-keys …`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
pub enum SshKeys {
    /// The account's keys
    List,
    /// Let a key act for the account: it does once a login with that key has confirmed the code that this answers with
    Add {
        /// A line as in a .pub file: TYPE BASE64 [COMMENT]; with `firn ssh-keys add` on the server also the file, or '-'
        #[arg(required = true)]
        line: Vec<String>,
    },
    /// Prove a key, in a login with it: ssh -i FILE -o IdentitiesOnly=yes HOST shell ssh-keys confirm CODE
    Confirm {
        /// As `ssh-keys add` gave it; it begins with the name of the account that the key will act for
        code: String,
    },
    /// Let a key act for the account no more; what it has open ends
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
            Self::Add { line } => add(desk, caller, &read(&line.join(" "))?).await,
            Self::Confirm { .. } => Err(StoreError::new(match caller {
                Caller::Operator => "the operator adds keys without a code: ssh-keys add".to_owned(),
                Caller::Account(ssh_key) => {
                    let by = ssh_key.as_deref().unwrap_or("no key that is known here");
                    let account = &desk.account().name;
                    format!(
                        "this login is by {by}, for account '{account}'. A code is confirmed in a login with the key that it was given for: \
                         ssh -i FILE -o IdentitiesOnly=yes HOST shell ssh-keys confirm CODE. A key that acts for an account already has to be \
                         removed there first"
                    )
                }
            })),
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
                    &format!("the key {fingerprint} acts for account '{name}' no more; its sessions end"),
                ))
            }
        }
    }
}

/// The operator's word is enough; an account's is not, because whoever has seen a public key can send it.
async fn add<P: Ports>(desk: &Desk<P>, caller: &Caller, key: &SshKey) -> Result<Reply, StoreError> {
    let (fingerprint, name) = (&key.fingerprint, &desk.account().name);
    let facts = json!({ "fingerprint": fingerprint, "algorithm": key.algorithm, "comment": key.comment });
    let proposed = match caller {
        Caller::Operator => {
            desk.add_ssh_key(key).await?;
            Proposed::Acts
        }
        Caller::Account(by) => desk.propose_ssh_key(key.clone(), by.as_deref()).await?,
    };
    match proposed {
        Proposed::Acts => Ok(acts(facts, fingerprint, name)),
        Proposed::Code { code, valid_for } => {
            let mut facts = facts;
            if let Some(members) = facts.as_object_mut() {
                members.insert("code".into(), code.clone().into());
                members.insert("valid_for".into(), valid_for.into());
            }
            Ok(Reply::done(
                facts,
                &format!(
                    "the key {fingerprint} does not act for account '{name}' yet. Within {minutes} minutes, log in with it (FILE: its private \
                     half):\n  ssh -i FILE -o IdentitiesOnly=yes firn shell ssh-keys confirm {code}",
                    minutes = valid_for / 60,
                ),
            ))
        }
    }
}

/// What is told of a key that is the account's now.
pub fn acts(facts: Value, fingerprint: &str, account: &AccountName) -> Reply {
    let sentence = format!("the key {fingerprint} acts for account '{account}' now");
    Reply::done(facts, &sentence)
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
