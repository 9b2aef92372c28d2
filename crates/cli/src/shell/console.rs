//! Lines from a client: from a keyboard, with an editor, or from a program, as they come.

use std::io;

use firn_ssh::Terminal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::editor::{Editor, Event};
use super::{Input, Output};
use crate::commands;

/// Longest line without a terminal, in bytes.
const MAX_LINE: u64 = 64 * 1024;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A line, without its end.
    Line(Vec<u8>),
    /// The person dropped the line.
    Interrupted,
    /// No more lines.
    End,
    /// More than a line may have; what follows is lost.
    TooLong,
}

/// Where lines come from.
pub struct Console {
    stdin: BufReader<Input>,
    keyboard: Option<(Terminal, Editor)>,
}

impl Console {
    /// With an editor where there is a terminal.
    pub fn new(stdin: Input, terminal: Option<Terminal>) -> Self {
        let keyboard = terminal.map(|terminal| (terminal, Editor::new(Box::new(commands::complete))));
        Self {
            stdin: BufReader::new(stdin),
            keyboard,
        }
    }

    pub fn is_terminal(&self) -> bool {
        self.keyboard.is_some()
    }

    /// The next line. A person sees the prompt, and with `echo` what is typed.
    ///
    /// # Errors
    /// The client has gone.
    pub async fn ask(&mut self, prompt: &str, echo: bool, screen: &mut Output) -> io::Result<Answer> {
        let Some((terminal, editor)) = &mut self.keyboard else {
            return self.line().await;
        };
        editor.ask(prompt, echo);
        loop {
            editor.resize(terminal.columns());
            screen.write_all(&editor.screen()).await?;
            screen.flush().await?;
            let bytes = self.stdin.fill_buf().await?;
            if bytes.is_empty() {
                screen.write_all(b"\r\n").await?;
                return Ok(Answer::End);
            }
            editor.resize(terminal.columns());
            let (mut used, mut event) = (0, None);
            for byte in bytes {
                used += 1;
                event = editor.byte(*byte);
                if event.is_some() {
                    break;
                }
            }
            // What was typed ahead stays for the next line.
            self.stdin.consume(used);
            let answer = match event {
                None => continue,
                Some(Event::Line(line)) => Answer::Line(line.into_bytes()),
                Some(Event::Interrupted) => Answer::Interrupted,
                Some(Event::End) => Answer::End,
            };
            screen.write_all(&editor.screen()).await?;
            screen.flush().await?;
            return Ok(answer);
        }
    }

    /// Returns when the person has had enough: control-C, `q`, or hanging up. Never where there is no terminal.
    pub async fn interrupted(&mut self) {
        const CONTROL_C: u8 = 3;
        if self.keyboard.is_none() {
            return std::future::pending().await;
        }
        while let Ok(bytes) = self.stdin.fill_buf().await {
            let (all, enough) = (
                bytes.len(),
                bytes.iter().position(|b| matches!(b, &CONTROL_C | b'q')),
            );
            if all == 0 {
                return;
            }
            self.stdin.consume(enough.map_or(all, |at| at + 1));
            if enough.is_some() {
                return;
            }
        }
    }

    async fn line(&mut self) -> io::Result<Answer> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stdin).take(MAX_LINE + 1);
        if limited.read_until(b'\n', &mut line).await? == 0 {
            return Ok(Answer::End);
        }
        if line.pop_if(|last| *last == b'\n').is_some() {
            line.pop_if(|last| *last == b'\r');
        } else if line.len() as u64 > MAX_LINE {
            return Ok(Answer::TooLong);
        }
        Ok(Answer::Line(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answers(input: Vec<u8>, terminal: Option<Terminal>) -> (Vec<Answer>, String) {
        let mut console = Console::new(Box::new(io::Cursor::new(input)), terminal);
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut screen: Output = Box::new(ours);
        let mut answers = Vec::new();
        loop {
            let answer = console.ask("> ", true, &mut screen).await.unwrap();
            let over = matches!(answer, Answer::End | Answer::TooLong);
            answers.push(answer);
            if over {
                break;
            }
        }
        drop(screen);
        let mut shown = String::new();
        theirs.read_to_string(&mut shown).await.unwrap();
        (answers, shown)
    }

    fn line(text: &str) -> Answer {
        Answer::Line(text.into())
    }

    #[tokio::test]
    async fn programs_get_no_prompt_and_have_a_limit() {
        let (lines, shown) = answers(b"one\r\n\ntwo".to_vec(), None).await;
        assert_eq!(lines, [line("one"), line(""), line("two"), Answer::End]);
        assert_eq!(shown, "");
        let most = usize::try_from(MAX_LINE).unwrap();
        let (lines, _) = answers([vec![b'x'; most], b"\nend".to_vec()].concat(), None).await;
        assert_eq!(lines, [line(&"x".repeat(most)), line("end"), Answer::End]);
        let (lines, _) = answers(vec![b'x'; most + 1], None).await;
        assert_eq!(lines, [Answer::TooLong]);
    }

    #[tokio::test]
    async fn people_get_an_editor() {
        let keys = b"whoam\x1b[D\x1b[C\ti\x7f\rdrop\x03two\r\nthree\r\x04".to_vec();
        let (lines, shown) = answers(keys, Some(Terminal::new(40, 10))).await;
        let expected = [
            line("whoami "),
            Answer::Interrupted,
            line("two"),
            line("three"),
            Answer::End,
        ];
        assert_eq!(lines, expected);
        assert!(
            shown.contains("> whoami") && shown.contains("drop\u{1b}[K\r\u{1b}[6C^C\r\n"),
            "{shown:?}"
        );
    }
}
