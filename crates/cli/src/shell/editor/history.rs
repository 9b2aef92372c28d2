//! Lines of before.

use std::collections::VecDeque;

/// Lines that are kept.
const MAX_LINES: usize = 1000;

/// What was entered, and where in it the person looks.
#[derive(Debug, Default)]
pub struct History {
    lines: VecDeque<String>,
    /// The line that is looked at; `None` is the new one.
    at: Option<usize>,
    /// The new line as it was left.
    draft: String,
}

impl History {
    /// Keeps a line, and looks at a new one.
    pub fn push(&mut self, line: &str) {
        self.at = None;
        if line.trim().is_empty() || self.lines.back().is_some_and(|last| last == line) {
            return;
        }
        if self.lines.len() >= MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }

    /// Looks at a new line.
    pub fn leave(&mut self) {
        self.at = None;
    }

    /// The line before the one that is looked at, when there is one. `now` is what stands in the editor.
    pub fn older(&mut self, now: &str) -> Option<&str> {
        let before = self.at.unwrap_or(self.lines.len()).checked_sub(1)?;
        if self.at.is_none() {
            now.clone_into(&mut self.draft);
        }
        self.at = Some(before);
        self.lines.get(before).map(String::as_str)
    }

    /// The line after it; after the last one what was left to look.
    pub fn newer(&mut self) -> Option<&str> {
        let after = self.at? + 1;
        self.at = Some(after).filter(|at| *at < self.lines.len());
        Some(self.lines.get(after).unwrap_or(&self.draft))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thousand_without_repetition() {
        let mut history = History::default();
        assert_eq!(history.older("x"), None);
        for number in 0..2 * MAX_LINES {
            history.push(&number.to_string());
            history.push(&number.to_string());
            history.push(" ");
        }
        assert_eq!(history.lines.len(), MAX_LINES);
        assert_eq!(history.older("draft"), Some("1999"));
        assert_eq!(history.older("1999"), Some("1998"));
        assert_eq!(history.newer(), Some("1999"));
        assert_eq!(history.newer(), Some("draft"));
        assert_eq!(history.newer(), None);
    }
}
