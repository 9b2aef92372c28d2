//! Log bytes to log lines, as Nix cuts them.

use firn_protocol::LogEvent;
use serde::Deserialize;

/// A line that is longer is cut here.
const MAX_LINE: usize = 64 * 1024;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    open: Vec<u8>,
}

impl Lines {
    /// The lines that these bytes complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut complete = Vec::new();
        for mut part in bytes.split_inclusive(|&b| b == b'\n') {
            while !part.is_empty() {
                let (piece, rest) = part.split_at(part.len().min(MAX_LINE - self.open.len()));
                self.open.extend_from_slice(piece);
                part = rest;
                if self.open.ends_with(b"\n") {
                    complete.push(self.take());
                } else if self.open.len() == MAX_LINE {
                    complete.push(std::mem::take(&mut self.open));
                }
            }
        }
        complete
    }

    /// What is left at the end of the stream.
    pub(crate) fn rest(&mut self) -> Option<Vec<u8>> {
        (!self.open.is_empty()).then(|| self.take())
    }

    /// The open line without its end; after a carriage return a terminal shows only what follows.
    fn take(&mut self) -> Vec<u8> {
        let mut line = std::mem::take(&mut self.open);
        while line.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
            line.pop();
        }
        match line.iter().rposition(|&b| b == b'\r') {
            Some(at) => line.split_off(at + 1),
            None => line,
        }
    }
}

/// A `@nix {…}` line that sets the phase becomes an event of its own.
pub(crate) fn event(id: u64, line: Vec<u8>) -> LogEvent {
    #[derive(Deserialize)]
    struct Message {
        action: String,
        phase: Option<String>,
    }
    let phase = line
        .strip_prefix(b"@nix ")
        .and_then(|json| serde_json::from_slice::<Message>(json).ok())
        .filter(|m| m.action == "setPhase")
        .and_then(|m| m.phase);
    match phase {
        Some(phase) => LogEvent::BuildPhase { id, phase },
        None => LogEvent::BuildLine { id, line },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_do_not_depend_on_how_the_bytes_arrive() {
        let text = b"one\ntwo\r\n50%\r100%\n\nlast";
        let whole: Vec<Vec<u8>> = [&b"one"[..], b"two", b"100%", b"", b"last"]
            .map(<[u8]>::to_vec)
            .into();
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut got: Vec<Vec<u8>> = text.chunks(size).flat_map(|c| lines.push(c)).collect();
            got.extend(lines.rest());
            assert_eq!(got, whole, "in pieces of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_cut() {
        let mut lines = Lines::default();
        let got = lines.push(&vec![b'x'; 3 * MAX_LINE + 5]);
        assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE; 3]);
        assert_eq!(lines.rest(), Some(vec![b'x'; 5]));
    }

    #[test]
    fn where_an_endless_line_is_cut_does_not_depend_on_how_it_arrives() {
        let text = [vec![b'x'; 2 * MAX_LINE + 5], b"\nend".to_vec()].concat();
        for size in [1, 1000, MAX_LINE - 1, MAX_LINE + 1, text.len()] {
            let mut lines = Lines::default();
            let mut got: Vec<usize> = text
                .chunks(size)
                .flat_map(|c| lines.push(c))
                .map(|l| l.len())
                .collect();
            got.extend(lines.rest().map(|l| l.len()));
            assert_eq!(got, [MAX_LINE, MAX_LINE, 5, 3], "in pieces of {size}");
        }
    }

    #[test]
    fn phases_are_recognised_and_other_lines_stay() {
        let line = br#"@nix { "action": "setPhase", "phase": "unpackPhase" }"#.to_vec();
        assert_eq!(
            event(1, line),
            LogEvent::BuildPhase {
                id: 1,
                phase: "unpackPhase".into()
            }
        );
        for plain in [
            &b"@nix {"[..],
            b"@nix []",
            b"@nix { \"action\": \"msg\" }",
            b"\xff",
        ] {
            assert_eq!(
                event(1, plain.to_vec()),
                LogEvent::BuildLine {
                    id: 1,
                    line: plain.to_vec()
                }
            );
        }
    }
}
