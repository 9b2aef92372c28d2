//! How each account's binary caches answered last: for `substituters list`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use firn_core::AccountId;

use crate::findings::Findings;

/// Caches of one account whose state is kept; sessions can bring their own.
const MAX_CACHES: usize = 64;

/// How a cache answered last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheState {
    /// When it was asked, in seconds since 1970.
    pub time: u64,
    /// What is wrong with it: the rest of a sentence that begins with the cache.
    pub trouble: Option<String>,
    /// The last of its entries that was not taken, and why, as a sentence; with the time.
    pub refused: Option<(u64, String)>,
}

/// Of all accounts, since the service started.
#[derive(Debug, Default)]
pub(crate) struct CacheStates(Mutex<HashMap<AccountId, BTreeMap<String, CacheState>>>);

impl CacheStates {
    fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, BTreeMap<String, CacheState>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, account: AccountId, time: u64, findings: &Findings) {
        let states = findings.states();
        if states.is_empty() {
            return;
        }
        let mut all = self.lock();
        let caches = all.entry(account).or_default();
        for (cache, (trouble, refused)) in states {
            if !caches.contains_key(&cache) && caches.len() >= MAX_CACHES {
                let oldest = caches.iter().min_by_key(|(_, state)| state.time);
                let oldest = oldest.map(|(cache, _)| cache.clone());
                oldest.map(|oldest| caches.remove(&oldest));
            }
            let state = caches.entry(cache).or_default();
            state.time = time;
            state.trouble = trouble;
            if let Some(refused) = refused {
                state.refused = Some((time, refused));
            }
        }
    }

    /// By address.
    pub(crate) fn of(&self, account: AccountId) -> BTreeMap<String, CacheState> {
        self.lock().get(&account).cloned().unwrap_or_default()
    }

    pub(crate) fn forget(&self, account: AccountId) {
        self.lock().remove(&account);
    }
}
