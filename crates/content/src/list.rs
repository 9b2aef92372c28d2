use std::sync::Arc;

use firn_nix::NarHash;
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::error::ContentError;
use crate::session::DIRECTORY;
use crate::store::Inner;
use crate::walk::Listing;

/// Walks over the prefix directories, holding the names of one at a time.
pub(crate) struct List {
    store: Arc<Inner>,
    prefixes: std::ops::RangeInclusive<u8>,
    names: Option<Listing>,
}

impl List {
    pub(crate) fn new(store: Arc<Inner>) -> Self {
        Self {
            store,
            prefixes: 0..=255,
            names: None,
        }
    }
}

impl Iterator for List {
    type Item = Result<NarHash, ContentError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(names) = &mut self.names {
                while let Some((name, _)) = names.next() {
                    let hash = std::str::from_utf8(name)
                        .ok()
                        .filter(|name| name.len() == 64)
                        .and_then(|name| NarHash::parse(name).ok());
                    if let Some(hash) = hash {
                        return Some(Ok(hash));
                    }
                }
                self.names = None;
            }
            let prefix = format!("{:02x}", self.prefixes.next()?);
            let listing = rustix::fs::openat(&self.store.trees, prefix.as_str(), DIRECTORY, Mode::empty())
                .and_then(|dir| Listing::some(&dir, u64::MAX));
            match listing {
                Ok(listing) => self.names = Some(listing),
                Err(Errno::NOENT) => {}
                Err(errno) => return Some(Err(ContentError::at(prefix)(errno))),
            }
        }
    }
}
