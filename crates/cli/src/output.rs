//! Standard output of the commands: a reader that has seen enough ends them quietly.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Nobody reads standard output any more.
#[derive(Debug)]
pub struct ReaderGone;

impl ReaderGone {
    /// What a program that the signal had ended would give.
    pub fn code() -> ExitCode {
        ExitCode::from(128 + 13)
    }
}

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads standard output")
    }
}

impl std::error::Error for ReaderGone {}

/// Writes a text and the end of its last line.
///
/// # Errors
/// [`ReaderGone`] when the pipe is closed; whatever else keeps it from being written.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| {
            if text.ends_with('\n') {
                Ok(())
            } else {
                output.write_all(b"\n")
            }
        })
        .and_then(|()| output.flush());
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        other => Ok(other?),
    }
}
