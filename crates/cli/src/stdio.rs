//! `firn stdio`: one session on standard input and output.

use std::process::ExitCode;

use anyhow::bail;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::admin::{Request, Response};
use crate::client::connect;
use crate::config::Config;
use crate::relay;

/// What a client means that asks for nothing.
const DEFAULT_COMMAND: &str = "nix-daemon --stdio";

/// Passes the session through to the running service.
pub async fn stdio(config: &Config, account: String, exec: Option<String>) -> anyhow::Result<ExitCode> {
    let exec = exec
        .or_else(|| std::env::var("SSH_ORIGINAL_COMMAND").ok())
        .unwrap_or_else(|| DEFAULT_COMMAND.into());
    let (read, mut write) = connect(config).await?.into_split();
    let mut read = BufReader::with_capacity(256 * 1024, read);
    let mut line = serde_json::to_vec(&Request::Session { account, exec })?;
    line.push(b'\n');
    write.write_all(&line).await?;
    let mut answer = String::new();
    read.read_line(&mut answer).await?;
    match serde_json::from_str(&answer)? {
        Response::Error(why) => bail!(why),
        Response::Ok(_) => {}
    }
    let status = relay::client(read, write).await?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}
