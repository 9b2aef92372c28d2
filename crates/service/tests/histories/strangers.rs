//! Non-interference: the same history without the strangers of one account. Of them, only what keys have signed is left: it is recorded
//! as they brought it. They take back what nobody was told; what the account or one of its friends was told stays there whatever the
//! service makes of it.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{AccountId, Claim, Object, Origin};
use firn_nix::{NarHash, PathInfo};
use firn_service::Explanation;
use firn_service::ports::{Policies as _, Proof, Views as _};

use crate::operations::{Deed, Dice, Step};
use crate::play::{Looked, Play};
use crate::support::{CHANCE, Lineage};
use crate::universe::{ACCOUNTS, NAMES, universe};

/// What an account observes, with everything that chance made replaced by what it was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    outcome: Option<Result<(), String>>,
    infos: Vec<PathInfo>,
    contents: Vec<String>,
    listed: BTreeSet<firn_nix::StorePath>,
    bytes: Result<String, String>,
    explained: Vec<(String, String, bool)>,
}

/// Those whose doings may reach an account: itself, whom it trusts at any time, whom they trust.
pub fn friends(history: &[Step], account: usize) -> BTreeSet<usize> {
    let mut friends = BTreeSet::from([account]);
    loop {
        let before = friends.len();
        for step in history {
            if let Step::Account(
                one,
                Deed::Trust {
                    other,
                    level: Some(_),
                },
            ) = step
                && friends.contains(one)
            {
                friends.insert(*other);
            }
        }
        if friends.len() == before {
            return friends;
        }
    }
}

fn made_of(lineage: &Lineage, content: &NarHash) -> String {
    lineage.get(content).cloned().unwrap_or_else(|| content.hex())
}

/// What an account sees now; which of the paths are looked at more closely depends on the dice.
pub async fn observe(
    play: &Play,
    account: usize,
    outcome: Option<Result<(), String>>,
    dice: &mut Dice,
) -> Observed {
    let Looked { mut infos, listed } = play.look(account).await;
    let path = &universe().paths[dice.below(universe().paths.len())];
    let nar = play.nar(account, path).await;
    let Explanation { candidates, .. } = play.explain(account, path).await;

    let lineage = play.world.builder.lineage();
    let lineage = lineage.lock().unwrap();
    let contents = infos
        .iter()
        .map(|info| made_of(&lineage, &info.nar_hash))
        .collect();
    let by_chance = |content: &NarHash| made_of(&lineage, content).starts_with(CHANCE);
    for info in infos.iter_mut().filter(|info| by_chance(&info.nar_hash)) {
        // Two accounts may have one content or two that are the same but for chance: their keys have signed one, or each its own.
        info.signatures.clear();
        info.nar_hash = NarHash::new([0; 32]);
        info.nar_size = 0;
    }
    let bytes = nar.map(|nar| {
        let hash = firn_nix::Hash::sha256(&nar);
        made_of(&lineage, &NarHash::new(hash.bytes().try_into().unwrap()))
    });
    let mut explained: Vec<(String, String, bool)> = Vec::new();
    for candidate in candidates {
        let content = NarHash::parse(&candidate.content).unwrap();
        let row = (made_of(&lineage, &content), candidate.why, candidate.chosen);
        // A build of one's own and another one's may differ by chance: in the end they are one.
        if !by_chance(&content) || !explained.iter().any(|(c, ..)| *c == row.0) {
            explained.push(row);
        }
    }
    Observed {
        outcome,
        infos,
        contents,
        listed,
        bytes,
        explained,
    }
}

/// What strangers added in one step that keys have signed.
#[derive(Clone, Debug, Default)]
pub struct Traces(Vec<(usize, Claim)>);

/// Claims as they were, to see what is new.
#[derive(Default)]
pub struct Ledger(BTreeMap<(AccountId, String, Origin), (BTreeSet<String>, bool)>);

impl Ledger {
    /// What is new since the last call.
    pub async fn traces(&mut self, play: &Play, strangers: &BTreeSet<usize>) -> Traces {
        let mut names: BTreeMap<AccountId, usize> = BTreeMap::new();
        for stranger in strangers {
            names.insert(play.world.named(NAMES[*stranger]).await.id, *stranger);
        }
        let mut traces = Traces::default();
        let mut now = BTreeMap::new();
        for (owner, mut claim) in play.world.db.all_claims() {
            let Some(stranger) = names.get(&owner) else {
                continue;
            };
            let fingerprint = claim.object.fingerprint();
            claim
                .signatures
                .retain(|s| universe().signed_by(s, &fingerprint).is_some());
            if claim.signatures.is_empty() || claim.origin == Origin::Built {
                continue;
            }
            let place = (owner, format!("{:?}", claim.object), claim.origin);
            let state = (claim.signatures.clone(), claim.shareable);
            if self.0.get(&place) != Some(&state) {
                traces.0.push((*stranger, claim));
            }
            now.insert(place, state);
        }
        self.0 = now;
        traces
    }
}

impl Play {
    /// Leaves the traces of strangers here.
    pub async fn leave(&self, traces: &Traces, from: &Play) {
        self.world.db.others_write();
        for (stranger, claim) in &traces.0 {
            self.copy_content(&from.world, &claim.object).await;
            let account = self.world.named(NAMES[*stranger]).await.id;
            let names: Vec<String> = universe().keys.iter().map(|k| k.name().to_owned()).collect();
            let (known, registry) = self.world.db.keys_named(&names).await.unwrap();
            let proofs: Vec<Proof> = claim
                .signatures
                .iter()
                .map(|text| proof(text, &claim.object, &known))
                .collect();
            let claims = std::slice::from_ref(claim);
            self.world
                .db
                .record_claims(account, claims, &proofs, registry)
                .await
                .unwrap();
        }
    }

    /// What friends were told where strangers are stays with them here. Where chance made that, it is what chance made here in its place:
    /// a run here is another one than there, and its bytes are others.
    pub async fn stand(&self, from: &Play, friends: &BTreeSet<usize>) {
        let told = from.world.db.all_told();
        let lineage = self.world.builder.lineage();
        let counts = |there: &Object, here: &Object| {
            let lineage = lineage.lock().unwrap();
            let made_of = |object: &Object| made_of(&lineage, &object.content);
            there == here
                || made_of(there).starts_with(CHANCE)
                    && made_of(there) == made_of(here)
                    && (&there.path, &there.references, &there.ca) == (&here.path, &here.references, &here.ca)
        };
        for friend in friends {
            let there = from.world.named(NAMES[*friend]).await.id;
            let here = self.world.named(NAMES[*friend]).await.id;
            for (_, evidence) in told.iter().filter(|(whose, _)| *whose == there) {
                self.world.db.tell_as(here, evidence, &from.world.db, counts);
            }
        }
    }

    /// What a stranger does that takes back what nobody was told, or shows again what keys have signed.
    pub async fn withdraw(&mut self, step: &Step, time: u64) {
        if let Step::Account(_, Deed::Private(_) | Deed::Forget(_) | Deed::Remove) = step {
            self.step(step, time).await;
        }
    }
}

fn proof(text: &str, object: &Object, known: &[(firn_core::KeyId, firn_nix::signature::PublicKey)]) -> Proof {
    let by = universe().signed_by(text, &object.fingerprint()).unwrap();
    let key = universe().keys[by].public_key();
    Proof {
        claim: 0,
        signature: text.to_owned(),
        key_name: key.name().to_owned(),
        key: known.iter().find(|(_, k)| *k == key).map(|(id, _)| *id),
    }
}

/// Accounts that are no friends.
pub fn strangers(friends: &BTreeSet<usize>) -> BTreeSet<usize> {
    (0..ACCOUNTS)
        .filter(|account| !friends.contains(account))
        .collect()
}
