//! `ssh HOST shell` and `ssh HOST api`: an account's commands, one at a time.

mod console;
mod editor;
mod follow;
mod leave;

use std::io;
use std::time::Duration;

use firn_service::ports::Ports;
use firn_service::{Desk, StoreError};
use firn_ssh::Terminal;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::commands::{self, Caller, Command, Line, Reply, plain};
use console::{Answer, Console};

pub use leave::Leave;

/// What comes from a client.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;
/// What goes to a client.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// How long a shell waits for the next line.
const IDLE: Duration = Duration::from_secs(3600);

const PROMPT: &str = "firn> ";

/// Where answers go, and in which form.
pub struct Answers {
    stdout: Output,
    stderr: Output,
    /// For programs.
    json: bool,
    /// To a terminal, which wants a return before each line feed.
    terminal: bool,
}

impl Answers {
    pub fn new(stdout: Output, stderr: Output, json: bool, terminal: bool) -> Self {
        Self {
            stdout,
            stderr,
            json,
            terminal,
        }
    }

    async fn line(&mut self, text: &str, error: bool) -> io::Result<()> {
        let mut text = format!("{text}\n");
        if self.terminal {
            text = text.replace('\n', "\r\n");
        }
        let out = if error { &mut self.stderr } else { &mut self.stdout };
        out.write_all(text.as_bytes()).await?;
        out.flush().await
    }

    /// Gives the answer to a command.
    pub async fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        match self.json {
            true => self.line(&reply.value.to_string(), false).await,
            false => self.line(&reply.text, false).await,
        }
    }

    /// Says what went wrong, where such a client looks for it.
    pub async fn error(&mut self, why: &str) -> io::Result<()> {
        match self.json {
            true => self.line(&json!({ "error": why }).to_string(), false).await,
            false => self.line(&format!("firn: {}", plain(why)), true).await,
        }
    }
}

/// What follows a line.
enum Next {
    Ok,
    Failed,
    End,
}

/// One session.
pub struct Shell<P: Ports> {
    pub desk: Desk<P>,
    pub caller: Caller,
    pub answers: Answers,
    pub leave: Leave,
}

impl<P: Ports> Shell<P> {
    /// The one command, or without words all that come by `stdin`. The session's exit status: 1 when a command failed, 0 when none did,
    /// or when a person saw it.
    pub async fn run(mut self, words: Vec<Vec<u8>>, stdin: Input, terminal: Option<Terminal>) -> u32 {
        let interactive = terminal.is_some() && words.is_empty();
        let mut console = Console::new(stdin, terminal);
        let ended = if words.is_empty() {
            self.lines(&mut console).await
        } else {
            let next = self.command(&words, &mut console).await;
            next.map(|next| matches!(next, Next::Failed))
        };
        match ended {
            Ok(failed) => u32::from(failed && !interactive),
            // The client has gone.
            Err(_) => 1,
        }
    }

    /// Whether one of them failed.
    async fn lines(&mut self, console: &mut Console) -> io::Result<bool> {
        let (mut failed, mut asked_anything) = (false, false);
        if console.is_terminal() {
            let hello = format!(
                "Firn, account '{}'. `help` lists the commands.",
                self.desk.account().name
            );
            self.answers.line(&hello, false).await?;
        }
        loop {
            let asked = console.ask(PROMPT, true, &mut self.answers.stdout);
            let Ok(answer) = tokio::time::timeout(IDLE, asked).await else {
                self.answers.error("no command for an hour").await?;
                return Ok(true);
            };
            let line = match answer? {
                Answer::Line(line) => line,
                Answer::Interrupted => continue,
                Answer::End => {
                    if !asked_anything && !console.is_terminal() {
                        self.introduce().await?;
                    }
                    return Ok(failed);
                }
                Answer::TooLong => {
                    self.answers.error("the line is too long").await?;
                    return Ok(true);
                }
            };
            asked_anything = true;
            let words = match firn_ssh::split_words(&line) {
                Ok(words) => words,
                Err(error) => {
                    self.answers.error(&error.to_string()).await?;
                    failed = true;
                    continue;
                }
            };
            if words.first().is_none_or(|word| word.starts_with(b"#")) {
                continue;
            }
            match self.command(&words, console).await? {
                Next::Ok => {}
                Next::Failed => failed = true,
                Next::End => return Ok(failed),
            }
            self.leave.answered().await;
        }
    }

    /// For whoever came without a command and without a terminal.
    async fn introduce(&mut self) -> io::Result<()> {
        let text = format!(
            "Firn, a Nix build service; you are account '{}'. Type `ssh -t HOST shell` for a prompt, or `ssh HOST shell help` for the commands.",
            self.desk.account().name
        );
        let value = json!({ "account": self.desk.account().name.as_str(), "message": text });
        self.answers.reply(&Reply::told(value, &text)).await
    }

    async fn command(&mut self, words: &[Vec<u8>], console: &mut Console) -> io::Result<Next> {
        let command = match commands::parse(words) {
            Ok(Line::Run(command)) => *command,
            Ok(Line::Exit) => return Ok(Next::End),
            Ok(Line::Help(text)) => {
                let reply = Reply::told(json!({ "help": text }), &text);
                self.answers.reply(&reply).await?;
                return Ok(Next::Ok);
            }
            Err(why) => {
                self.answers.error(&why).await?;
                return Ok(Next::Failed);
            }
        };
        if let Command::Log(log) = &command {
            return self.follow(&log.wanted, console).await;
        }
        if command.may_end_its_session(&self.caller) {
            self.leave.ask();
        }
        let done = match self.secret(&command, console).await? {
            Ok(secret) => commands::run(&self.desk, &self.caller, command, secret).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(reply) => {
                self.answers.reply(&reply).await?;
                Ok(Next::Ok)
            }
            Err(error) => {
                self.answers.error(&error.message).await?;
                Ok(Next::Failed)
            }
        }
    }

    /// What a command needs besides its words: the next line of input.
    async fn secret(
        &mut self,
        command: &Command,
        console: &mut Console,
    ) -> io::Result<Result<Option<String>, StoreError>> {
        let Some(prompt) = command.secret() else {
            return Ok(Ok(None));
        };
        let missing = |why: &str| Ok(Err(StoreError::new(why)));
        let asked = console.ask(prompt, false, &mut self.answers.stdout);
        let Ok(answer) = tokio::time::timeout(IDLE, asked).await else {
            return missing("nobody answered for an hour");
        };
        match answer? {
            Answer::Line(line) => match String::from_utf8(line) {
                Ok(secret) => Ok(Ok(Some(secret))),
                Err(_) => missing("the secret is not UTF-8"),
            },
            Answer::Interrupted => missing("nothing was changed"),
            Answer::End => missing("the secret is missing: it is the next line of input"),
            Answer::TooLong => missing("the secret is too long"),
        }
    }
}
