//! What each deed does.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use firn_core::Origin;
use firn_nix::StorePath;

use super::{Account, Answer, By, Claim, Entry, Model, Signed, Thing};
use crate::operations::{Brought, Deed, Lie, Step, Weather};
use crate::support::Lineage;
use crate::universe::universe;

/// Signatures that a path is brought with.
pub fn signatures(what: &Brought) -> Vec<Signed> {
    let u = universe();
    let item = &u.items[what.path][what.variant];
    let fingerprint = item.fingerprint();
    let mut all: Vec<Signed> = (0..u.keys.len())
        .filter(|key| what.signers >> key & 1 == 1)
        .map(|key| Signed {
            text: u.sign(key, &fingerprint),
            by: Some(key),
        })
        .collect();
    match what.lie {
        Lie::Malformed => all.push(Signed {
            text: "no signature at all".into(),
            by: None,
        }),
        Lie::Signature => all.push(wrong_signature(0)),
        Lie::None | Lie::Bytes => {}
    }
    all
}

/// By a key, but not over what it comes with.
pub fn wrong_signature(key: usize) -> Signed {
    Signed {
        text: universe().sign(key, "something else"),
        by: None,
    }
}

impl Model {
    /// Plays a step. Says how the answer differs from what it must be.
    pub fn step(&mut self, step: &Step, answer: &Answer, lineage: &Lineage) -> Result<(), String> {
        let mut expected = Answer::default();
        match step {
            Step::Cache(cache, weather) => self.weather(*cache, weather),
            Step::Account(account, deed) => expected = self.deed(*account, deed, answer, lineage)?,
        }
        self.settle();
        // What was made is not predicted, but used.
        expected.made.clone_from(&answer.made);
        if expected == *answer {
            Ok(())
        } else {
            Err(format!("the answer is {answer:?}, the rules say {expected:?}"))
        }
    }

    fn weather(&mut self, cache: usize, weather: &Weather) {
        let cache = &mut self.caches[cache];
        match weather {
            Weather::Down(down) => cache.down = *down,
            Weather::Priority(priority) => cache.priority = *priority,
            Weather::Lost { path } => drop(cache.entries.remove(&universe().paths[*path])),
            Weather::Has { what, bytes } => {
                let item = &universe().items[what.path][what.variant];
                let true_address = item.info.ca.is_none() || universe().is_true(item);
                let entry = Entry {
                    thing: Rc::new(Thing::of(item)),
                    deriver: item.info.deriver.clone(),
                    signatures: signatures(what),
                    sends: *bytes && what.lie != Lie::Bytes && true_address,
                };
                cache.entries.insert(item.info.path.clone(), entry);
            }
        }
    }

    fn deed(
        &mut self,
        account: usize,
        deed: &Deed,
        answer: &Answer,
        lineage: &Lineage,
    ) -> Result<Answer, String> {
        let mut expected = Answer::default();
        let whom = |other: &usize| self.accounts[*other].who;
        let trusted = match deed {
            Deed::Trust { other, .. } => whom(other),
            _ => 0,
        };
        let me: &mut Account = &mut self.accounts[account];
        match deed {
            Deed::Keys(keys) => me.keys.clone_from(keys),
            Deed::Trust { level, .. } => {
                let known = me.trusts.iter().position(|(who, _)| *who == trusted);
                match (known, level) {
                    (Some(place), Some(level)) => me.trusts[place].1 = *level,
                    (Some(place), None) => drop(me.trusts.remove(place)),
                    (None, Some(level)) => me.trusts.push((trusted, *level)),
                    (None, None) => {}
                }
            }
            Deed::LetRead { other, level } => match level {
                Some(level) => drop(me.readers.insert(*other, *level)),
                None => drop(me.readers.remove(other)),
            },
            Deed::Private(on) => me.private = *on,
            Deed::Share(on) => me.shares = *on,
            Deed::Caches(caches) => me.caches.clone_from(caches),
            Deed::Login(on) => {
                expected.refused = !on && !me.login;
                me.login = *on;
            }
            Deed::Upload(batch) => expected.refused = !self.upload(account, batch),
            Deed::Sign { path, key, wrong } => expected.refused = !self.sign(account, *path, *key, *wrong),
            Deed::Fetch { path } => {
                let path = &universe().paths[*path];
                if !self.view(account).chosen.contains_key(path) {
                    self.fetch(account, BTreeSet::from([path.clone()]));
                }
                expected.refused = !self.view(account).chosen.contains_key(path);
            }
            Deed::Build { derivation } => expected = self.build(account, *derivation, answer, lineage)?,
            Deed::Forget(paths) => {
                let who = me.who;
                let paths: Vec<&StorePath> = paths.iter().map(|p| &universe().paths[*p]).collect();
                let before = self.claims.len();
                self.claims
                    .retain(|c| c.owner != who || !paths.contains(&&c.thing.path));
                let told = self.told.len();
                self.told
                    .retain(|t| t.to != who || !paths.contains(&&t.thing.path));
                expected.count = (before - self.claims.len() + told - self.told.len()) as u64;
            }
            Deed::Remove => self.remove(account),
        }
        Ok(expected)
    }

    fn upload(&mut self, account: usize, batch: &[Brought]) -> bool {
        let u = universe();
        let items: Vec<_> = batch.iter().map(|b| &u.items[b.path][b.variant]).collect();
        let view = self.view(account);
        for (what, item) in batch.iter().zip(&items) {
            let false_address = item.info.ca.is_some() && !u.is_true(item);
            if false_address || matches!(what.lie, Lie::Bytes | Lie::Malformed) {
                return false;
            }
            if self.refuses(account, &signatures(what)) {
                return false;
            }
            for reference in &item.info.references {
                let with_it = items.iter().any(|other| other.info.path == *reference);
                if !with_it && !view.chosen.contains_key(reference) {
                    return false;
                }
            }
        }
        for (what, item) in batch.iter().zip(&items) {
            let time = self.tick();
            let signatures = signatures(what).into_iter().map(|s| (s.text, s.by));
            self.claim(Claim {
                owner: self.accounts[account].who,
                thing: Rc::new(Thing::of(item)),
                origin: Origin::Uploaded,
                deriver: item.info.deriver.clone(),
                signatures: signatures.collect(),
                registered: self.clock,
                cache: None,
                shareable: true,
                time,
            });
        }
        true
    }

    /// Only what the account has itself can be signed; a build stays a build, and its signature is an upload's.
    fn sign(&mut self, account: usize, path: usize, key: usize, wrong: bool) -> bool {
        let who = self.accounts[account].who;
        let view = self.view(account);
        let Some(seen) = view.chosen.get(&universe().paths[path]) else {
            return false;
        };
        let own = || {
            self.claims
                .iter()
                .filter(|c| c.owner == who && c.thing == seen.thing)
        };
        let Some(kept) = own().find(|c| c.origin != Origin::Built).or_else(|| own().next()) else {
            return false;
        };
        let mut claim = kept.clone();
        let signature = match wrong {
            true => wrong_signature(key),
            false => Signed {
                text: universe().sign(key, &claim.thing.fingerprint()),
                by: Some(key),
            },
        };
        if self.refuses(account, std::slice::from_ref(&signature)) {
            return false;
        }
        if claim.origin == Origin::Built {
            claim.origin = Origin::Uploaded;
        }
        claim.time = self.tick();
        claim.signatures = BTreeMap::from([(signature.text, signature.by)]);
        self.claim(claim);
        true
    }

    fn remove(&mut self, account: usize) {
        let gone = self.accounts[account].clone();
        self.leave_facts(gone.who);
        self.claims.retain(|c| c.owner != gone.who);
        let gave = gone.shares && !gone.private;
        self.outcomes
            .retain(|o| o.owner != Some(gone.who) || (o.shares && gave));
        for outcome in &mut self.outcomes {
            outcome.owner = outcome.owner.filter(|owner| *owner != gone.who);
        }
        self.told.retain(|t| t.to != gone.who);
        for other in &mut self.accounts {
            let mut told = self.told.iter().filter(|t| t.to == other.who);
            let stays = told.any(|t| t.by == By::Account(gone.who));
            other.trusts.retain(|(who, _)| *who != gone.who || stays);
            other.readers.remove(&account);
        }
        self.accounts[account] = self.newcomer();
    }
}
