//! What becomes known to everybody who trusts a key, and what not any more.

use std::rc::Rc;

use firn_core::Origin;

use super::{Claim, Fact, Model};

impl Model {
    pub(super) fn tells(&self, claim: &Claim) -> bool {
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
            if !fact.for_good && self.telling(fact).next().is_none() {
                gone.push(place);
            }
        }
        for place in gone.into_iter().rev() {
            self.facts.remove(place);
        }
        let mut new: Vec<Fact> = Vec::new();
        for claim in self.claims.iter().filter(|c| self.tells(c)) {
            for (text, by) in &claim.signatures {
                let same = |f: &Fact| f.thing == claim.thing && f.signature == *text;
                if self.facts.iter().any(same) {
                    continue;
                }
                match new.iter_mut().find(|f| same(f)) {
                    Some(fact) => {
                        (fact.registered, fact.since) =
                            (fact.registered, fact.since).min((claim.registered, claim.time));
                    }
                    None => new.push(Fact {
                        thing: Rc::clone(&claim.thing),
                        signature: text.clone(),
                        by: *by,
                        since: claim.time,
                        registered: claim.registered,
                        for_good: false,
                    }),
                }
            }
        }
        // In the order in which those who tell had it.
        new.sort_by_key(|fact| (fact.registered, fact.since));
        for mut fact in new {
            fact.since = self.tick();
            self.facts.push(fact);
        }
    }

    /// What an account that goes has told stays known.
    pub fn leave_facts(&mut self, who: u64) {
        let told: Vec<bool> = self
            .facts
            .iter()
            .map(|fact| self.telling(fact).any(|c| c.owner == who))
            .collect();
        for (fact, told) in self.facts.iter_mut().zip(told) {
            fact.for_good |= told;
        }
    }
}
