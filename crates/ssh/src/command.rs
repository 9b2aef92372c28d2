//! The exec request: which of the few things a Nix client or a person asks for.
//!
//! Nix clients send `nix-daemon --stdio` (ssh-ng) or `nix-store --serve --write` (ssh), with options; see the Nix
//! manual, "SSH Store" and "Experimental SSH Store" (`remote-program`, `remote-store`). The text is split into words
//! and matched. It never reaches a shell, and no character but blanks, quotes and the backslash means anything.

mod words;

pub use words::{UnbalancedQuote, split_words};

use crate::Terminal;

/// The longest exec request that is looked at, in bytes.
const MAX_LENGTH: usize = 8192;
/// How much of a request an error repeats, in bytes.
const MAX_SHOWN: usize = 200;

/// What a session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The worker protocol: `nix-daemon --stdio`, for `ssh-ng://`.
    WorkerDaemon,
    /// The serve protocol: `nix-store --serve`, for `ssh://`. `write` allows uploads and builds.
    Serve {
        /// Whether `--write` was given.
        write: bool,
    },
    /// The service's own commands: `shell …` or `api …`, or no command at all.
    Shell {
        /// `api`: for programs, which get JSON.
        json: bool,
        /// The command's words after `shell` or `api`. None: commands come by standard input, line by line.
        words: Vec<Vec<u8>>,
        /// The client's terminal, where it asked for one.
        terminal: Option<Terminal>,
    },
}

/// For the log: of the service's own commands the first word only, since somebody may have typed a password behind it.
impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WorkerDaemon => f.write_str("nix-daemon --stdio"),
            Self::Serve { write: false } => f.write_str("nix-store --serve"),
            Self::Serve { write: true } => f.write_str("nix-store --serve --write"),
            Self::Shell { json, words, .. } => {
                f.write_str(if *json { "api" } else { "shell" })?;
                match words.first() {
                    Some(word) => write!(f, " {}", shown(word)),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Why an exec request is not a [`Command`]. The text is for the person at the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nothing but blanks.
    #[error("no command was given; {OFFERED}")]
    Empty,
    /// Longer than any client sends.
    #[error("the command is {length} bytes long, more than {MAX_LENGTH}; {OFFERED}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A quote or backslash without its other half.
    #[error("the command `{asked}` has an unbalanced quote; {OFFERED}")]
    UnbalancedQuote {
        /// The request, escaped for display.
        asked: String,
    },
    /// A program that is not offered.
    #[error("the command `{asked}` is not available here; {OFFERED}")]
    UnknownProgram {
        /// The request, escaped for display.
        asked: String,
    },
    /// A known program with an argument that means nothing here.
    #[error("`{argument}` in the command `{asked}` is not understood; {OFFERED}")]
    UnknownArgument {
        /// The request, escaped for display.
        asked: String,
        /// The word in question.
        argument: String,
    },
    /// A known program without the argument that makes it a protocol session.
    #[error("the command `{asked}` needs {missing}; {OFFERED}")]
    MissingArgument {
        /// The request, escaped for display.
        asked: String,
        /// What it needs.
        missing: &'static str,
    },
}

const OFFERED: &str = "this is a Nix build service and it offers only `nix-daemon --stdio` (store URI ssh-ng://…), \
                       `nix-store --serve [--write]` (store URI ssh://…), `shell [COMMAND…]` (try `shell help`) and \
                       `api COMMAND…` (the same for programs)";

/// Reads an exec request.
///
/// A request does not say whether there is a terminal: [`Command::Shell`] has none here.
///
/// `--store URI` is accepted and ignored (this service has one store per account), as are `--process-ops`,
/// `--extra-experimental-features X`, `--experimental-features X` and `--option NAME VALUE`. The program may carry any
/// directory.
pub fn parse_command(exec: &[u8]) -> Result<Command, CommandError> {
    if exec.len() > MAX_LENGTH {
        return Err(CommandError::TooLong { length: exec.len() });
    }
    let asked = || shown(exec);
    let words =
        split_words(exec).map_err(|UnbalancedQuote| CommandError::UnbalancedQuote { asked: asked() })?;
    let (program, arguments) = words.split_first().ok_or(CommandError::Empty)?;
    if let b"shell" | b"api" = program.as_slice() {
        return Ok(Command::Shell {
            json: program == b"api",
            words: arguments.to_vec(),
            terminal: None,
        });
    }
    match base_name(program) {
        b"nix-daemon" => daemon(arguments, exec),
        b"nix" => match options(arguments, exec)?.as_slice() {
            [subcommand, rest @ ..] if *subcommand == b"daemon" => daemon(rest, exec),
            _ => Err(CommandError::UnknownProgram { asked: asked() }),
        },
        b"nix-store" => serve(arguments, exec),
        _ => Err(CommandError::UnknownProgram { asked: asked() }),
    }
}

fn daemon<W: AsRef<[u8]>>(arguments: &[W], exec: &[u8]) -> Result<Command, CommandError> {
    let mut stdio = false;
    for word in options(arguments, exec)? {
        match word {
            b"--stdio" => stdio = true,
            b"--process-ops" => {}
            other => return Err(unknown(other, exec)),
        }
    }
    if !stdio {
        return Err(CommandError::MissingArgument {
            asked: shown(exec),
            missing: "`--stdio`",
        });
    }
    Ok(Command::WorkerDaemon)
}

fn serve<W: AsRef<[u8]>>(arguments: &[W], exec: &[u8]) -> Result<Command, CommandError> {
    let (mut serve, mut write) = (false, false);
    for word in options(arguments, exec)? {
        match word {
            b"--serve" => serve = true,
            b"--write" => write = true,
            other => return Err(unknown(other, exec)),
        }
    }
    if !serve {
        return Err(CommandError::MissingArgument {
            asked: shown(exec),
            missing: "`--serve`",
        });
    }
    Ok(Command::Serve { write })
}

/// Takes out the options that every Nix program knows and that mean nothing here.
fn options<'a, W: AsRef<[u8]>>(arguments: &'a [W], exec: &[u8]) -> Result<Vec<&'a [u8]>, CommandError> {
    let mut left = Vec::new();
    let mut words = arguments.iter().map(AsRef::as_ref);
    while let Some(word) = words.next() {
        let values = match word {
            b"--store" | b"--extra-experimental-features" | b"--experimental-features" => 1,
            b"--option" => 2,
            _ => {
                left.push(word);
                continue;
            }
        };
        for _ in 0..values {
            if words.next().is_none() {
                return Err(CommandError::MissingArgument {
                    asked: shown(exec),
                    missing: "a value after its last option",
                });
            }
        }
    }
    Ok(left)
}

fn unknown(argument: &[u8], exec: &[u8]) -> CommandError {
    CommandError::UnknownArgument {
        asked: shown(exec),
        argument: shown(argument),
    }
}

fn base_name(program: &[u8]) -> &[u8] {
    program.rsplit(|byte| *byte == b'/').next().unwrap_or(program)
}

fn shown(bytes: &[u8]) -> String {
    match bytes.get(..MAX_SHOWN) {
        Some(head) if bytes.len() > MAX_SHOWN => format!("{}…", head.escape_ascii()),
        _ => bytes.escape_ascii().to_string(),
    }
}
