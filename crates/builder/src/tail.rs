//! The last lines of a log, for the message of a failed build.

use std::collections::VecDeque;

/// Lines that Nix shows (its `log-lines`).
const LINES: usize = 10;
/// Bytes of one line that are kept.
const LINE_MAX: usize = 1000;

/// Keeps the last lines of a stream of bytes.
#[derive(Debug, Default)]
pub(crate) struct LogTail {
    lines: VecDeque<Vec<u8>>,
    open: Vec<u8>,
}

impl LogTail {
    /// Takes the next bytes. A carriage return starts its line over, as on a terminal.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        for &byte in chunk {
            match byte {
                b'\n' => self.close(),
                b'\r' => self.open.clear(),
                _ if self.open.len() < LINE_MAX => self.open.push(byte),
                _ => {}
            }
        }
    }

    fn close(&mut self) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(std::mem::take(&mut self.open));
    }

    /// `;\nlast N log lines:\n> …`, or nothing when there was no log. Control characters are escaped.
    pub(crate) fn message(mut self) -> String {
        if !self.open.is_empty() {
            self.close();
        }
        if self.lines.is_empty() {
            return String::new();
        }
        let mut text = format!(";\nlast {} log lines:", self.lines.len());
        for line in self.lines {
            text.push_str("\n> ");
            text.push_str(&shown(&line));
        }
        text
    }
}

fn shown(line: &[u8]) -> String {
    line.utf8_chunks()
        .flat_map(|chunk| {
            let valid = chunk.valid().chars().map(|c| match c {
                '\t' => c.to_string(),
                c if c.is_control() => c.escape_default().to_string(),
                c => c.to_string(),
            });
            valid.chain((!chunk.invalid().is_empty()).then(|| '\u{fffd}'.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_lines_stay() {
        let mut tail = LogTail::default();
        for i in 0..25 {
            tail.push(format!("progress\rline {i}").as_bytes());
            tail.push(b"\n");
        }
        tail.push(b"open \x1b[1m\xff");
        let lines: Vec<String> = (16..25).map(|i| format!("\n> line {i}")).collect();
        assert_eq!(
            tail.message(),
            format!(
                ";\nlast 10 log lines:{}\n> open \\u{{1b}}[1m\u{fffd}",
                lines.concat()
            )
        );
    }

    #[test]
    fn no_log_no_text() {
        assert_eq!(LogTail::default().message(), "");
    }
}
