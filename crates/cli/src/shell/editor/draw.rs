//! How the line gets on the screen: one row, drawn as a whole, that scrolls sideways where the line is longer.

use super::Editor;
use super::width::{text_width, width};

/// What a terminal has that does not say.
const COLUMNS: usize = 80;
/// Nothing is drawn for less.
const LEAST_COLUMNS: usize = 4;
/// Columns that must be left for the text beside a prompt.
const LEAST_ROOM: usize = 8;

impl Editor {
    fn columns(&self) -> usize {
        match usize::from(self.columns) {
            0 => COLUMNS,
            columns => columns.max(LEAST_COLUMNS),
        }
    }

    /// Shows prompt, text and cursor in the row where the terminal's cursor is.
    pub(super) fn draw(&mut self) {
        let columns = self.columns();
        let mut at = text_width(&self.prompt);
        let shows_prompt = at + LEAST_ROOM <= columns;
        if !shows_prompt {
            at = 0;
        }
        self.screen.push(b'\r');
        if shows_prompt {
            self.screen.extend(self.prompt.as_bytes());
        }
        if self.echo {
            // The last column stays free: terminals disagree about where the cursor is after it.
            let room = columns.saturating_sub(at + 1);
            at += self.scroll(room);
            let mut used = 0;
            for char in self.text.iter().skip(self.left) {
                used += width(*char);
                if used > room {
                    break;
                }
                self.screen.extend(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        self.screen.extend(b"\x1b[K\r");
        if at > 0 {
            self.screen.extend(format!("\x1b[{at}C").as_bytes());
        }
    }

    /// Moves the window so that the cursor is in it, and no more than necessary; the columns from its left edge to the cursor.
    fn scroll(&mut self, room: usize) -> usize {
        self.left = self.left.min(self.cursor);
        let widths = |from: usize, to: usize| self.text.iter().take(to).skip(from).copied().map(width);
        let mut before: usize = widths(self.left, self.cursor).sum();
        for width in widths(self.left, self.cursor) {
            if before <= room {
                break;
            }
            before -= width;
            self.left += 1;
        }
        // After a deletion there may be room at the end.
        let mut shown: usize = widths(self.left, self.text.len())
            .scan(0, |sum, width| {
                *sum += width;
                Some(*sum)
            })
            .take_while(|sum| *sum <= room + 2)
            .last()
            .unwrap_or(0);
        let hidden: Vec<usize> = widths(0, self.left).rev().take(room).collect();
        for width in hidden {
            if shown + width > room {
                break;
            }
            shown += width;
            before += width;
            self.left -= 1;
        }
        before
    }

    /// Shows the line as it ends, and goes to the next row.
    pub(super) fn finish(&mut self, mark: &str) {
        self.stale = false;
        self.draw();
        self.screen.extend(mark.as_bytes());
        self.screen.extend(b"\r\n");
    }

    /// Shows words in columns below the line, which is drawn again after them.
    pub(super) fn list(&mut self, words: &[String]) {
        let cell = words.iter().map(|word| text_width(word)).max().unwrap_or(0) + 2;
        let each_row = (self.columns() / cell).max(1);
        self.draw();
        for row in words.chunks(each_row) {
            self.screen.extend(b"\r\n");
            let mut padding = 0;
            for word in row {
                self.screen.extend(std::iter::repeat_n(b' ', padding));
                self.screen.extend(word.as_bytes());
                padding = cell - text_width(word);
            }
        }
        self.screen.extend(b"\r\n");
    }
}
