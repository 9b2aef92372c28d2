use std::os::fd::OwnedFd;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

/// The sorted names in one directory, all in one allocation.
#[derive(Debug)]
pub(crate) struct Listing {
    names: Vec<u8>,
    entries: Vec<Entry>,
    next: usize,
}

#[derive(Debug)]
struct Entry {
    start: usize,
    len: usize,
    kind: FileType,
}

impl Listing {
    /// Lists `dir`; `None` when it has more than `most` entries.
    pub(crate) fn read(dir: &OwnedFd, most: u64) -> Result<Option<Self>, Errno> {
        let mut listing = Self::some(dir, most.saturating_add(1))?;
        if listing.len() > most {
            return Ok(None);
        }
        listing.sort();
        Ok(Some(listing))
    }

    /// Lists up to `most` entries in the order of the directory.
    pub(crate) fn some(dir: &OwnedFd, most: u64) -> Result<Self, Errno> {
        let mut names = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        let mut buffer = Vec::<u8>::with_capacity(16 * 1024);
        let mut raw = RawDir::new(dir, buffer.spare_capacity_mut());
        while (entries.len() as u64) < most
            && let Some(entry) = raw.next()
        {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            entries.push(Entry {
                start: names.len(),
                len: name.len(),
                kind: entry.file_type(),
            });
            names.extend_from_slice(name);
        }
        Ok(Self {
            names,
            entries,
            next: 0,
        })
    }

    fn sort(&mut self) {
        let names = &self.names;
        let name = |entry: &Entry| names.get(entry.start..entry.start + entry.len);
        self.entries.sort_unstable_by(|a, b| name(a).cmp(&name(b)));
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn next(&mut self) -> Option<(&[u8], FileType)> {
        let entry = self.entries.get(self.next)?;
        self.next += 1;
        Some((self.names.get(entry.start..entry.start + entry.len)?, entry.kind))
    }
}
