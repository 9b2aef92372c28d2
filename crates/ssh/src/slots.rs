//! The session cap: how many sessions each account has, over all its connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts sessions by account name.
pub(crate) struct Slots {
    max: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// One session's place; free again when dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    account: String,
}

impl Slots {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            taken: Mutex::default(),
        })
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// A place for one more session of `account`, unless it has as many as it may.
    pub(crate) fn take(self: &Arc<Self>, account: &str) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(account.to_owned()).or_default();
        if *count >= self.max {
            if *count == 0 {
                taken.remove(account);
            }
            return None;
        }
        *count += 1;
        Some(Slot {
            slots: self.clone(),
            account: account.to_owned(),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cap_is_per_account_and_places_come_back() {
        let slots = Slots::new(2);
        let first = slots.take("a").unwrap();
        let second = slots.take("a").unwrap();
        assert!(slots.take("a").is_none());
        assert!(slots.take("b").is_some());
        drop(first);
        assert!(slots.take("a").is_some());
        drop(second);
        assert!(slots.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn cap_of_zero_leaves_nothing_behind() {
        let slots = Slots::new(0);
        assert!(slots.take("a").is_none());
        assert!(slots.taken.lock().unwrap().is_empty());
    }
}
