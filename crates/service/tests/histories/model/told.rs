//! What accounts were told on the word of others: that stays, whatever those take back.

use std::collections::BTreeSet;
use std::rc::Rc;

use firn_core::{Evidence, Origin, Witness};
use firn_nix::StorePath;

use super::{Model, Thing, View};
use crate::universe::universe;

/// On whose word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A key has signed it.
    Key(usize),
    /// An account has it.
    Account(u64),
}

/// Something that an account was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Who was.
    pub to: u64,
    pub thing: Rc<Thing>,
    pub by: By,
    pub origin: Origin,
    pub deriver: Option<StorePath>,
    pub signatures: BTreeSet<String>,
    pub since: u64,
    pub registered: u64,
}

impl Told {
    fn says(&self) -> (u64, &Thing, By, Origin) {
        (self.to, &self.thing, self.by, self.origin)
    }
}

/// The thing of an object.
fn thing(evidence: &Evidence) -> Thing {
    let object = evidence.claim.object.clone();
    Thing {
        path: object.path,
        content: object.content,
        size: object.nar_size,
        references: object.references,
        ca: object.ca.map(|ca| ca.to_string()),
    }
}

impl Model {
    /// What somebody says now that the account may believe.
    fn heard(&self, account: usize) -> Vec<Told> {
        let me = &self.accounts[account];
        let facts = self.facts.iter().filter_map(|fact| {
            let key = fact.by.filter(|key| me.keys.contains(key))?;
            Some(Told {
                to: me.who,
                thing: Rc::clone(&fact.thing),
                by: By::Key(key),
                origin: Origin::Uploaded,
                deriver: None,
                signatures: BTreeSet::from([fact.signature.clone()]),
                since: fact.since,
                registered: fact.registered,
            })
        });
        let mut all: Vec<Told> = facts.collect();
        for (claim, whose) in self.visible(account) {
            if whose.is_some() {
                all.push(Told {
                    to: me.who,
                    thing: Rc::clone(&claim.thing),
                    by: By::Account(claim.owner),
                    origin: claim.origin,
                    deriver: claim.deriver.clone(),
                    signatures: claim.signatures.keys().cloned().collect(),
                    since: claim.time,
                    registered: claim.registered,
                });
            }
        }
        all
    }

    /// Takes over what the service kept for an account since the last time. Which parts of a view a request looks at is not predicted; but
    /// nothing is kept that nobody says.
    pub fn hear(&mut self, account: usize, kept: &[Evidence]) -> Result<(), String> {
        for evidence in kept {
            let by = match evidence.witness {
                Witness::Own => return Err("what is the account's own is kept".into()),
                Witness::Account(other) => By::Account(other.0 as u64),
                Witness::Key(_) => {
                    let text = evidence
                        .claim
                        .signatures
                        .iter()
                        .next()
                        .cloned()
                        .unwrap_or_default();
                    let fingerprint = evidence.claim.object.fingerprint();
                    By::Key(
                        universe()
                            .signed_by(&text, &fingerprint)
                            .ok_or("no key of ours")?,
                    )
                }
            };
            let thing = thing(evidence);
            let who = self.accounts[account].who;
            let says = (who, &thing, by, evidence.claim.origin);
            if self.told.iter().any(|told| told.says() == says) {
                continue;
            }
            let heard = self.heard(account).into_iter().find(|told| told.says() == says);
            match heard {
                Some(told) => self.told.push(told),
                None => return Err(format!("{thing:?} is kept by {by:?}, and nobody says it")),
            }
        }
        Ok(())
    }

    /// Whether all is kept that the account was told on the word of others.
    pub fn holds(&self, account: usize, view: &View) -> Result<(), String> {
        let me = &self.accounts[account];
        for told in self.heard(account) {
            let chosen = view.chosen.get(&told.thing.path);
            if chosen.is_none_or(|seen| *seen.thing != *told.thing)
                || self.told.iter().any(|known| known.says() == told.says())
            {
                continue;
            }
            // The account's own doing keeps it there.
            let mut own = self
                .claims
                .iter()
                .filter(|c| c.owner == me.who && c.thing == told.thing);
            let needless = match told.by {
                By::Key(_) => {
                    let text = told.signatures.first().unwrap();
                    let fact = self
                        .facts
                        .iter()
                        .find(|f| f.thing == told.thing && f.signature == *text);
                    fact.is_some_and(|fact| fact.for_good)
                        || own.any(|c| c.signatures.contains_key(text) && self.tells(c))
                }
                By::Account(_) => own.any(|c| match c.origin {
                    Origin::Built => true,
                    Origin::Substituted => c.thing.ca.is_some(),
                    Origin::Uploaded => false,
                }),
            };
            if !needless {
                return Err(format!(
                    "{:?} was told by {:?}, and is not kept",
                    told.thing, told.by
                ));
            }
        }
        Ok(())
    }
}
