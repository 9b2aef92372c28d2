//! What an account sees: admit, rank, take the greatest closed part.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use firn_core::{Origin, Trust};
use firn_nix::{PathInfo, StorePath};

use super::{By, Claim, Model, Thing, Told};
use crate::universe::{NAMES, universe};

/// Of a signature: the key, whether it is only the account's own, since when it is known, and when it was registered.
type Known = (Option<usize>, u8, u64, u64);

/// The kind of reason, the place in the policy, uploads after builds, the age.
type Rank = (u8, usize, u8, u64);

const CHECKED: u8 = 0;
const SIGNED: u8 = 1;
const BUILT: u8 = 2;
const TRUSTED: u8 = 3;
const UPLOADED: u8 = 4;
/// What is no reason, and only tells.
const NONE: u8 = 9;

struct Reason {
    thing: Rc<Thing>,
    rank: Rank,
    words: String,
    registered: u64,
    deriver: Option<StorePath>,
    signatures: BTreeSet<String>,
    cache: Option<String>,
}

/// A candidate for a path.
#[derive(Clone, Debug)]
pub struct Seen {
    pub thing: Rc<Thing>,
    pub words: String,
    /// Whether another account's word decides.
    pub from_trusted: bool,
    pub cache: Option<String>,
    pub info: PathInfo,
    rank: Rank,
}

#[derive(Debug, Default)]
pub struct View {
    /// All that the policy admits, the best first.
    pub candidates: BTreeMap<StorePath, Vec<Seen>>,
    pub chosen: BTreeMap<StorePath, Seen>,
}

impl Model {
    /// Claims that an account may see, of its own and of those that it believes.
    pub fn visible(&self, account: usize) -> Vec<(&Claim, Option<(usize, usize)>)> {
        let own = self
            .claims
            .iter()
            .filter(|c| c.owner == self.accounts[account].who);
        let mut all: Vec<_> = own.map(|c| (c, None)).collect();
        for (other, level) in self.believed(account) {
            let place = self.place(account, self.accounts[other].who);
            let theirs = self.claims.iter().filter(|c| c.owner == self.accounts[other].who);
            let covered = theirs.filter(|c| match c.origin {
                Origin::Built => true,
                Origin::Uploaded => level == Trust::Uploads,
                Origin::Substituted => false,
            });
            all.extend(covered.map(|c| (c, Some((place, other)))));
        }
        all
    }

    /// How much an account prefers one that it trusts.
    fn place(&self, account: usize, who: u64) -> usize {
        let mut trusts = self.accounts[account].trusts.iter();
        trusts.position(|(other, _)| *other == who).unwrap()
    }

    /// What accounts told this one that it still trusts so far.
    pub fn told_by_accounts(&self, account: usize) -> Vec<(&Told, u64)> {
        let me = &self.accounts[account];
        let told = self.told.iter().filter(|t| t.to == me.who);
        let trusted = told.filter_map(|t| {
            let By::Account(who) = t.by else { return None };
            let (_, level) = me.trusts.iter().find(|(other, _)| *other == who)?;
            level.covers(t.origin).then_some((t, who))
        });
        trusted.collect()
    }

    fn told(&self, account: usize) -> Vec<Reason> {
        let all = self.told_by_accounts(account).into_iter();
        all.map(|(told, who)| {
            let name = self.accounts.iter().position(|a| a.who == who).map(|n| NAMES[n]);
            let (sub, words) = match (told.origin, name) {
                (Origin::Built, Some(name)) => (0, format!("built for account '{name}', which you trust")),
                (_, Some(name)) => (1, format!("uploaded by account '{name}', which you trust")),
                (origin, None) => (
                    u8::from(origin != Origin::Built),
                    "from an account that you trusted; it is removed, what you were told stays".into(),
                ),
            };
            Reason {
                thing: Rc::clone(&told.thing),
                rank: (TRUSTED, self.place(account, who), sub, told.since),
                words,
                registered: told.registered,
                deriver: told.deriver.clone(),
                signatures: told.signatures.clone(),
                cache: None,
            }
        })
        .collect()
    }

    fn reasons(&self, account: usize) -> Vec<Reason> {
        let mut all = self.told(account);
        for (claim, whose) in self.visible(account) {
            let checked = claim.thing.ca.is_some();
            let (rank, words): (Rank, String) = match (whose, claim.origin) {
                (None, Origin::Built) => ((BUILT, 0, 0, claim.time), "built or reused for you".into()),
                (None, Origin::Uploaded) => ((UPLOADED, 0, 0, claim.time), "uploaded by you".into()),
                (None, Origin::Substituted) if checked => ((CHECKED, 0, 0, claim.time), String::new()),
                (None, Origin::Substituted) => ((NONE, 0, 0, 0), String::new()),
                (Some((place, other)), origin) => {
                    let name = NAMES[other];
                    match origin {
                        Origin::Built => (
                            (TRUSTED, place, 0, claim.time),
                            format!("built for account '{name}', which you trust"),
                        ),
                        _ => (
                            (TRUSTED, place, 1, claim.time),
                            format!("uploaded by account '{name}', which you trust"),
                        ),
                    }
                }
            };
            all.push(Reason {
                thing: Rc::clone(&claim.thing),
                rank,
                words,
                registered: claim.registered,
                deriver: claim.deriver.clone(),
                signatures: claim.signatures.keys().cloned().collect(),
                cache: claim.cache.clone().filter(|_| whose.is_none()),
            });
        }
        all.extend(self.signed(account));
        for reason in &mut all {
            if reason.thing.ca.is_some() && reason.rank.0 != NONE {
                let (kind, _, sub, age) = reason.rank;
                reason.rank = (CHECKED, usize::from(kind), sub, age);
                reason.words = "content-addressed: the path commits to these bytes".into();
            }
        }
        all
    }

    /// What keys that it trusts have signed: shared facts, and signatures that came to the account itself.
    fn signed(&self, account: usize) -> Vec<Reason> {
        let me = &self.accounts[account];
        // What is shared, and behind it what came to the account alone.
        let mut known: BTreeMap<(&Rc<Thing>, &String), Known> = BTreeMap::new();
        for fact in &self.facts {
            let told = (fact.by, 0, fact.since, fact.registered);
            known.insert((&fact.thing, &fact.signature), told);
        }
        for claim in self.claims.iter().filter(|c| c.owner == me.who) {
            for (text, by) in &claim.signatures {
                let own = (*by, 1, claim.time, claim.registered);
                let known = known.entry((&claim.thing, text)).or_insert(own);
                *known = (*known).min(own);
            }
        }
        for told in self.told.iter().filter(|t| t.to == me.who) {
            if let (By::Key(key), Some(text)) = (told.by, told.signatures.first()) {
                let then = (Some(key), 0, told.since, told.registered);
                let known = known.entry((&told.thing, text)).or_insert(then);
                *known = (*known).min(then);
            }
        }
        let mut all = Vec::new();
        for ((thing, text), (by, sub, since, registered)) in known {
            let place = me.keys.iter().position(|key| Some(*key) == by);
            let Some((place, by)) = place.zip(by) else {
                continue;
            };
            all.push(Reason {
                thing: Rc::clone(thing),
                rank: (SIGNED, place, sub, since),
                words: format!(
                    "signed by the key '{}', which you trust",
                    universe().keys[by].name()
                ),
                registered,
                deriver: None,
                signatures: BTreeSet::from([text.clone()]),
                cache: None,
            });
        }
        all
    }

    pub fn view(&self, account: usize) -> View {
        let reasons = self.reasons(account);
        let mut candidates: BTreeMap<StorePath, Vec<Seen>> = BTreeMap::new();
        let things: BTreeSet<&Rc<Thing>> = reasons.iter().map(|r| &r.thing).collect();
        for thing in things {
            let mut of: Vec<&Reason> = reasons.iter().filter(|r| r.thing == *thing).collect();
            of.sort_by_key(|r| r.rank);
            if of[0].rank.0 == NONE {
                continue;
            }
            let cache = of.iter().find_map(|r| r.cache.clone());
            let words = match &cache {
                Some(cache) => format!("{}; fetched from {cache}", of[0].words),
                None => of[0].words.clone(),
            };
            let seen = Seen {
                thing: Rc::clone(thing),
                from_trusted: of[0].rank.0 == TRUSTED,
                words,
                cache,
                info: PathInfo {
                    path: thing.path.clone(),
                    deriver: of.iter().find_map(|r| r.deriver.clone()),
                    nar_hash: thing.content,
                    references: thing.references.clone(),
                    registration_time: of[0].registered,
                    nar_size: thing.size,
                    ultimate: false,
                    signatures: of.iter().flat_map(|r| r.signatures.clone()).collect(),
                    ca: thing
                        .ca
                        .as_ref()
                        .map(|ca| firn_nix::ContentAddress::parse(ca).unwrap()),
                },
                rank: of[0].rank,
            };
            candidates.entry(thing.path.clone()).or_default().push(seen);
        }
        let mut chosen = BTreeMap::new();
        let mut alive = candidates.clone();
        loop {
            let there: BTreeSet<StorePath> = alive.keys().cloned().collect();
            let before: usize = alive.values().map(Vec::len).sum();
            for of_path in alive.values_mut() {
                of_path.retain(|seen| seen.thing.references.is_subset(&there));
            }
            alive.retain(|_, of_path| !of_path.is_empty());
            if alive.values().map(Vec::len).sum::<usize>() == before {
                break;
            }
        }
        for (path, of_path) in alive {
            let best = of_path.into_iter().min_by_key(|seen| seen.rank).unwrap();
            chosen.insert(path, best);
        }
        for of_path in candidates.values_mut() {
            of_path.sort_by_key(|seen| seen.rank);
        }
        View { candidates, chosen }
    }

    /// Paths that are listed without being named: those that somebody claims whom the account may see.
    pub fn listed(&self, account: usize, view: &View) -> BTreeSet<StorePath> {
        let claimed = self
            .visible(account)
            .into_iter()
            .map(|(c, _)| c.thing.path.clone());
        let told = self.told_by_accounts(account);
        let told = told.into_iter().map(|(t, _)| t.thing.path.clone());
        claimed
            .chain(told)
            .filter(|path| view.chosen.contains_key(path))
            .collect()
    }
}

impl View {
    /// The chosen things that can be reached.
    pub fn closure(&self, roots: &BTreeSet<StorePath>) -> Vec<Thing> {
        let mut reached: BTreeMap<StorePath, Thing> = BTreeMap::new();
        let mut queue: Vec<StorePath> = roots.iter().cloned().collect();
        while let Some(path) = queue.pop() {
            if reached.contains_key(&path) {
                continue;
            }
            let thing = &self.chosen[&path].thing;
            queue.extend(thing.references.iter().cloned());
            reached.insert(path, Thing::clone(thing));
        }
        reached.into_values().collect()
    }
}
