//! A line editor as a state machine: bytes of a keyboard in, bytes for a screen and whole lines out. It does no input or output.

mod draw;
mod history;
mod keys;
#[cfg(test)]
mod tests;
mod width;

use history::History;
use keys::{Decoder, Key};

/// Longest line, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// Rings the terminal's bell.
const BELL: u8 = 7;

/// What the person did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Entered a line.
    Line(String),
    /// Dropped the line (Ctrl-C).
    Interrupted,
    /// Had enough (Ctrl-D on an empty line).
    End,
}

/// What may stand where the last word of the text begins or ends; whole words, in the order of display.
pub type Complete = Box<dyn Fn(&str) -> Vec<String> + Send + Sync>;

/// One line in the making.
pub struct Editor {
    complete: Complete,
    keys: Decoder,
    history: History,
    prompt: String,
    /// Whether what is typed is shown and kept.
    echo: bool,
    text: Vec<char>,
    /// Bytes of the text.
    size: usize,
    /// Between characters of the text.
    cursor: usize,
    /// First character on the screen.
    left: usize,
    /// What was cut last.
    cut: Vec<char>,
    columns: u16,
    /// Whether the screen shows something else than the text.
    stale: bool,
    screen: Vec<u8>,
}

impl Editor {
    pub fn new(complete: Complete) -> Self {
        Self {
            complete,
            keys: Decoder::default(),
            history: History::default(),
            prompt: String::new(),
            echo: true,
            text: Vec::new(),
            size: 0,
            cursor: 0,
            left: 0,
            cut: Vec::new(),
            columns: 0,
            stale: false,
            screen: Vec::new(),
        }
    }

    /// Begins a line. Without `echo` it is a secret: not shown, not kept, not completed.
    pub fn ask(&mut self, prompt: &str, echo: bool) {
        prompt.clone_into(&mut self.prompt);
        self.echo = echo;
        self.replace(&[]);
        self.stale = true;
    }

    /// The terminal has that many columns now; 0 when nobody knows.
    pub fn resize(&mut self, columns: u16) {
        self.stale |= self.columns != columns;
        self.columns = columns;
    }

    /// What has to be sent to the terminal to show how things are.
    pub fn screen(&mut self) -> Vec<u8> {
        if std::mem::take(&mut self.stale) {
            self.draw();
        }
        std::mem::take(&mut self.screen)
    }

    /// A byte from the keyboard. After an event, [`Editor::ask`] for the next line.
    pub fn byte(&mut self, byte: u8) -> Option<Event> {
        let key = self.keys.byte(byte)?;
        self.key(key)
    }

    fn key(&mut self, key: Key) -> Option<Event> {
        self.stale = true;
        let end = self.text.len();
        match key {
            Key::Char(char) => self.insert(&[char]),
            Key::Enter => {
                self.cursor = end;
                self.finish("");
                let line = self.line();
                if self.echo {
                    self.history.push(&line);
                }
                return Some(Event::Line(line));
            }
            Key::Interrupt => {
                self.history.leave();
                self.cursor = end;
                self.finish("^C");
                return Some(Event::Interrupted);
            }
            Key::EndOfFile if end == 0 => {
                self.finish("");
                return Some(Event::End);
            }
            Key::Tab if self.echo => self.tab(),
            Key::Tab => self.insert(&['\t']),
            Key::Backspace => {
                self.remove(self.cursor.saturating_sub(1), self.cursor);
            }
            Key::Delete | Key::EndOfFile => {
                self.remove(self.cursor, (self.cursor + 1).min(end));
            }
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = (self.cursor + 1).min(end),
            Key::WordLeft => self.cursor = self.word_left(char::is_alphanumeric),
            Key::WordRight => self.cursor = self.word_right(),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = end,
            Key::Up | Key::Down if !self.echo => {}
            Key::Up => {
                let now = self.line();
                let older = self.history.older(&now).map(|line| line.chars().collect());
                self.look_at(older);
            }
            Key::Down => {
                let newer = self.history.newer().map(|line| line.chars().collect());
                self.look_at(newer);
            }
            Key::KillToEnd => self.kill(self.cursor, end),
            Key::KillToStart => self.kill(0, self.cursor),
            Key::KillWord => self.kill(self.word_left(|char| !char.is_whitespace()), self.cursor),
            Key::Yank => {
                let cut = std::mem::take(&mut self.cut);
                self.insert(&cut);
                self.cut = cut;
            }
            Key::Clear => self.screen.extend(b"\x1b[H\x1b[2J"),
        }
        None
    }

    fn line(&self) -> String {
        self.text.iter().collect()
    }

    fn replace(&mut self, text: &[char]) {
        self.text = text.to_vec();
        self.size = size(text);
        self.cursor = text.len();
        self.left = 0;
    }

    fn look_at(&mut self, line: Option<Vec<char>>) {
        match line {
            Some(line) => self.replace(&line),
            None => self.screen.push(BELL),
        }
    }

    fn insert(&mut self, chars: &[char]) {
        let more = size(chars);
        if self.size + more > MAX_LINE {
            return self.screen.push(BELL);
        }
        self.text.splice(self.cursor..self.cursor, chars.iter().copied());
        self.size += more;
        self.cursor += chars.len();
    }

    /// Removes the characters from `from` to `to`, which are within the text.
    fn remove(&mut self, from: usize, to: usize) -> Vec<char> {
        let removed: Vec<char> = self.text.drain(from..to).collect();
        self.size -= size(&removed);
        if removed.is_empty() {
            self.screen.push(BELL);
        }
        self.cursor = from;
        removed
    }

    fn kill(&mut self, from: usize, to: usize) {
        let removed = self.remove(from, to);
        // A secret must not come out again in a line that is shown.
        if self.echo && !removed.is_empty() {
            self.cut = removed;
        }
    }

    fn word_left(&self, inner: impl Fn(char) -> bool) -> usize {
        let mut before = self.text.iter().take(self.cursor).rev().copied().peekable();
        let mut at = self.cursor;
        while before.next_if(|char| !inner(*char)).is_some() {
            at -= 1;
        }
        while before.next_if(|char| inner(*char)).is_some() {
            at -= 1;
        }
        at
    }

    fn word_right(&self) -> usize {
        let mut after = self.text.iter().skip(self.cursor).peekable();
        let mut at = self.cursor;
        while after.next_if(|char| !char.is_alphanumeric()).is_some() {
            at += 1;
        }
        while after.next_if(|char| char.is_alphanumeric()).is_some() {
            at += 1;
        }
        at
    }

    fn tab(&mut self) {
        let before: String = self.text.iter().take(self.cursor).collect();
        let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
        let mut candidates = (self.complete)(&before);
        candidates.retain(|candidate| candidate.starts_with(word));
        let Some(mut common) = candidates.first().cloned() else {
            return self.screen.push(BELL);
        };
        for candidate in &candidates {
            while !candidate.starts_with(&common) {
                common.pop();
            }
        }
        let alone = candidates.len() == 1;
        let mut missing: Vec<char> = common.chars().skip(word.chars().count()).collect();
        if alone {
            missing.push(' ');
        }
        if missing.is_empty() {
            self.list(&candidates);
        } else {
            self.insert(&missing);
        }
    }
}

fn size(text: &[char]) -> usize {
    text.iter().map(|char| char.len_utf8()).sum()
}
