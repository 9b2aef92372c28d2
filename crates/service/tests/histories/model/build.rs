//! The ladder.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use firn_core::{Origin, Rung};

use super::{Answer, Claim, Model, Outcome, Thing, View, made_of};
use crate::support::Lineage;
use crate::universe::universe;

/// The derivation that always fails.
pub const FAILING: usize = 4;
/// The one whose output commits to its content.
pub const FIXED: usize = 5;

impl Model {
    pub fn build(
        &mut self,
        account: usize,
        derivation: usize,
        answer: &Answer,
        lineage: &Lineage,
    ) -> Result<Answer, String> {
        let mut expected = Answer::default();
        let drv = &universe().derivations[derivation];
        let out = drv.out();
        let mut view = self.view(account);
        let mut fetched = false;
        if !view.chosen.contains_key(&out) {
            self.fetch(account, BTreeSet::from([out.clone()]));
            view = self.view(account);
            fetched = view.chosen.contains_key(&out);
        }
        if let Some(seen) = view.chosen.get(&out) {
            expected.rung = Some(match (fetched, &seen.cache, seen.from_trusted) {
                (true, Some(_), _) => Rung::Substituted,
                (_, _, true) => Rung::Trusted,
                _ => Rung::AlreadyValid,
            });
            return Ok(expected);
        }
        if drv
            .drv
            .input_srcs
            .iter()
            .any(|input| !view.chosen.contains_key(input))
        {
            expected.refused = true;
            return Ok(expected);
        }
        let inputs = view.closure(&drv.drv.input_srcs);
        let key = (derivation, inputs);
        let (who, takes) = (self.accounts[account].who, self.accounts[account].shares);
        let gives = takes && !self.accounts[account].private;
        let thing = match self.outcome(&key, who, takes) {
            Some(thing) => {
                expected.rung = Some(Rung::Shared);
                thing
            }
            None => {
                expected.ran = true;
                if derivation == FAILING {
                    expected.refused = true;
                    return Ok(expected);
                }
                expected.rung = Some(Rung::Built);
                let made = answer.made.clone().ok_or("a build that ran gave nothing")?;
                self.check_made(&key, &made, &view, lineage)?;
                let thing = Rc::new(made);
                self.outcomes.push(Outcome {
                    key,
                    owner: Some(who),
                    shares: gives,
                    thing: Rc::clone(&thing),
                });
                thing
            }
        };
        let time = self.tick();
        let signing = &universe().signing[account];
        let signature = signing.sign(thing.fingerprint().as_bytes()).to_string();
        self.claim(Claim {
            owner: who,
            thing,
            origin: Origin::Built,
            deriver: Some(drv.path.clone()),
            signatures: BTreeMap::from([(signature, None)]),
            registered: self.clock,
            cache: None,
            shareable: true,
            time,
        });
        Ok(expected)
    }

    /// The account's own outcome, else the first that somebody gives.
    fn outcome(&self, key: &(usize, Vec<Thing>), who: u64, takes: bool) -> Option<Rc<Thing>> {
        let of_key = || self.outcomes.iter().filter(|o| o.key == *key);
        let gives = |o: &&Outcome| match o.owner {
            None => true,
            Some(owner) => {
                let mut accounts = self.accounts.iter();
                o.shares && accounts.any(|a| a.who == owner && a.shares && !a.private)
            }
        };
        let own = of_key().find(|o| o.owner == Some(who));
        let found = own.or_else(|| of_key().find(gives).filter(|_| takes));
        found.map(|o| Rc::clone(&o.thing))
    }

    /// The sandbox had just the inputs that the rules give it.
    fn check_made(
        &self,
        (derivation, inputs): &(usize, Vec<Thing>),
        made: &Thing,
        view: &View,
        lineage: &Lineage,
    ) -> Result<(), String> {
        if *derivation == FIXED {
            return Ok(());
        }
        let expected = made_of(*derivation, inputs, lineage);
        match lineage.get(&made.content) {
            Some(digest) if *digest == expected => {}
            other => return Err(format!("the output was made of {other:?}, not of {inputs:?}")),
        }
        match made.references.iter().find(|r| !view.chosen.contains_key(*r)) {
            Some(missing) => Err(format!("the output refers to {missing}, which is no input")),
            None => Ok(()),
        }
    }
}
