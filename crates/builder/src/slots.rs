//! Host users for running builds: no two builds at a time share one, so that none can signal, trace or exhaust another.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// First host uid; the one Nix allocates build users from.
pub const DEFAULT_FIRST_UID: u32 = 872_415_232;

/// The users that are free.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    first: u32,
    count: u32,
    taken: Mutex<BTreeSet<u32>>,
}

/// One user, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Inner>,
    uid: u32,
    spoiled: bool,
}

impl Slots {
    /// `count` users from `first` on.
    #[must_use]
    pub fn new(first: u32, count: u32) -> Self {
        Self(Arc::new(Inner {
            first,
            count,
            taken: Mutex::default(),
        }))
    }

    /// The first free user, or nothing when every one is in use.
    #[must_use]
    pub fn take(&self) -> Option<Slot> {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let uid =
            (self.0.first..self.0.first.saturating_add(self.0.count)).find(|uid| !taken.contains(uid))?;
        taken.insert(uid);
        Some(Slot {
            slots: Arc::clone(&self.0),
            uid,
            spoiled: false,
        })
    }
}

impl Slot {
    /// Host user; its group has the same number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Never gives the user back: a process of it could not be killed.
    pub fn spoil(&mut self) {
        self.spoiled = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.spoiled {
            self.slots
                .taken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_twice() {
        let slots = Slots::new(1000, 2);
        let (a, b) = (slots.take().unwrap(), slots.take().unwrap());
        assert_eq!((a.uid(), b.uid()), (1000, 1001));
        assert!(slots.take().is_none());
        drop(a);
        assert_eq!(slots.take().unwrap().uid(), 1000);
    }

    #[test]
    fn a_spoiled_user_stays_away() {
        let slots = Slots::new(1000, 1);
        slots.take().unwrap().spoil();
        assert!(slots.take().is_none());
    }
}
