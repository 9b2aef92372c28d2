//! The commands that talk to a running service.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::admin::{Request, Response};
use crate::config::Config;
use crate::options::{AccountCommand, KeyCommand};

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

async fn ask(config: &Config, request: &Request) -> anyhow::Result<Value> {
    let mut stream = connect(config).await?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    match serde_json::from_str(&answer).context("the service ended the connection; see its log")? {
        Response::Ok(value) => Ok(value),
        Response::Error(why) => bail!(why),
    }
}

/// `firn account …`
pub async fn account(config: &Config, command: AccountCommand) -> anyhow::Result<ExitCode> {
    match command {
        AccountCommand::Add { name } => {
            ask(config, &Request::AccountAdd { name: name.clone() }).await?;
            println!("account '{name}' added; let a key act for it with: firn key add {name} FILE");
        }
        AccountCommand::List { json } => {
            let rows = ask(config, &Request::AccountList).await?;
            show(
                &rows,
                json,
                &["name", "keys", "created"],
                "no accounts; make one with: firn account add NAME",
            );
        }
        AccountCommand::Remove { name } => {
            ask(config, &Request::AccountRemove { name: name.clone() }).await?;
            println!("account '{name}' removed");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `firn key …`
pub async fn key(config: &Config, command: KeyCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeyCommand::Add { account, file } => {
            let line = read_key(&file)?;
            let added = ask(
                config,
                &Request::KeyAdd {
                    account: account.clone(),
                    line,
                },
            )
            .await?;
            println!(
                "key {} acts for account '{account}' now",
                text(added.get("fingerprint"))
            );
        }
        KeyCommand::List { account, json } => {
            let rows = ask(
                config,
                &Request::KeyList {
                    account: account.clone(),
                },
            )
            .await?;
            let none = format!("no keys; add one with: firn key add {account} FILE");
            show(
                &rows,
                json,
                &["fingerprint", "algorithm", "comment", "added"],
                &none,
            );
        }
        KeyCommand::Remove { account, fingerprint } => {
            ask(
                config,
                &Request::KeyRemove {
                    account: account.clone(),
                    fingerprint: fingerprint.clone(),
                },
            )
            .await?;
            println!("key {fingerprint} removed from account '{account}'");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `firn builds`
pub async fn builds(config: &Config, account: String, limit: u32, json: bool) -> anyhow::Result<ExitCode> {
    let rows = ask(config, &Request::Builds { account, limit }).await?;
    show(
        &rows,
        json,
        &["time", "rung", "wall_ms", "reason"],
        "no requests yet",
    );
    Ok(ExitCode::SUCCESS)
}

/// `firn status`
pub async fn status(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let status = ask(config, &Request::Status).await?;
    if json {
        println!("{status}");
    } else {
        println!("running builds: {}", text(status.get("running_builds")));
    }
    Ok(ExitCode::SUCCESS)
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

/// A cell as a person reads it; control characters from outside are escaped.
fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(s)) => s
            .chars()
            .flat_map(|c| {
                if c.is_control() {
                    c.escape_default().collect()
                } else {
                    vec![c]
                }
            })
            .collect(),
        Some(other) => other.to_string(),
    }
}

/// Columns that hold seconds since 1970.
fn cell(row: &Value, column: &str) -> String {
    let value = row.get(column);
    let moment = || jiff::Timestamp::from_second(value?.as_i64()?).ok();
    match column {
        "time" | "created" | "added" => moment().map_or_else(|| text(value), |t| t.to_string()),
        _ => text(value),
    }
}

fn show(rows: &Value, json: bool, columns: &[&str], none: &str) {
    if json {
        println!("{rows}");
        return;
    }
    let rows: Vec<Vec<String>> = rows
        .as_array()
        .map(|rows| {
            rows.iter()
                .map(|row| columns.iter().map(|c| cell(row, c)).collect())
                .collect()
        })
        .unwrap_or_default();
    if rows.is_empty() {
        println!("{none}");
        return;
    }
    let head: Vec<String> = columns
        .iter()
        .map(|c| c.to_uppercase().replace('_', " "))
        .collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&head).chain(&rows).collect();
    for line in &lines {
        let mut out = String::new();
        for (i, cell) in line.iter().enumerate() {
            let width = lines
                .iter()
                .filter_map(|l| l.get(i))
                .map(|c| c.chars().count())
                .max()
                .unwrap_or(0);
            out.push_str(&format!("{cell:width$}  "));
        }
        println!("{}", out.trim_end());
    }
}
