//! The waiting runs of one account.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::Number;

/// Where a run stands in its account's line; the least is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(Reverse<u64>, Number);

impl Place {
    pub(super) const fn new(urgency: u64, number: Number) -> Self {
        Self(Reverse(urgency), number)
    }

    pub(super) const fn urgency(self) -> u64 {
        self.0.0
    }

    pub(super) const fn number(self) -> Number {
        self.1
    }
}

/// Runs by place, and by the memory that they want.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    places: BTreeMap<Place, u64>,
    by_memory: BTreeMap<u64, BTreeSet<Place>>,
}

impl Line {
    pub(super) fn insert(&mut self, place: Place, memory: u64) {
        self.places.insert(place, memory);
        self.by_memory.entry(memory).or_default().insert(place);
    }

    pub(super) fn remove(&mut self, place: Place, memory: u64) {
        self.places.remove(&place);
        if let Some(places) = self.by_memory.get_mut(&memory) {
            places.remove(&place);
            if places.is_empty() {
                self.by_memory.remove(&memory);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The first one, and the memory that it wants.
    pub(super) fn first(&self) -> Option<(Place, u64)> {
        let (place, memory) = self.places.first_key_value()?;
        Some((*place, *memory))
    }

    /// The first one that wants no more than that.
    pub(super) fn fitting(&self, memory: u64) -> Option<Place> {
        match self.first() {
            Some((place, wanted)) if wanted <= memory => Some(place),
            // Amounts are graded: there are a few hundred at the most.
            _ => self
                .by_memory
                .range(..=memory)
                .filter_map(|(_, places)| places.first())
                .min()
                .copied(),
        }
    }

    /// How many stand before that place, counted up to a limit.
    pub(super) fn before(&self, place: Place, limit: usize) -> usize {
        self.places.range(..place).take(limit).count()
    }
}
