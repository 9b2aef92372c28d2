//! Bytes of a keyboard, as terminals send them (ECMA-48 control sequences, xterm's keys), become keys.

/// What was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Enter,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D: deletes, or ends what is empty.
    EndOfFile,
    /// Ctrl-K.
    KillToEnd,
    /// Ctrl-U.
    KillToStart,
    /// Ctrl-W.
    KillWord,
    /// Ctrl-Y.
    Yank,
    /// Ctrl-L.
    Clear,
}

/// Parameter bytes of a control sequence that are looked at.
const MAX_PARAMETERS: usize = 16;

/// Recognizes keys byte by byte. What means nothing is passed over.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// A line feed right after a return is the same Enter.
    after_return: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Plain,
    /// Within a character of UTF-8: the bits so far, how many bytes are to come, and the least that they may make.
    Utf8 {
        code: u32,
        missing: u8,
        least: u32,
    },
    Escape,
    /// After `ESC [`: the parameters so far.
    Control(Vec<u8>),
    /// After `ESC O`.
    Application,
}

impl Decoder {
    /// The next byte; the key that it completes.
    pub fn byte(&mut self, byte: u8) -> Option<Key> {
        let after_return = std::mem::replace(&mut self.after_return, false);
        match std::mem::take(&mut self.state) {
            State::Utf8 { code, missing, least } if byte & 0xc0 == 0x80 => {
                let code = code << 6 | u32::from(byte & 0x3f);
                if missing > 1 {
                    self.state = State::Utf8 {
                        code,
                        missing: missing - 1,
                        least,
                    };
                    return None;
                }
                let char = char::from_u32(code).filter(|char| code >= least && !char.is_control());
                char.map(Key::Char)
            }
            State::Escape => match byte {
                b'[' => {
                    self.state = State::Control(Vec::new());
                    None
                }
                b'O' => {
                    self.state = State::Application;
                    None
                }
                b'b' | b'B' => Some(Key::WordLeft),
                b'f' | b'F' => Some(Key::WordRight),
                0x7f => Some(Key::KillWord),
                0..0x20 => self.plain(byte, after_return),
                _ => None,
            },
            State::Control(mut parameters) => match byte {
                0x20..0x40 => {
                    if parameters.len() < MAX_PARAMETERS {
                        parameters.push(byte);
                    }
                    self.state = State::Control(parameters);
                    None
                }
                0x40..0x7f => control(&parameters, byte),
                _ => self.plain(byte, after_return),
            },
            State::Application => match byte {
                0x40..0x7f => control(b"", byte),
                _ => self.plain(byte, after_return),
            },
            State::Plain | State::Utf8 { .. } => self.plain(byte, after_return),
        }
    }

    fn plain(&mut self, byte: u8, after_return: bool) -> Option<Key> {
        Some(match byte {
            b'\r' => {
                self.after_return = true;
                Key::Enter
            }
            b'\n' if after_return => return None,
            b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x03 => Key::Interrupt,
            0x04 => Key::EndOfFile,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x08 | 0x7f => Key::Backspace,
            0x0b => Key::KillToEnd,
            0x0c => Key::Clear,
            0x0e => Key::Down,
            0x10 => Key::Up,
            0x15 => Key::KillToStart,
            0x17 => Key::KillWord,
            0x19 => Key::Yank,
            0x1b => {
                self.state = State::Escape;
                return None;
            }
            0x20..0x7f => Key::Char(char::from(byte)),
            0xc0..0xf8 => {
                let (missing, mask, least) = match byte {
                    0xc0..0xe0 => (1, 0x1f, 0x80),
                    0xe0..0xf0 => (2, 0x0f, 0x800),
                    _ => (3, 0x07, 0x1_0000),
                };
                self.state = State::Utf8 {
                    code: u32::from(byte & mask),
                    missing,
                    least,
                };
                return None;
            }
            _ => return None,
        })
    }
}

/// The key of `ESC [ parameters last`.
fn control(parameters: &[u8], last: u8) -> Option<Key> {
    // Modifiers follow a semicolon: 5 is Ctrl, 3 is Alt.
    let word = parameters.ends_with(b";5") || parameters.ends_with(b";3");
    Some(match (last, parameters) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) if word => Key::WordRight,
        (b'C', _) => Key::Right,
        (b'D', _) if word => Key::WordLeft,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"3") => Key::Delete,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        bytes.iter().filter_map(|byte| decoder.byte(*byte)).collect()
    }

    #[test]
    fn what_terminals_send() {
        use Key::*;
        assert_eq!(
            keys("aé€𝄞".as_bytes()),
            [Char('a'), Char('é'), Char('€'), Char('𝄞')]
        );
        assert_eq!(
            keys(b"\x1b[A\x1b[B\x1b[C\x1b[D\x1bOA\x1bOH"),
            [Up, Down, Right, Left, Up, Home]
        );
        assert_eq!(
            keys(b"\x1b[H\x1b[F\x1b[1~\x1b[4~\x1b[3~"),
            [Home, End, Home, End, Delete]
        );
        assert_eq!(
            keys(b"\x1b[1;5C\x1b[1;3D\x1bb\x1bf"),
            [WordRight, WordLeft, WordLeft, WordRight]
        );
        assert_eq!(keys(b"\r\nx\n\n\r"), [Enter, Char('x'), Enter, Enter, Enter]);
    }

    #[test]
    fn what_means_nothing_is_passed_over() {
        use Key::*;
        for noise in [
            &b"\x00"[..],
            b"\x1b[200~",
            b"\x1b[9999999999999999999999999999;1R",
            b"\x1b[?25h",
            b"\xff\xfe\x80",
            b"\xc0\x80",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xc2\x85",
            b"\xe2\x82",
            b"\x1bx",
        ] {
            let bytes = [noise, b"ok"].concat();
            assert_eq!(keys(&bytes), [Char('o'), Char('k')], "{}", noise.escape_ascii());
        }
        // A key that nobody finished does not swallow Ctrl-C.
        for begun in [&b"\x1b"[..], b"\x1b[", b"\x1b[1;", b"\x1bO", b"\xe2"] {
            assert_eq!(keys(&[begun, b"\x03"].concat()), [Interrupt]);
        }
    }
}
