//! `firn stdio`: one session on standard input and output.

use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

use anyhow::bail;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::admin::{Request, Response};
use crate::client::connect;
use crate::config::Config;
use crate::door::PROGRAM_VARIABLES;
use crate::relay;

/// What a client means that asks for nothing.
const DEFAULT_COMMAND: &str = "nix-daemon --stdio";

/// Passes the session through to the running service.
pub async fn stdio(config: &Config, account: String, exec: Option<String>) -> anyhow::Result<ExitCode> {
    let exec = exec
        .or_else(|| std::env::var("SSH_ORIGINAL_COMMAND").ok())
        .unwrap_or_else(|| match std::io::stdin().is_terminal() {
            true => "shell".into(),
            false => DEFAULT_COMMAND.into(),
        });
    // What sshd let through is the session's; the rest is this program's own.
    let environment = std::env::vars_os()
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .filter(|(name, _)| name.starts_with(b"FIRN_") && !PROGRAM_VARIABLES.contains(&name.as_slice()))
        .collect();
    let (read, mut write) = connect(config).await?.into_split();
    let mut read = BufReader::with_capacity(256 * 1024, read);
    let mut line = serde_json::to_vec(&Request::Session {
        account,
        exec,
        environment,
    })?;
    line.push(b'\n');
    write.write_all(&line).await?;
    let mut answer = String::new();
    read.read_line(&mut answer).await?;
    match serde_json::from_str(&answer)? {
        Response::Error(why) => bail!(why),
        Response::Session => {}
        Response::Done(_) => bail!("the service did not open a session"),
    }
    let status = relay::client(read, write).await?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}
