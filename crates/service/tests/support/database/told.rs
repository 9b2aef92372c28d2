//! What accounts were told on the word of others: theirs to keep.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{
    AccountId, Claim, Evidence, KeyId, Object, ObjectId, Policy, RealisationEvidence, Trust, Witness,
};
use firn_nix::StorePath;
use firn_service::ports::DatabaseError;

use super::{MemoryDatabase, State};

/// Something that an account was told.
#[derive(Clone)]
pub struct ToldRow {
    pub account: AccountId,
    /// As it was then.
    pub evidence: Evidence,
}

fn same(a: &Evidence, b: &Evidence) -> bool {
    (a.id, a.witness) == (b.id, b.witness)
        && (matches!(a.witness, Witness::Key(_)) || a.claim.origin == b.claim.origin)
}

impl State {
    /// What the policy still admits of what its account was told.
    pub fn told(&self, policy: &Policy) -> impl Iterator<Item = &Evidence> {
        let admitted = |evidence: &&Evidence| match evidence.witness {
            Witness::Own => false,
            Witness::Key(key) => policy.keys.contains(&key),
            Witness::Account(other) => {
                let mut trusted = policy.told_by.iter();
                trusted.any(|(account, trust)| *account == other && trust.covers(evidence.claim.origin))
            }
        };
        let own = self.told.iter().filter(|row| row.account == policy.account);
        own.map(|row| &row.evidence).filter(admitted)
    }

    /// Of that, what accounts said.
    pub fn told_by_accounts(&self, policy: &Policy) -> impl Iterator<Item = &Claim> {
        let told = self.told(policy);
        told.filter(|e| matches!(e.witness, Witness::Account(_)))
            .map(|e| &e.claim)
    }

    /// Adds what the policy's account was told to what there is now.
    pub fn with_told(
        &self,
        policy: &Policy,
        mut live: Vec<Evidence>,
        wanted: impl Fn(&StorePath) -> bool,
    ) -> Vec<Evidence> {
        let told: Vec<&Evidence> = self
            .told(policy)
            .filter(|e| wanted(&e.claim.object.path))
            .collect();
        live.retain_mut(|evidence| {
            let known = told.iter().any(|t| same(t, evidence));
            // A signature is what it was; what an account says may be more than it was.
            evidence.kept |= known;
            !known || !matches!(evidence.witness, Witness::Key(_))
        });
        live.extend(told.into_iter().cloned());
        live
    }

    fn keep(&mut self, account: AccountId, evidence: Evidence) -> bool {
        let mut own = self.told.iter().filter(|row| row.account == account);
        if own.any(|row| same(&row.evidence, &evidence)) {
            return false;
        }
        let evidence = Evidence {
            kept: true,
            ..evidence
        };
        self.told.push(ToldRow { account, evidence });
        true
    }

    pub fn tell(&mut self, policy: &Policy, objects: &BTreeMap<StorePath, ObjectId>) -> BTreeSet<ObjectId> {
        let mut found = self.live(policy, |path| objects.contains_key(path));
        found.retain(|e| objects.get(&e.claim.object.path) == Some(&e.id));
        found.retain(|e| e.witness != Witness::Own && self.can_be_taken_back(e));
        found.sort_by_key(|e| e.seq);
        let mut kept = BTreeSet::new();
        for evidence in found {
            let id = evidence.id;
            if self.keep(policy.account, evidence) {
                kept.insert(id);
            }
        }
        kept
    }

    /// Signatures that nobody shares, or that an account which is gone has shared, stay as they are.
    fn can_be_taken_back(&self, evidence: &Evidence) -> bool {
        let Witness::Key(key) = evidence.witness else {
            return true;
        };
        let mut rows = self.signatures.iter();
        rows.any(|row| {
            row.id == evidence.id
                && row.key == Some(key)
                && evidence.claim.signatures.contains(&row.text)
                && row.shared.is_some()
                && !row.for_good
        })
    }
}

impl MemoryDatabase {
    /// All that was told, by account.
    pub fn all_told(&self) -> Vec<(AccountId, Evidence)> {
        let state = self.lock();
        let rows = state.told.iter();
        rows.map(|row| (row.account, row.evidence.clone())).collect()
    }

    /// Has an account be told here what it was told in another database, if that, or something that counts as that object, is there to be
    /// told. Accounts have one number in both.
    pub fn tell_as(
        &self,
        account: AccountId,
        told: &Evidence,
        from: &Self,
        counts: impl Fn(&Object, &Object) -> bool,
    ) {
        let key = match told.witness {
            Witness::Key(key) => Some(from.lock().public_keys[key.0 as usize - 1].0.clone()),
            _ => None,
        };
        let mut state = self.lock();
        let known = state
            .public_keys
            .iter()
            .position(|(k, _)| Some(k) == key.as_ref());
        let witness = match (told.witness, known) {
            (Witness::Key(_), Some(place)) => Witness::Key(KeyId(place as i64 + 1)),
            (Witness::Account(other), _) => Witness::Account(other),
            _ => return,
        };
        let mut policy = Policy::alone(account);
        match witness {
            Witness::Key(key) => policy.keys.push(key),
            Witness::Account(other) => policy.accounts.push((other, Trust::Uploads)),
            Witness::Own => return,
        }
        let object = &told.claim.object;
        let live = state.live(&policy, |path| *path == object.path);
        let there = live.into_iter().filter(|e| {
            e.witness == witness && e.claim.origin == told.claim.origin && state.can_be_taken_back(e)
        });
        let there: Vec<Evidence> = there.filter(|e| counts(object, &e.claim.object)).collect();
        for evidence in there {
            state.keep(account, evidence);
        }
    }

    pub(super) fn tell_realisation(
        &self,
        account: AccountId,
        told: &[RealisationEvidence],
    ) -> Result<(), DatabaseError> {
        let mut state = self.open("tell_realisations")?;
        state.of(account)?;
        for evidence in told {
            let kept = RealisationEvidence {
                kept: true,
                ..evidence.clone()
            };
            let says = |e: &RealisationEvidence| {
                let realisation = &e.claim.realisation;
                (
                    e.account,
                    e.claim.origin,
                    realisation.id.clone(),
                    realisation.out_path.clone(),
                    e.claim.form,
                )
            };
            let mut own = state
                .told_realisations
                .iter()
                .filter(|(whose, _)| *whose == account);
            if !own.any(|(_, e)| says(e) == says(&kept)) {
                state.told_realisations.push((account, kept));
            }
        }
        Ok(())
    }
}
