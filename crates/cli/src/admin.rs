//! Administration: requests on a local socket that only the owner of the data directory can open.
//!
//! One JSON line each way. A session request turns the connection into that session (see [`crate::relay`]).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use firn_core::AccountName;
use firn_service::House;
use firn_service::ports::{Account, Builder, Database, DatabaseError, SshKey};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::door::Door;
use crate::relay;

/// Longest request line.
const MAX_LINE: u64 = 1 << 20;

/// How long a client may take to write its request.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum Request {
    /// Make an account.
    AccountAdd { name: String },
    /// All accounts.
    AccountList,
    /// Remove one.
    AccountRemove { name: String },
    /// Let a key act for an account; a line as in `authorized_keys`.
    KeyAdd { account: String, line: String },
    /// An account's keys.
    KeyList { account: String },
    /// Remove a key.
    KeyRemove { account: String, fingerprint: String },
    /// An account's latest requests.
    Builds { account: String, limit: u32 },
    /// What runs.
    Status,
    /// Become a session of an account.
    Session { account: String, exec: String },
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Done.
    Ok(serde_json::Value),
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
pub async fn listen<D: Database, B: Builder>(
    listener: UnixListener,
    house: Arc<House<D, B>>,
    door: Arc<Door<D, B>>,
    shutdown: CancellationToken,
) {
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

async fn connection<D: Database, B: Builder>(
    stream: UnixStream,
    house: &House<D, B>,
    door: &Door<D, B>,
) -> anyhow::Result<()> {
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
    if let Request::Session { account, exec } = request {
        let opened = match (
            find(house, &account).await,
            firn_ssh::parse_command(exec.as_bytes()),
        ) {
            (Ok(account), Ok(command)) => Ok((account, command)),
            (Err(e), _) => Err(e),
            (_, Err(e)) => Err(e.to_string()),
        };
        return match opened {
            Err(why) => answer(&mut write, Response::Error(why)).await,
            Ok((account, command)) => {
                answer(&mut write, Response::Ok(serde_json::Value::Null)).await?;
                relay::server(door, account, command, read, write).await;
                Ok(())
            }
        };
    }
    let response = match handle(house, request).await {
        Ok(value) => Response::Ok(value),
        Err(why) => Response::Error(why),
    };
    answer(&mut write, response).await
}

async fn answer(write: &mut (impl tokio::io::AsyncWrite + Unpin), response: Response) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    Ok(write.flush().await?)
}

async fn find<D: Database, B: Builder>(house: &House<D, B>, name: &str) -> Result<Account, String> {
    let parsed = AccountName::parse(name).map_err(|e| e.to_string())?;
    let found = house
        .database()
        .account(&parsed)
        .await
        .map_err(|e| e.to_string())?;
    found.ok_or_else(|| DatabaseError::NoAccount(name.to_owned()).to_string())
}

async fn handle<D: Database, B: Builder>(
    house: &House<D, B>,
    request: Request,
) -> Result<serde_json::Value, String> {
    use serde_json::json;
    let db = house.database();
    let text = |e: DatabaseError| e.to_string();
    match request {
        Request::AccountAdd { name } => {
            let name = AccountName::parse(&name).map_err(|e| e.to_string())?;
            let account = db.create_account(&name, house.now()).await.map_err(text)?;
            Ok(json!({ "name": account.name.as_str() }))
        }
        Request::AccountList => {
            let mut rows = Vec::new();
            for account in db.accounts().await.map_err(text)? {
                let keys = db.keys(account.id).await.map_err(text)?.len();
                rows.push(json!({ "name": account.name.as_str(), "keys": keys, "created": account.created }));
            }
            Ok(rows.into())
        }
        Request::AccountRemove { name } => {
            let account = find(house, &name).await?;
            db.remove_account(&account.name).await.map_err(text)?;
            Ok(serde_json::Value::Null)
        }
        Request::KeyAdd { account, line } => {
            let account = find(house, &account).await?;
            let key = firn_ssh::parse_public_key_line(&line).map_err(|e| e.to_string())?;
            let key = SshKey {
                algorithm: key.key.algorithm().to_owned(),
                blob: key.key.as_bytes().to_vec(),
                fingerprint: key.key.fingerprint(),
                comment: key.comment,
                added: house.now(),
            };
            db.add_key(account.id, &key).await.map_err(text)?;
            Ok(json!({ "fingerprint": key.fingerprint, "algorithm": key.algorithm }))
        }
        Request::KeyList { account } => {
            let account = find(house, &account).await?;
            let keys = db.keys(account.id).await.map_err(text)?;
            Ok(keys
                .into_iter()
                .map(|k| json!({ "fingerprint": k.fingerprint, "algorithm": k.algorithm, "comment": k.comment, "added": k.added }))
                .collect())
        }
        Request::KeyRemove { account, fingerprint } => {
            let account = find(house, &account).await?;
            db.remove_key(&account, &fingerprint).await.map_err(text)?;
            Ok(serde_json::Value::Null)
        }
        Request::Builds { account, limit } => {
            let account = find(house, &account).await?;
            let requests = db.requests(account.id, limit.min(10_000)).await.map_err(text)?;
            Ok(requests
                .into_iter()
                .map(|r| {
                    json!({
                        "derivation": r.drv_path.to_string(),
                        "rung": r.rung.map(firn_core::Rung::name),
                        "reason": r.reason,
                        "build": r.build.map(|b| b.to_string()),
                        "time": r.time,
                        "wall_ms": r.wall_ms,
                    })
                })
                .collect())
        }
        Request::Status => Ok(json!({ "running_builds": house.running_builds() })),
        Request::Session { .. } => Err("a session cannot be part of a request".into()),
    }
}
