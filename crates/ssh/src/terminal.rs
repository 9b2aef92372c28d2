//! The client's terminal, as far as anybody behind the door cares: its size.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A terminal at the client (RFC 4254 section 6.2). Its modes are the client's; nothing here interprets them.
///
/// Clones are the same terminal: the size follows the client's window.
#[derive(Clone)]
pub struct Terminal(Arc<AtomicU32>);

impl Terminal {
    /// One of that size in characters; 0 where the client does not know.
    pub fn new(columns: u16, rows: u16) -> Self {
        Self(Arc::new(AtomicU32::new(packed(columns, rows))))
    }

    /// Its width in characters at the moment.
    pub fn columns(&self) -> u16 {
        let [_, _, high, low] = self.0.load(Ordering::Relaxed).to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// Its height in lines at the moment.
    pub fn rows(&self) -> u16 {
        let [high, low, _, _] = self.0.load(Ordering::Relaxed).to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    pub(crate) fn of_request(columns: u32, rows: u32) -> Self {
        let terminal = Self::new(0, 0);
        terminal.resize(columns, rows);
        terminal
    }

    pub(crate) fn resize(&self, columns: u32, rows: u32) {
        let narrow = |size: u32| u16::try_from(size).unwrap_or(u16::MAX);
        self.0
            .store(packed(narrow(columns), narrow(rows)), Ordering::Relaxed);
    }
}

fn packed(columns: u16, rows: u16) -> u32 {
    u32::from(rows) << 16 | u32::from(columns)
}

impl PartialEq for Terminal {
    fn eq(&self, other: &Self) -> bool {
        (self.columns(), self.rows()) == (other.columns(), other.rows())
    }
}

impl Eq for Terminal {}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}", self.columns(), self.rows())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_survive_and_are_cut_to_what_a_terminal_can_have() {
        let terminal = Terminal::new(80, 24);
        let same = terminal.clone();
        terminal.resize(u32::MAX, 1);
        assert_eq!((same.columns(), same.rows()), (u16::MAX, 1));
        assert_eq!(Terminal::of_request(3, 70_000), Terminal::new(3, u16::MAX));
    }
}
