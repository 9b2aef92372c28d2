//! The open directories on the way to a place, of which only the innermost few are held: descriptors are the whole process's, and how deep trees
//! are is their makers' choice.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::session::DIRECTORY;

/// Most directories of one tree that are held open at a time.
pub(crate) const HELD: usize = 32;

/// Directories within a tree that nobody else changes: those further out are found again through `..`.
#[derive(Debug, Default)]
pub(crate) struct Held {
    open: VecDeque<OwnedFd>,
    depth: usize,
}

impl Held {
    pub(crate) fn last(&self) -> Option<&OwnedFd> {
        self.open.back()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.depth == 0
    }

    pub(crate) fn push(&mut self, dir: OwnedFd) {
        if self.open.len() == HELD {
            self.open.pop_front();
        }
        self.open.push_back(dir);
        self.depth += 1;
    }

    /// Takes the innermost one away. `None` when there is none.
    pub(crate) fn pop(&mut self) -> Result<Option<OwnedFd>, Errno> {
        let Some(dir) = self.open.pop_back() else {
            return Ok(None);
        };
        self.depth -= 1;
        if self.open.is_empty() && self.depth > 0 {
            let above = rustix::fs::openat(&dir, "..", DIRECTORY, Mode::empty())?;
            self.open.push_back(above);
        }
        Ok(Some(dir))
    }
}
