//! The commands that talk to a running service.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::admin::{Request, Response};
use crate::commands::{Command, SshKeys, Usage};
use crate::config::Config;
use crate::options::AccountCommand;
use crate::{output, secret};

/// Longest file that is read as a public key.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// The running service's socket.
pub async fn connect(config: &Config) -> anyhow::Result<UnixStream> {
    let socket = config.admin_socket();
    UnixStream::connect(&socket).await.with_context(|| {
        format!(
            "cannot reach the service at {}; start it with `firn serve`, or name its data directory with --data-dir",
            socket.display()
        )
    })
}

async fn ask(config: &Config, request: &Request, json: bool) -> anyhow::Result<ExitCode> {
    let mut stream = connect(config).await?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    match serde_json::from_str(&answer).context("the service ended the connection; see its log")? {
        Response::Done(reply) if json => output::print(&reply.value.to_string())?,
        Response::Done(reply) => output::print(&reply.text)?,
        Response::Session => bail!("the service answered with a session that nobody asked for"),
        Response::Error(why) => bail!(why),
    }
    Ok(ExitCode::SUCCESS)
}

/// `firn account …`
pub async fn account(config: &Config, command: AccountCommand, json: bool) -> anyhow::Result<ExitCode> {
    let request = match command {
        AccountCommand::Add { name, ssh_key } => Request::AccountAdd {
            name,
            ssh_key: ssh_key.as_deref().map(read_key).transpose()?,
        },
        AccountCommand::List => Request::AccountList,
        AccountCommand::Remove { name } => Request::AccountRemove { name },
    };
    ask(config, &request, json).await
}

/// A command of an account, for it.
pub async fn of_account(
    config: &Config,
    account: String,
    mut command: Command,
    json: bool,
) -> anyhow::Result<ExitCode> {
    if let Command::SshKeys(SshKeys::Add { line }) = &mut command
        && let [file] = line.as_slice()
        && !file.contains(' ')
    {
        *line = vec![read_key(Path::new(file))?];
    }
    let secret = command.secret().map(secret::read).transpose()?;
    let request = Request::Command {
        account,
        command,
        secret,
    };
    ask(config, &request, json).await
}

/// `firn usage` of all accounts
pub async fn usage(config: &Config, usage: Usage, json: bool) -> anyhow::Result<ExitCode> {
    ask(config, &Request::Usage(usage), json).await
}

/// `firn status`
pub async fn status(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    ask(config, &Request::Status, json).await
}

fn read_key(file: &Path) -> anyhow::Result<String> {
    let mut line = String::new();
    let context = || format!("cannot read the key file {}", file.display());
    if file == Path::new("-") {
        std::io::stdin()
            .take(MAX_KEY_FILE)
            .read_to_string(&mut line)
            .with_context(context)?;
    } else {
        let file = std::fs::File::open(file).with_context(context)?;
        file.take(MAX_KEY_FILE)
            .read_to_string(&mut line)
            .with_context(context)?;
    }
    Ok(line.trim().to_owned())
}
