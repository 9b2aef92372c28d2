//! Trees, their events, and readers that receive them in pieces.

mod installed_nix;
mod limits;
mod malformed;
mod properties;
mod vectors;

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::{Malformed, NarError, NarLimits, NarReader, NarVisitor, NarWriter};

/// A tree in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    Directory(BTreeMap<Vec<u8>, Tree>),
    Regular(bool, Vec<u8>),
    Symlink(Vec<u8>),
}

impl Tree {
    pub(super) fn show<V: NarVisitor>(&self, visitor: &mut V) -> Result<(), V::Error> {
        match self {
            Self::Directory(entries) => {
                visitor.directory()?;
                for (name, node) in entries {
                    visitor.entry(name)?;
                    node.show(visitor)?;
                }
                visitor.end_directory()
            }
            Self::Regular(executable, contents) => {
                visitor.regular(*executable, contents.len() as u64)?;
                if !contents.is_empty() {
                    visitor.data(contents)?;
                }
                visitor.end_regular()
            }
            Self::Symlink(target) => visitor.symlink(target),
        }
    }

    pub(super) fn nar(&self) -> Vec<u8> {
        let mut writer = NarWriter::new(Vec::new());
        self.show(&mut writer).unwrap();
        writer.into_inner()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Directory,
    Entry(Vec<u8>),
    EndDirectory,
    Regular(bool, u64),
    Data(Vec<u8>),
    EndRegular,
    Symlink(Vec<u8>),
}

/// Records events, neighbouring pieces of data joined.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Events(pub Vec<Event>);

impl NarVisitor for Events {
    type Error = Infallible;

    fn directory(&mut self) -> Result<(), Infallible> {
        self.0.push(Event::Directory);
        Ok(())
    }

    fn entry(&mut self, name: &[u8]) -> Result<(), Infallible> {
        self.0.push(Event::Entry(name.to_vec()));
        Ok(())
    }

    fn end_directory(&mut self) -> Result<(), Infallible> {
        self.0.push(Event::EndDirectory);
        Ok(())
    }

    fn regular(&mut self, executable: bool, size: u64) -> Result<(), Infallible> {
        self.0.push(Event::Regular(executable, size));
        Ok(())
    }

    fn data(&mut self, chunk: &[u8]) -> Result<(), Infallible> {
        assert!(!chunk.is_empty(), "empty chunk");
        if let Some(Event::Data(data)) = self.0.last_mut() {
            data.extend_from_slice(chunk);
        } else {
            self.0.push(Event::Data(chunk.to_vec()));
        }
        Ok(())
    }

    fn end_regular(&mut self) -> Result<(), Infallible> {
        self.0.push(Event::EndRegular);
        Ok(())
    }

    fn symlink(&mut self, target: &[u8]) -> Result<(), Infallible> {
        self.0.push(Event::Symlink(target.to_vec()));
        Ok(())
    }
}

/// Reads `nar` in pieces of at most `piece` bytes, checking what the reader says of itself; returns the events and
/// what was left over.
pub(super) fn read(nar: &[u8], piece: usize, limits: NarLimits) -> Result<(Events, usize), Malformed> {
    let mut reader = NarReader::new(limits);
    let mut events = Events::default();
    let mut rest = nar;
    while !rest.is_empty() && !reader.is_complete() {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        let taken = reader.push(now, &mut events).map_err(|error| match error {
            NarError::Malformed(malformed) => malformed,
            NarError::Visitor(never) => match never {},
        })?;
        assert!(taken == now.len() || reader.is_complete());
        rest = &nar[nar.len() - later.len() - (now.len() - taken)..];
        assert_eq!(reader.bytes_read() as usize, nar.len() - rest.len());
    }
    reader.finish()?;
    assert_eq!(reader.bytes_to_come(), 0);
    Ok((events, rest.len()))
}

pub(super) fn problem(nar: &[u8]) -> Malformed {
    let whole = read(nar, nar.len().max(1), NarLimits::default()).unwrap_err();
    for piece in [1, 7, 8, 9] {
        let pieces = read(nar, piece, NarLimits::default()).unwrap_err();
        assert_eq!(pieces, whole, "in pieces of {piece}");
    }
    whole
}

/// The encoding of one token.
pub(super) fn token(text: &[u8]) -> Vec<u8> {
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(text);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

pub(super) fn tokens<T: AsRef<[u8]>>(texts: &[T]) -> Vec<u8> {
    texts.iter().flat_map(|text| token(text.as_ref())).collect()
}
