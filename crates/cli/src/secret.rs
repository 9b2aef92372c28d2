//! Reading a line that nobody should see.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

/// Longest secret, in bytes.
const MAX_SECRET: usize = 64 * 1024;

/// Ctrl-C.
const INTERRUPT: u8 = 3;

/// Puts the terminal back as it was.
struct Silence(Termios);

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
        eprintln!();
    }
}

/// The next line of standard input; at a terminal with a prompt and without an echo.
pub fn read(prompt: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    let silence = if stdin.is_terminal() {
        eprint!("{prompt}");
        std::io::stderr().flush()?;
        let before = tcgetattr(&stdin).context("the terminal")?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
        // The line ends with Ctrl-C as well, and is dropped then: the process must live to restore the terminal.
        silent.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        tcsetattr(&stdin, OptionalActions::Flush, &silent).context("the terminal")?;
        Some(Silence(before))
    } else {
        None
    };
    let mut line = Vec::new();
    let mut input = stdin.lock();
    loop {
        let bytes = input.fill_buf()?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(bytes.len(), |at| at + 1);
        line.extend(bytes.iter().take(used));
        input.consume(used);
        if used == 0 || end.is_some() || line.contains(&INTERRUPT) {
            break;
        }
        if line.len() > MAX_SECRET {
            bail!("the secret is too long");
        }
    }
    drop(silence);
    if line.is_empty() || line.contains(&INTERRUPT) {
        bail!("nothing was changed: the secret is missing; it is the next line of standard input");
    }
    let line = String::from_utf8(line).context("the secret")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
