//! The reference scan: which store paths does a stream of bytes mention?
//!
//! A path is mentioned when the 32 digits of its hash part occur anywhere, also across the borders of chunks. This is Nix's rule for
//! the references of a build's outputs; what is not among the candidates is never found.

use std::collections::BTreeSet;

use crate::StorePath;
use crate::hash_parts::{HashPart, HashParts, Then, WINDOW};

/// Looks for the hash parts of a set of store paths in bytes that come in chunks.
///
/// ```
/// use firn_nix::{StorePath, refscan::RefScanner};
/// let path = StorePath::from_base_name(b"00000000000000000000000000000001-x")?;
/// let candidates = [path.clone()].into();
/// let mut scan = RefScanner::new(&candidates);
/// scan.push(b"see 000000000000000");
/// scan.push(b"00000000000000001 there");
/// assert_eq!(scan.found(), candidates);
/// # Ok::<(), firn_nix::PathError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RefScanner {
    /// Candidates by hash part, with whether it was seen.
    candidates: HashParts<Candidate>,
    /// Candidates that were not seen yet.
    missing: usize,
    /// Up to `WINDOW - 1` last bytes of what was pushed.
    tail: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Candidate {
    paths: Vec<StorePath>,
    seen: bool,
}

impl RefScanner {
    /// A scan for these paths.
    #[must_use]
    pub fn new(candidates: &BTreeSet<StorePath>) -> Self {
        let mut by_hash = HashParts::<Candidate>::with_capacity(candidates.len());
        for path in candidates {
            if let Ok(part) = HashPart::try_from(path.hash_part().as_bytes()) {
                by_hash.entry(part).or_default().paths.push(path.clone());
            }
        }
        Self {
            missing: by_hash.len(),
            candidates: by_hash,
            tail: Vec::with_capacity(WINDOW * 2),
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        if self.missing == 0 {
            return;
        }
        let (head, kept) = (
            chunk.len().min(WINDOW - 1),
            chunk.len().saturating_sub(WINDOW - 1),
        );
        let mut border = std::mem::take(&mut self.tail);
        border.extend_from_slice(chunk.get(..head).unwrap_or_default());
        self.scan(&border);
        if chunk.len() >= WINDOW {
            self.scan(chunk);
            border.clear();
            border.extend_from_slice(chunk.get(kept..).unwrap_or_default());
        } else {
            border.drain(..border.len().saturating_sub(WINDOW - 1));
        }
        self.tail = border;
    }

    /// The candidates that occurred.
    #[must_use]
    pub fn found(self) -> BTreeSet<StorePath> {
        self.candidates
            .into_values()
            .filter(|c| c.seen)
            .flat_map(|c| c.paths)
            .collect()
    }

    fn scan(&mut self, data: &[u8]) {
        let missing = &mut self.missing;
        self.candidates.search(data, |_, candidate| {
            if !candidate.seen {
                candidate.seen = true;
                *missing -= 1;
            }
            if *missing == 0 { Then::Stop } else { Then::Next }
        });
    }
}
