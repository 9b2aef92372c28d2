//! What becomes known to everybody who trusts a key, and what not any more.

use std::rc::Rc;

use firn_core::Origin;

use super::{Claim, Fact, Model};

impl Model {
    fn tells(&self, claim: &Claim) -> bool {
        claim.shareable && claim.origin != Origin::Built && !self.private(claim.owner)
    }

    /// Claims that tell everybody of a signature.
    fn telling<'m>(&'m self, fact: &'m Fact) -> impl Iterator<Item = &'m Claim> {
        let claims = self
            .claims
            .iter()
            .filter(move |c| c.thing == fact.thing && c.signatures.contains_key(&fact.signature));
        claims.filter(|c| self.tells(c))
    }

    /// After anything has changed.
    pub fn settle(&mut self) {
        let mut gone = Vec::new();
        for (place, fact) in self.facts.iter().enumerate() {
            if fact.for_good.is_none() && self.telling(fact).next().is_none() {
                gone.push(place);
            }
        }
        for place in gone.into_iter().rev() {
            self.facts.remove(place);
        }
        // In the order in which those who tell had it.
        let mut new: Vec<(u64, Fact)> = Vec::new();
        for claim in self.claims.iter().filter(|c| self.tells(c)) {
            for (text, (came, by)) in &claim.signatures {
                let same = |f: &Fact| f.thing == claim.thing && f.signature == *text;
                if self.facts.iter().any(same) {
                    continue;
                }
                match new.iter_mut().find(|(_, f)| same(f)) {
                    Some((first, _)) => *first = (*first).min(*came),
                    None => new.push((
                        *came,
                        Fact {
                            thing: Rc::clone(&claim.thing),
                            signature: text.clone(),
                            by: *by,
                            since: 0,
                            for_good: None,
                        },
                    )),
                }
            }
        }
        new.sort_by_key(|(came, _)| *came);
        for (_, mut fact) in new {
            fact.since = self.tick();
            self.facts.push(fact);
        }
    }

    /// What an account that goes has told stays known.
    pub fn leave_facts(&mut self, who: u64) {
        let stays: Vec<Option<u64>> = self
            .facts
            .iter()
            .map(|fact| {
                let mut told = self.telling(fact).filter(|c| c.owner == who);
                told.next().map(|c| c.registered)
            })
            .collect();
        for (fact, registered) in self.facts.iter_mut().zip(stays) {
            fact.for_good = fact.for_good.or(registered);
        }
    }

    /// When a fact was registered, as others are told.
    pub fn registered(&self, fact: &Fact) -> u64 {
        let times = self.telling(fact).map(|c| c.registered).chain(fact.for_good);
        times.min().unwrap_or_default()
    }
}
