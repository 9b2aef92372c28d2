//! The editor against a model of editing and a model of a screen.

use proptest::prelude::*;

use super::width::{text_width, width};
use super::{Editor, Event, MAX_LINE};

const PROMPT: &str = "firn> ";

fn editor() -> Editor {
    let words = ["settings", "signing-key", "ssh-keys", "substituters", "usage"];
    let mut editor = Editor::new(Box::new(move |before| match before.contains(' ') {
        false => words.map(String::from).to_vec(),
        true => vec!["get".into(), "list".into()],
    }));
    editor.ask(PROMPT, true);
    editor
}

fn typed(editor: &mut Editor, bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    for byte in bytes {
        if let Some(event) = editor.byte(*byte) {
            events.push(event);
            editor.ask(PROMPT, true);
        }
    }
    events
}

fn line(bytes: &[u8]) -> String {
    match typed(&mut editor(), &[bytes, b"\r"].concat()).pop() {
        Some(Event::Line(line)) => line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_edit() {
    for (keys, expected) in [
        (&b"hello"[..], "hello"),
        (b"helo\x1b[Dl", "hello"),
        (b"ello\x01h\x05!", "hello!"),
        (b"hexllo\x02\x02\x02\x7f", "hello"),
        (b"hexllo\x1b[D\x1b[D\x1b[D\x1b[D\x1b[3~", "hello"),
        (b"hexllo\x1b[H\x06\x06\x04", "hello"),
        (b"one two\x17three", "one three"),
        (b"one two \x17\x17\x19", "one "),
        (b"one two\x1bb\x0b\x01\x19 ", "two one "),
        (b"one two\x15three", "three"),
        (b"a-b c\x1bb\x1bb\x1bbx\x1bf y", "xa y-b c"),
        ("añ€o\x7f\x7f".as_bytes(), "añ"),
        (b"\x04", ""),
    ] {
        if keys == b"\x04" {
            assert_eq!(typed(&mut editor(), keys), [Event::End]);
        } else {
            assert_eq!(line(keys), expected, "{}", keys.escape_ascii());
        }
    }
}

#[test]
fn history_is_walked_and_the_new_line_is_kept() {
    let mut editor = editor();
    let up = b"\x1b[A";
    typed(&mut editor, b"first\rsecond\r\r");
    let events = typed(&mut editor, &[b"new", &up[..], up, up, b"!\r"].concat());
    assert_eq!(events, [Event::Line("first!".into())]);
    let events = typed(&mut editor, &[b"new", &up[..], b"\x1b[B", b"er\r"].concat());
    assert_eq!(events, [Event::Line("newer".into())]);
    let events = typed(&mut editor, b"dropped\x03\x10\r");
    assert_eq!(events, [Event::Interrupted, Event::Line("newer".into())]);
}

#[test]
fn secrets_are_neither_shown_nor_kept() {
    let mut editor = editor();
    typed(&mut editor, b"before\r");
    editor.ask("password: ", false);
    editor.screen();
    let mut shown = Vec::new();
    let mut event = None;
    for byte in b"s3cret\x17hidden\ttoo\x1b[A\x15s3cret\x1b[A\r" {
        event = editor.byte(*byte).or(event);
        shown.extend(editor.screen());
    }
    assert_eq!(event, Some(Event::Line("s3cret".into())));
    assert!(!shown.contains(&b's') || !shown.windows(3).any(|w| w == b"s3c" || w == b"hid"));
    editor.ask(PROMPT, true);
    assert_eq!(
        typed(&mut editor, b"\x19\x1b[A\r"),
        [Event::Line("before".into())]
    );
}

#[test]
fn tab_completes_and_lists() {
    assert_eq!(line(b"us\t"), "usage ");
    assert_eq!(line(b"se\tg\tx"), "settings get x");
    assert_eq!(line(b"s\tx"), "sx");
    assert_eq!(line(b"zz\t"), "zz");
    assert_eq!(line(b"use \x01\x06\x06\t"), "usage e ");
    let mut editor = editor();
    typed(&mut editor, b"s\t");
    let shown = String::from_utf8(editor.screen()).unwrap();
    assert!(
        shown.contains("settings      signing-key   ssh-keys      substituters\r\n"),
        "{shown:?}"
    );
}

#[test]
fn a_line_has_a_limit() {
    let mut editor = editor();
    let events = typed(&mut editor, &[vec![b'x'; MAX_LINE + 10], "é\r".into()].concat());
    assert_eq!(events, [Event::Line("x".repeat(MAX_LINE))]);
}

/// A row of a terminal that understands what the editor sends; wide characters take two cells.
struct Screen {
    columns: usize,
    row: Vec<char>,
    cursor: usize,
}

impl Screen {
    fn show(&mut self, bytes: &[u8]) {
        let mut text = std::str::from_utf8(bytes).unwrap();
        while let Some(char) = text.chars().next() {
            text = &text[char.len_utf8()..];
            match char {
                '\r' => self.cursor = 0,
                '\n' => self.row.clear(),
                '\u{7}' => {}
                '\u{1b}' => {
                    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    let (parameter, last) = (&text[1..end], &text[end..=end]);
                    text = &text[end + 1..];
                    match last {
                        "K" => self.row.truncate(self.cursor),
                        "C" => self.cursor += parameter.parse::<usize>().unwrap(),
                        "H" => self.cursor = 0,
                        "J" => self.row.clear(),
                        other => panic!("{other}"),
                    }
                }
                char => {
                    let cells = width(char);
                    self.row.truncate(self.cursor);
                    self.row.push(char);
                    self.row.extend((1..cells).map(|_| '\0'));
                    self.cursor += cells;
                }
            }
            assert!(self.cursor < self.columns, "the row wraps");
        }
    }

    fn text(&self) -> String {
        self.row.iter().filter(|char| **char != '\0').collect()
    }
}

#[derive(Clone, Debug)]
enum Stroke {
    Char(char),
    Key(&'static str),
}

fn strokes() -> impl Strategy<Value = Vec<Stroke>> {
    let key = prop::sample::select(vec![
        "\x7f", "\x1b[3~", "\x1b[D", "\x1b[C", "\x01", "\x05", "\x0b", "\x15", "\x17", "\x19", "\x1bb",
        "\x1bf",
    ]);
    let char = prop::sample::select(vec!['a', 'b', ' ', '-', 'é', '漢', '🦀']);
    let stroke = prop_oneof![3 => char.prop_map(Stroke::Char), 2 => key.prop_map(Stroke::Key)];
    prop::collection::vec(stroke, 0..60)
}

/// What stands before and after the cursor.
#[derive(Default)]
struct Model {
    before: Vec<char>,
    after: Vec<char>,
    cut: Vec<char>,
}

impl Model {
    fn stroke(&mut self, stroke: &Stroke) {
        let left = |model: &Self, inner: &dyn Fn(&char) -> bool| {
            let text: String = model.before.iter().collect();
            let trimmed = text.trim_end_matches(|c: char| !inner(&c));
            trimmed.trim_end_matches(|c: char| inner(&c)).chars().count()
        };
        match stroke {
            Stroke::Char(char) => self.before.push(*char),
            Stroke::Key("\x7f") => drop(self.before.pop()),
            Stroke::Key("\x1b[3~") => drop((!self.after.is_empty()).then(|| self.after.remove(0))),
            Stroke::Key("\x1b[D") => self.after.splice(0..0, self.before.pop()).for_each(drop),
            Stroke::Key("\x1b[C") => {
                let taken = self.after.len().min(1);
                self.before.extend(self.after.drain(..taken));
            }
            Stroke::Key("\x01") => self.after.splice(0..0, self.before.drain(..)).for_each(drop),
            Stroke::Key("\x05") => self.before.append(&mut self.after),
            Stroke::Key("\x0b") => {
                let cut = std::mem::take(&mut self.after);
                self.keep(cut);
            }
            Stroke::Key("\x15") => {
                let cut = std::mem::take(&mut self.before);
                self.keep(cut);
            }
            Stroke::Key("\x17") => {
                let at = left(self, &|c| !c.is_whitespace());
                let cut = self.before.split_off(at);
                self.keep(cut);
            }
            Stroke::Key("\x19") => self.before.extend(self.cut.clone()),
            Stroke::Key("\x1bb") => {
                let at = left(self, &|c| c.is_alphanumeric());
                let moved = self.before.split_off(at);
                self.after.splice(0..0, moved).for_each(drop);
            }
            Stroke::Key("\x1bf") => {
                let blanks = self.after.iter().take_while(|c| !c.is_alphanumeric()).count();
                let word = self
                    .after
                    .iter()
                    .skip(blanks)
                    .take_while(|c| c.is_alphanumeric())
                    .count();
                self.before.extend(self.after.drain(..blanks + word));
            }
            Stroke::Key(other) => panic!("{other:?}"),
        }
    }

    fn keep(&mut self, cut: Vec<char>) {
        if !cut.is_empty() {
            self.cut = cut;
        }
    }

    fn text(&self) -> String {
        self.before.iter().chain(&self.after).collect()
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), columns in any::<u16>(), echo in any::<bool>()) {
        let mut editor = editor();
        editor.resize(columns);
        editor.ask("> ", echo);
        for byte in bytes {
            if editor.byte(byte).is_some() {
                editor.ask("> ", echo);
            }
            prop_assert!(std::str::from_utf8(&editor.screen()).is_ok());
        }
    }

    #[test]
    fn editing_and_the_screen_are_what_the_models_say(strokes in strokes(), columns in 4_u16..40) {
        let (mut editor, mut model) = (editor(), Model::default());
        editor.resize(columns);
        let mut screen = Screen { columns: columns.into(), row: Vec::new(), cursor: 0 };
        for stroke in &strokes {
            model.stroke(stroke);
            let bytes = match stroke {
                Stroke::Char(char) => char.to_string(),
                Stroke::Key(key) => (*key).to_owned(),
            };
            for byte in bytes.bytes() {
                prop_assert_eq!(editor.byte(byte), None);
            }
            screen.show(&editor.screen());
            let prompt = if usize::from(columns) >= PROMPT.len() + 8 { PROMPT } else { "" };
            let (shown, text) = (screen.text(), model.text());
            let window = shown.strip_prefix(prompt).unwrap();
            // The window is a part of the text, with the cursor at its place, and as much of the text as there is room for.
            let before: String = model.before.iter().collect();
            let visible: usize = screen.cursor - prompt.len();
            let begins = text.char_indices().map(|(at, _)| at).chain([text.len()]).filter(|at| {
                *at <= before.len() && text[*at..].starts_with(window) && text_width(&before[*at..]) == visible
            });
            prop_assert!(begins.count() > 0, "{:?} of {:?}", window, text);
            if text_width(&text) < usize::from(columns) - prompt.len() {
                prop_assert_eq!(window, &text);
            }
        }
        prop_assert_eq!(editor.byte(b'\r'), Some(Event::Line(model.text())));
    }
}
