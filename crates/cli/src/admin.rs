//! Administration: requests on a local socket that only the owner of the data directory can open.
//!
//! One JSON line each way. A session request turns the connection into that session (see [`crate::relay`]).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use firn_core::AccountName;
use firn_service::StoreError;
use firn_service::ports::{Account, Accounts as _, DatabaseError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::commands::{self, Caller, Reply};
use crate::door::{Door, Environment, Identity};
use crate::live::House;
use crate::relay;

/// Longest request line.
const MAX_LINE: u64 = 1 << 20;

/// How long a client may take to write its request.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Make an account; `ssh_key` is a line as in `authorized_keys`.
    AccountAdd { name: String, ssh_key: Option<String> },
    /// All accounts.
    AccountList,
    /// Remove one.
    AccountRemove { name: String },
    /// Do this for an account.
    Command {
        account: String,
        command: commands::Command,
        secret: Option<String>,
    },
    /// What all accounts used and were spared.
    Usage(commands::Usage),
    /// What runs.
    Status,
    /// Become a session of an account.
    Session {
        account: String,
        exec: String,
        environment: Environment,
    },
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Done.
    Done(Reply),
    /// The connection is a session now.
    Session,
    /// Not done, and why.
    Error(String),
}

/// Opens the socket.
pub fn bind(socket: &Path) -> anyhow::Result<UnixListener> {
    // The data directory is 0700 and locked by this process: what stands here is of a server that is gone.
    let _ = std::fs::remove_file(socket);
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers on the socket until the shutdown.
pub async fn listen(listener: UnixListener, house: Arc<House>, door: Arc<Door>, shutdown: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!(error = %e, "admin socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (house, door, shutdown) = (Arc::clone(&house), Arc::clone(&door), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                ended = connection(stream, &house, &door) => {
                    if let Err(e) = ended {
                        tracing::debug!(error = %e, "admin connection");
                    }
                }
            }
        });
    }
}

async fn connection(stream: UnixStream, house: &Arc<House>, door: &Door) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    tokio::time::timeout(
        REQUEST_DEADLINE,
        (&mut read).take(MAX_LINE).read_until(b'\n', &mut line),
    )
    .await??;
    let request: Request = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(e) => return answer(&mut write, Response::Error(format!("not a request: {e}"))).await,
    };
    if let Request::Session {
        account,
        exec,
        environment,
    } = request
    {
        let opened = match (
            find(house, &account).await,
            firn_ssh::parse_command(exec.as_bytes()),
        ) {
            (Ok(account), Ok(command)) => Ok((account, command)),
            (Err(e), _) => Err(e.message),
            (_, Err(e)) => Err(e.to_string()),
        };
        return match opened {
            Err(why) => answer(&mut write, Response::Error(why)).await,
            Ok((account, command)) => {
                answer(&mut write, Response::Session).await?;
                let identity = Identity {
                    account,
                    ssh_key: None,
                };
                relay::server(door, identity, command, environment, read, write).await;
                Ok(())
            }
        };
    }
    let response = match handle(house, request).await {
        Ok(reply) => Response::Done(reply),
        Err(error) => Response::Error(error.message),
    };
    answer(&mut write, response).await
}

async fn answer(write: &mut (impl tokio::io::AsyncWrite + Unpin), response: Response) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    Ok(write.flush().await?)
}

async fn find(house: &House, name: &str) -> Result<Account, StoreError> {
    let parsed = AccountName::parse(name).map_err(|e| StoreError::new(e.to_string()))?;
    let found = house.database().account(&parsed).await.map_err(told)?;
    found.ok_or_else(|| told(DatabaseError::NoAccount(name.to_owned())))
}

fn told(error: DatabaseError) -> StoreError {
    StoreError::new(error.to_string())
}

async fn handle(house: &Arc<House>, request: Request) -> Result<Reply, StoreError> {
    let db = house.database();
    match request {
        Request::AccountAdd { name, ssh_key } => {
            let name = AccountName::parse(&name).map_err(|e| StoreError::new(e.to_string()))?;
            let ssh_key = ssh_key.as_deref().map(commands::read_ssh_key).transpose()?;
            if let Some(key) = &ssh_key
                && db.account_by_key(&key.blob).await.map_err(told)?.is_some()
            {
                return Err(told(DatabaseError::KeyTaken));
            }
            let account = house.create_account(&name).await?;
            let mut value = json!({ "name": account.name.as_str() });
            let mut sentence = format!("account '{name}' added");
            match &ssh_key {
                Some(key) => {
                    house.operators_desk(account).add_ssh_key(key).await?;
                    if let Some(members) = value.as_object_mut() {
                        members.insert("ssh_key".into(), key.fingerprint.clone().into());
                    }
                    sentence.push_str(&format!("; the key {} acts for it", key.fingerprint));
                }
                None => sentence.push_str(&format!(
                    "; let a key act for it with: firn ssh-keys add FILE --account {name}"
                )),
            }
            Ok(Reply::done(value, &sentence))
        }
        Request::AccountList => {
            let mut rows = Vec::new();
            for account in db.accounts().await.map_err(told)? {
                let keys = db.keys(account.id).await.map_err(told)?.len();
                rows.push(json!({ "name": account.name.as_str(), "keys": keys, "created": account.created }));
            }
            let none = "no accounts; make one with: firn account add NAME";
            Ok(Reply::table(rows, &["name", "keys", "created"], none))
        }
        Request::AccountRemove { name } => {
            let account = find(house, &name).await?;
            house.remove_account(&account).await?;
            Ok(Reply::done(
                json!({ "removed": name }),
                &format!("account '{name}' removed"),
            ))
        }
        Request::Command {
            account,
            command,
            secret,
        } => {
            let desk = house.operators_desk(find(house, &account).await?);
            commands::run(&desk, &Caller::Operator, command, secret).await
        }
        Request::Usage(usage) => usage.of_all(house).await,
        Request::Status => {
            let (_, waiting) = house.queue();
            let running = house.running_builds().saturating_sub(waiting);
            Ok(Reply::facts(
                json!({ "running_builds": running, "waiting_builds": waiting }),
            ))
        }
        Request::Session { .. } => Err(StoreError::new("a session cannot be part of a request")),
    }
}
