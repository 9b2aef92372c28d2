use std::io;

use super::NarVisitor;
use super::grammar as g;

/// Writes the NAR of the tree whose events it is given.
///
/// Every event is one `write_all`; give it a buffered writer. It checks that file sizes are kept and trusts the caller
/// for the order of events and of names.
#[derive(Debug)]
pub struct NarWriter<W> {
    out: W,
    /// Tokens of the event at hand.
    tokens: Vec<u8>,
    /// Open directories.
    depth: usize,
    /// Bytes of the open file that have not come yet, and the padding after them.
    left: u64,
    padding: u64,
}

impl<W: io::Write> NarWriter<W> {
    /// At the start of an archive.
    pub fn new(out: W) -> Self {
        let mut tokens = Vec::new();
        put(&mut tokens, g::MAGIC);
        Self {
            out,
            tokens,
            depth: 0,
            left: 0,
            padding: 0,
        }
    }

    /// The writer inside.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// The writer inside, after the last event.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn put(&mut self, tokens: &[&[u8]]) -> io::Result<()> {
        for token in tokens {
            put(&mut self.tokens, token);
        }
        self.out.write_all(&self.tokens)?;
        self.tokens.clear();
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        if self.depth > 0 {
            self.put(&[g::CLOSE, g::CLOSE])
        } else {
            self.put(&[g::CLOSE])
        }
    }
}

fn put(out: &mut Vec<u8>, token: &[u8]) {
    out.extend_from_slice(&(token.len() as u64).to_le_bytes());
    out.extend_from_slice(token);
    out.resize(out.len() + token.len().wrapping_neg() % 8, 0);
}

impl<W: io::Write> NarVisitor for NarWriter<W> {
    type Error = io::Error;

    fn directory(&mut self) -> io::Result<()> {
        self.depth += 1;
        self.put(&[g::OPEN, g::TYPE, g::DIRECTORY])
    }

    fn entry(&mut self, name: &[u8]) -> io::Result<()> {
        self.put(&[g::ENTRY, g::OPEN, g::NAME, name, g::NODE])
    }

    fn end_directory(&mut self) -> io::Result<()> {
        self.depth = self.depth.saturating_sub(1);
        self.close()
    }

    fn regular(&mut self, executable: bool, size: u64) -> io::Result<()> {
        self.left = size;
        self.padding = size.wrapping_neg() % 8;
        for token in [g::OPEN, g::TYPE, g::REGULAR] {
            put(&mut self.tokens, token);
        }
        if executable {
            put(&mut self.tokens, g::EXECUTABLE);
            put(&mut self.tokens, b"");
        }
        put(&mut self.tokens, g::CONTENTS);
        self.tokens.extend_from_slice(&size.to_le_bytes());
        self.put(&[])
    }

    fn data(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.left = self
            .left
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| wrong_size("more"))?;
        self.out.write_all(chunk)
    }

    fn end_regular(&mut self) -> io::Result<()> {
        if self.left != 0 {
            return Err(wrong_size("less"));
        }
        let padding = usize::try_from(self.padding).unwrap_or_default();
        self.tokens.resize(padding, 0);
        self.close()
    }

    fn symlink(&mut self, target: &[u8]) -> io::Result<()> {
        for token in [g::OPEN, g::TYPE, g::SYMLINK, g::TARGET, target] {
            put(&mut self.tokens, token);
        }
        self.close()
    }
}

fn wrong_size(than: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("a file has {than} contents than its announced size"),
    )
}
