//! What an account's caches give it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use firn_core::Origin;
use firn_nix::StorePath;

use super::{Claim, Entry, Model};
use crate::universe::{CACHES, CLOSED, universe};

impl Model {
    /// The caches that answer, in the order of asking.
    fn sources(&self, account: usize) -> Vec<usize> {
        let me = &self.accounts[account];
        let open = |cache: &usize| !self.caches[*cache].down && (*cache != CLOSED || me.login);
        let mut all: Vec<usize> = Vec::new();
        for cache in me.caches.iter().copied().filter(open) {
            if !all.contains(&cache) {
                all.push(cache);
            }
        }
        all.sort_by_key(|cache| self.caches[*cache].priority);
        all
    }

    /// An entry that the account may believe, without wrong signatures that name a key of its own.
    fn entry(&self, account: usize, cache: usize, path: &StorePath) -> Option<Entry> {
        let keys = &self.accounts[account].keys;
        let mut entry = self.caches[cache].entries.get(path)?.clone();
        entry.signatures.retain(|signature| {
            let named = |key: &&usize| {
                let name = universe().keys[**key].name();
                signature.text.split_once(':').is_some_and(|(n, _)| n == name)
            };
            keys.iter()
                .find(named)
                .is_none_or(|key| signature.by == Some(*key))
        });
        let signed = entry
            .signatures
            .iter()
            .any(|s| s.by.is_some_and(|by| keys.contains(&by)));
        (entry.thing.ca.is_some() || signed).then_some(entry)
    }

    /// Makes paths valid, as far as the caches have them and what they refer to.
    pub fn fetch(&mut self, account: usize, wanted: BTreeSet<StorePath>) {
        let sources = self.sources(account);
        let view = self.view(account);
        let is_valid = |path: &StorePath| view.chosen.contains_key(path);
        let mut found: BTreeMap<StorePath, (usize, Entry)> = BTreeMap::new();
        let mut asked = wanted.clone();
        let mut queue: Vec<StorePath> = wanted.into_iter().collect();
        while let Some(path) = queue.pop() {
            let offer = sources
                .iter()
                .enumerate()
                .find_map(|(place, cache)| Some((place, self.entry(account, *cache, &path)?)));
            let Some((place, entry)) = offer else { continue };
            for reference in &entry.thing.references {
                if asked.insert(reference.clone()) && !is_valid(reference) {
                    queue.push(reference.clone());
                }
            }
            found.insert(path, (place, entry));
        }
        close(&mut found, is_valid);
        // The bytes: from the cache of the entry, else from one behind it that does not need more.
        let mut got: BTreeMap<StorePath, (usize, Entry)> = BTreeMap::new();
        for (path, (place, entry)) in found {
            let mut needs = entry.thing.references.clone();
            let behind = sources.iter().enumerate().skip(place + 1);
            let others =
                behind.filter_map(|(place, cache)| Some((place, self.entry(account, *cache, &path)?)));
            for (place, entry) in std::iter::once((place, entry)).chain(others) {
                if !entry.thing.references.is_subset(&needs) {
                    continue;
                }
                if entry.sends {
                    got.insert(path, (place, entry));
                    break;
                }
                needs.clone_from(&entry.thing.references);
            }
        }
        close(&mut got, is_valid);
        for (place, entry) in got.into_values() {
            let time = self.tick();
            let cache = sources[place];
            self.claim(Claim {
                owner: self.accounts[account].who,
                thing: Rc::clone(&entry.thing),
                origin: Origin::Substituted,
                deriver: entry.deriver,
                signatures: entry.signatures.into_iter().map(|s| (s.text, s.by)).collect(),
                registered: self.clock,
                cache: Some(CACHES[cache].to_owned()),
                shareable: cache != CLOSED,
                time,
            });
        }
        self.settle();
    }
}

/// Drops what refers to something that is neither here nor valid.
fn close(found: &mut BTreeMap<StorePath, (usize, Entry)>, is_valid: impl Fn(&StorePath) -> bool) {
    loop {
        let here: BTreeSet<StorePath> = found.keys().cloned().collect();
        let before = found.len();
        found.retain(|_, (_, entry)| {
            entry
                .thing
                .references
                .iter()
                .all(|r| here.contains(r) || is_valid(r))
        });
        if found.len() == before {
            return;
        }
    }
}
