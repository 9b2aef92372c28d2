//! The reference scan: which store paths does a stream of bytes mention?
//!
//! A path is mentioned when the 32 digits of its hash part occur anywhere, also across the borders of chunks. This is Nix's rule for
//! the references of a build's outputs; what is not among the candidates is never found.

use std::collections::{BTreeSet, HashMap};

use crate::StorePath;
use crate::base32::{NO_DIGIT, raw_digit};

/// Digits of a hash part.
const WINDOW: usize = 32;
/// Base-32 digits that index the filter, and its size in bits.
const FILTER_DIGITS: usize = 4;
const FILTER_BITS: usize = 1 << (5 * FILTER_DIGITS);

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
    candidates: HashMap<[u8; WINDOW], Candidate>,
    /// One bit per combination of the last digits of a candidate.
    filter: Vec<u64>,
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
        let mut by_hash = HashMap::<[u8; WINDOW], Candidate>::with_capacity(candidates.len());
        let mut filter = vec![0u64; FILTER_BITS / 64];
        for path in candidates {
            let Ok(hash) = <[u8; WINDOW]>::try_from(path.hash_part().as_bytes()) else {
                continue;
            };
            let (word, bit) = filter_slot(&hash);
            if let Some(word) = filter.get_mut(word) {
                *word |= bit;
            }
            by_hash.entry(hash).or_default().paths.push(path.clone());
        }
        Self {
            missing: by_hash.len(),
            candidates: by_hash,
            filter,
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

    /// Looks at every window that lies wholly in `data`. A byte that is no digit rules out all windows that contain it, so each
    /// window is read from its end, and only as far as the bytes that are not known to be digits.
    fn scan(&mut self, data: &[u8]) {
        let mut start = 0;
        let mut known = 0;
        while let Some(window) = data.get(start..).and_then(<[u8]>::first_chunk::<WINDOW>) {
            let unknown = window.get(known..).unwrap_or_default();
            match unknown.iter().rposition(|&b| raw_digit(b) == NO_DIGIT) {
                Some(at) => {
                    let skip = known + at + 1;
                    start += skip;
                    known = WINDOW - skip;
                }
                None => {
                    if self.may_match(window) && self.matched(window) {
                        return;
                    }
                    start += 1;
                    known = WINDOW - 1;
                }
            }
        }
    }

    fn may_match(&self, window: &[u8; WINDOW]) -> bool {
        let (word, bit) = filter_slot(window);
        self.filter.get(word).is_some_and(|w| w & bit != 0)
    }

    /// Notes a match; true when nothing is left to be found.
    fn matched(&mut self, window: &[u8; WINDOW]) -> bool {
        if let Some(candidate) = self.candidates.get_mut(window)
            && !candidate.seen
        {
            candidate.seen = true;
            self.missing -= 1;
        }
        self.missing == 0
    }
}

/// Word and bit of the filter for a window of digits: its last digits are the most random part of what precedes a dash.
#[inline]
fn filter_slot(window: &[u8; WINDOW]) -> (usize, u64) {
    let index = window
        .iter()
        .rev()
        .take(FILTER_DIGITS)
        .fold(0usize, |n, &b| n << 5 | usize::from(raw_digit(b) & 31));
    (index / 64, 1 << (index % 64))
}
