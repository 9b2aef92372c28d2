//! Finds the hash parts of store paths in bytes.

use std::collections::HashMap;

use crate::base32::{NO_DIGIT, raw_digit};

/// Digits of a hash part.
pub(crate) const WINDOW: usize = 32;
/// The digits of one store path.
pub(crate) type HashPart = [u8; WINDOW];

/// Base-32 digits that index the filter, and its size in bits.
const FILTER_DIGITS: usize = 4;
const FILTER_BITS: usize = 1 << (5 * FILTER_DIGITS);

/// How a search goes on after a hit.
pub(crate) enum Then {
    /// With the window that starts one byte later.
    Next,
    /// Behind the hit: hits do not overlap.
    Behind,
    /// Not at all.
    Stop,
}

/// Values by hash part, made for looking at every window of long data.
#[derive(Clone, Debug)]
pub(crate) struct HashParts<T> {
    values: HashMap<HashPart, T>,
    /// One bit per combination of the last digits of a hash part.
    filter: Vec<u64>,
}

impl<T> HashParts<T> {
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self {
            values: HashMap::with_capacity(count),
            filter: vec![0; FILTER_BITS / 64],
        }
    }

    pub(crate) fn entry(&mut self, part: HashPart) -> std::collections::hash_map::Entry<'_, HashPart, T> {
        let (word, bit) = filter_slot(&part);
        if let Some(word) = self.filter.get_mut(word) {
            *word |= bit;
        }
        self.values.entry(part)
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.values.into_values()
    }

    /// Shows `hit` every window that lies wholly in `data` and is a hash part of these, with its place. A byte that is no digit
    /// rules out all windows that contain it, so each window is read from its end, and only as far as the bytes that are not
    /// known to be digits.
    pub(crate) fn search(&mut self, data: &[u8], mut hit: impl FnMut(usize, &mut T) -> Then) {
        let mut start = 0;
        let mut known = 0;
        while let Some(window) = data.get(start..).and_then(<[u8]>::first_chunk::<WINDOW>) {
            let unknown = window.get(known..).unwrap_or_default();
            if let Some(at) = unknown.iter().rposition(|&b| raw_digit(b) == NO_DIGIT) {
                let skip = known + at + 1;
                start += skip;
                known = WINDOW - skip;
                continue;
            }
            let (word, bit) = filter_slot(window);
            let value = match self.filter.get(word) {
                Some(word) if word & bit != 0 => self.values.get_mut(window),
                _ => None,
            };
            match value.map_or(Then::Next, |value| hit(start, value)) {
                Then::Next => (start, known) = (start + 1, WINDOW - 1),
                Then::Behind => (start, known) = (start + WINDOW, 0),
                Then::Stop => return,
            }
        }
    }
}

/// Word and bit of the filter for a window of digits: its last digits are the most random part of what precedes a dash.
#[inline]
fn filter_slot(window: &HashPart) -> (usize, u64) {
    let index = window
        .iter()
        .rev()
        .take(FILTER_DIGITS)
        .fold(0usize, |n, &b| n << 5 | usize::from(raw_digit(b) & 31));
    (index / 64, 1 << (index % 64))
}
