//! The rules in plain code: who did what, and so who sees what. Slow, and obviously right.

mod build;
pub mod deeds;
mod fetch;
mod settle;
mod told;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use firn_core::{Origin, Rung, Trust};
use firn_nix::{NarHash, StorePath};

use crate::support::{Item, Lineage};
use crate::universe::{ACCOUNTS, universe};

pub use told::{By, Told};
pub use view::View;

/// A store object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thing {
    pub path: StorePath,
    pub content: NarHash,
    pub size: u64,
    pub references: BTreeSet<StorePath>,
    pub ca: Option<String>,
}

impl Thing {
    pub fn of(item: &Item) -> Self {
        let info = &item.info;
        Self {
            path: info.path.clone(),
            content: info.nar_hash,
            size: info.nar_size,
            references: info.references.clone(),
            ca: info.ca.map(|ca| ca.to_string()),
        }
    }

    pub fn fingerprint(&self) -> String {
        firn_nix::fingerprint(&self.path, self.content, self.size, &self.references)
    }
}

/// A signature, and which of the keys made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub text: String,
    pub by: Option<usize>,
}

/// That somebody has a thing.
#[derive(Clone, Debug)]
pub struct Claim {
    pub owner: u64,
    pub thing: Rc<Thing>,
    pub origin: Origin,
    pub deriver: Option<StorePath>,
    /// With the key that each is by.
    pub signatures: BTreeMap<String, Option<usize>>,
    pub registered: u64,
    pub cache: Option<String>,
    pub shareable: bool,
    pub time: u64,
}

#[derive(Clone, Debug)]
pub struct Account {
    /// Who it is: another one of the same name is somebody else.
    pub who: u64,
    pub keys: Vec<usize>,
    /// By who it is, in the order of trusting. What one that is gone told is still believed.
    pub trusts: Vec<(u64, Trust)>,
    pub readers: BTreeMap<usize, Trust>,
    pub private: bool,
    pub shares: bool,
    pub caches: Vec<usize>,
    pub login: bool,
}

/// What everybody who trusts the key may know.
#[derive(Clone, Debug)]
pub struct Fact {
    pub thing: Rc<Thing>,
    pub signature: String,
    pub by: Option<usize>,
    pub since: u64,
    /// When the first of those who told it then had it.
    pub registered: u64,
    /// An account that is gone told it.
    pub for_good: bool,
}

/// What a cache has.
#[derive(Clone, Debug)]
pub struct Entry {
    pub thing: Rc<Thing>,
    pub deriver: Option<StorePath>,
    pub signatures: Vec<Signed>,
    /// Whether bytes come that are what the entry says.
    pub sends: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Cache {
    pub down: bool,
    pub priority: u32,
    pub entries: BTreeMap<StorePath, Entry>,
}

/// What came out for a build key.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub key: (usize, Vec<Thing>),
    /// `None` when the account is gone.
    pub owner: Option<u64>,
    pub shares: bool,
    pub thing: Rc<Thing>,
}

/// What the service answered, as far as the model needs or checks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub refused: bool,
    /// Of a build: which rung.
    pub rung: Option<Rung>,
    /// Of a build: whether the builder was started.
    pub ran: bool,
    /// Of a build that ran: what the account has for the output then.
    pub made: Option<Thing>,
    /// Of a removal of claims: how many there were.
    pub count: u64,
}

pub struct Model {
    pub accounts: Vec<Account>,
    pub claims: Vec<Claim>,
    pub facts: Vec<Fact>,
    pub told: Vec<Told>,
    pub outcomes: Vec<Outcome>,
    pub caches: Vec<Cache>,
    /// Number of the last event.
    time: u64,
    /// Seconds.
    pub clock: u64,
    last_account: u64,
}

impl Model {
    pub fn new() -> Self {
        let mut model = Self {
            accounts: Vec::new(),
            claims: Vec::new(),
            facts: Vec::new(),
            told: Vec::new(),
            outcomes: Vec::new(),
            caches: vec![Cache::default(); crate::universe::CACHES.len()],
            time: 0,
            clock: 0,
            last_account: 0,
        };
        model.accounts = (0..ACCOUNTS).map(|_| model.newcomer()).collect();
        model
    }

    fn newcomer(&mut self) -> Account {
        self.last_account += 1;
        Account {
            who: self.last_account,
            keys: Vec::new(),
            trusts: Vec::new(),
            readers: BTreeMap::new(),
            private: false,
            shares: true,
            caches: Vec::new(),
            login: false,
        }
    }

    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    fn private(&self, who: u64) -> bool {
        self.accounts.iter().all(|a| a.who != who || a.private)
    }

    /// Whom an account believes, and how much: both sides have to want it.
    pub fn believed(&self, account: usize) -> Vec<(usize, Trust)> {
        let trusts = self.accounts[account].trusts.iter();
        let read = trusts.filter_map(|(who, level)| {
            let other = self.accounts.iter().position(|a| a.who == *who)?;
            let may = self.accounts[other].readers.get(&account)?;
            Some((other, *level.min(may)))
        });
        read.filter(|(other, _)| !self.accounts[*other].private).collect()
    }

    /// Adds a claim, or to the one that there is.
    fn claim(&mut self, claim: Claim) {
        let same =
            |c: &&mut Claim| c.owner == claim.owner && c.thing == claim.thing && c.origin == claim.origin;
        match self.claims.iter_mut().find(same) {
            Some(known) => {
                known.signatures.extend(claim.signatures);
                known.shareable |= claim.shareable;
            }
            None => self.claims.push(claim),
        }
    }

    /// Why the signatures that come with something are refused: one names a key that the account trusts and is not by that key.
    fn refuses(&self, account: usize, signatures: &[Signed]) -> bool {
        let name = |key: usize| universe().keys[key].name();
        signatures.iter().any(|signature| {
            let Some((named, _)) = signature.text.split_once(':') else {
                return true;
            };
            let trusted = self.accounts[account]
                .keys
                .iter()
                .find(|key| name(**key) == named);
            trusted.is_some_and(|key| signature.by != Some(*key))
        })
    }
}

/// The digest that the builder notes for what it makes.
pub fn made_of(derivation: usize, inputs: &[Thing], lineage: &Lineage) -> String {
    let of = |content: &NarHash| lineage.get(content).cloned().unwrap_or_else(|| content.hex());
    let inputs = inputs
        .iter()
        .map(|t| (t.path.to_string(), of(&t.content)))
        .collect();
    crate::support::made_of("out", &universe().derivations[derivation].drv.args, inputs)
}
