//! Evidence.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{
    AccountId, Claim, Evidence, KeyId, ObjectId, Origin, Policy, RealisationClaim, RealisationEvidence,
    Witness,
};
use firn_nix::realisation::{DrvOutput, MAX_REALISATION, RealisationError};
use firn_nix::{NarHash, StorePath};
use firn_service::ports::{DatabaseError, Proof, Views};

use super::signatures::SignatureRow;
use super::{ClaimRow, MemoryDatabase, State};

/// Most signatures of a realisation, as in the real databases: those known stay, and new ones beyond are dropped.
const MAX_SIGNATURES: usize = 64;

impl State {
    fn lets_see(policy: &Policy, row: &ClaimRow) -> bool {
        let mut others = policy.accounts.iter();
        row.owner == policy.account
            || others.any(|(other, level)| *other == row.owner && level.covers(row.claim.origin))
    }

    fn claims_seen(&self, policy: &Policy) -> impl Iterator<Item = &ClaimRow> {
        self.claims.iter().filter(|row| Self::lets_see(policy, row))
    }

    fn signed_seen(
        &self,
        policy: &Policy,
        wanted: impl Fn(&StorePath) -> bool,
    ) -> impl Iterator<Item = (KeyId, &SignatureRow, (u64, u64))> {
        self.signatures.iter().filter_map(move |row| {
            let key = row.key.filter(|key| policy.keys.contains(key))?;
            wanted(&self.object(row.id).path).then_some(())?;
            Some((key, row, self.known_to(policy, row)?))
        })
    }

    fn evidence(&self, policy: &Policy, wanted: impl Fn(&StorePath) -> bool) -> Vec<Evidence> {
        let claims = self
            .claims_seen(policy)
            .filter(|row| wanted(&row.claim.object.path));
        let claims = claims.map(|row| Evidence {
            id: row.id,
            claim: row.claim.clone(),
            witness: match row.owner == policy.account {
                true => Witness::Own,
                false => Witness::Account(row.owner),
            },
            seq: row.seq as i64,
        });
        let signed = self.signed_seen(policy, &wanted);
        let signed = signed.map(|(key, row, (since, registered))| Evidence {
            id: row.id,
            claim: Claim {
                object: self.object(row.id).clone(),
                origin: Origin::Uploaded,
                deriver: None,
                signatures: BTreeSet::from([row.text.clone()]),
                registered,
                cache: None,
                shareable: false,
            },
            witness: Witness::Key(key),
            seq: since as i64,
        });
        claims.chain(signed).collect()
    }

    fn record(&mut self, account: AccountId, claim: &Claim) -> ObjectId {
        let id = self.object_id(&claim.object);
        let same = |row: &&mut ClaimRow| (row.owner, row.id, row.claim.origin) == (account, id, claim.origin);
        if let Some(row) = self.claims.iter_mut().find(same) {
            row.claim.signatures.extend(claim.signatures.iter().cloned());
            row.claim.shareable |= claim.shareable;
        } else {
            let seq = self.tick();
            self.claims.push(ClaimRow {
                owner: account,
                id,
                seq,
                claim: claim.clone(),
            });
        }
        id
    }

    fn note(&mut self, id: ObjectId, proof: &Proof) {
        let same = |row: &&mut SignatureRow| row.id == id && row.text == proof.signature;
        if let Some(row) = self.signatures.iter_mut().find(same) {
            row.key = row.key.or(proof.key);
            return;
        }
        let number = self.tick() as i64;
        self.signatures.push(SignatureRow {
            number,
            id,
            text: proof.signature.clone(),
            key_name: proof.key_name.clone(),
            key: proof.key,
            shared: None,
            for_good: false,
        });
    }
}

impl Views for MemoryDatabase {
    fn alone(&self) -> bool {
        !self.lock().others_write
    }

    async fn evidence(&self, policy: &Policy, paths: &[StorePath]) -> Result<Vec<Evidence>, DatabaseError> {
        let paths: BTreeSet<&StorePath> = paths.iter().collect();
        Ok(self
            .open("evidence")?
            .evidence(policy, |path| paths.contains(path)))
    }

    async fn paths_by_hash_part(
        &self,
        policy: &Policy,
        hash_part: &str,
    ) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let state = self.open("paths_by_hash_part")?;
        let found = state.evidence(policy, |path| path.hash_part() == hash_part);
        Ok(found.into_iter().map(|e| e.claim.object.path).collect())
    }

    async fn paths(&self, policy: &Policy) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let state = self.open("paths")?;
        Ok(state
            .claims_seen(policy)
            .map(|row| row.claim.object.path.clone())
            .collect())
    }

    async fn referrers(
        &self,
        policy: &Policy,
        path: &StorePath,
    ) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let state = self.open("referrers")?;
        let objects = state.claims_seen(policy).map(|row| &row.claim.object);
        let referring = objects.filter(|object| object.references.contains(path));
        Ok(referring.map(|object| object.path.clone()).collect())
    }

    async fn derivers(
        &self,
        policy: &Policy,
        path: &StorePath,
    ) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let state = self.open("derivers")?;
        let of_path = state
            .claims_seen(policy)
            .filter(|row| row.claim.object.path == *path);
        Ok(of_path.filter_map(|row| row.claim.deriver.clone()).collect())
    }

    async fn record_claims(
        &self,
        account: AccountId,
        claims: &[Claim],
        proofs: &[Proof],
        registry: KeyId,
    ) -> Result<(), DatabaseError> {
        let mut state = self.open("record_claims")?;
        state.of(account)?;
        if !proofs.is_empty() && state.newest_key() > registry {
            return Err(DatabaseError::KeysChanged);
        }
        let mut ids: BTreeMap<usize, ObjectId> = BTreeMap::new();
        for (number, claim) in claims.iter().enumerate() {
            (self.witness)(&claim.object.content);
            ids.insert(number, state.record(account, claim));
        }
        for proof in proofs {
            state.note(ids[&proof.claim], proof);
        }
        state.settle();
        Ok(())
    }

    async fn realisations(
        &self,
        policy: &Policy,
        ids: &[DrvOutput],
    ) -> Result<Vec<RealisationEvidence>, DatabaseError> {
        let state = self.open("realisations")?;
        let seen = |e: &&RealisationEvidence| {
            let origin = e.claim.origin;
            let mut others = policy.accounts.iter();
            let signed = !e.claim.realisation.signatures.is_empty();
            e.account == policy.account
                || others.any(|(other, level)| *other == e.account && level.covers(origin))
                || (signed && origin == Origin::Uploaded && state.gives(e.account).evidence)
        };
        let asked = state
            .realisations
            .iter()
            .filter(|e| ids.contains(&e.claim.realisation.id));
        Ok(asked.filter(seen).cloned().collect())
    }

    async fn record_realisations(
        &self,
        account: AccountId,
        claims: &[RealisationClaim],
    ) -> Result<(), DatabaseError> {
        let mut state = self.open("record_realisations")?;
        state.of(account)?;
        let before = state.realisations.clone();
        for claim in claims {
            let (id, origin) = (&claim.realisation.id, claim.origin);
            let same = |e: &RealisationEvidence| {
                e.account == account
                    && e.claim.realisation.id == *id
                    && e.claim.origin == origin
                    && e.claim.form == claim.form
            };
            let mut claim = claim.clone();
            let brought = std::mem::take(&mut claim.realisation.signatures);
            if let Some(place) = state.realisations.iter().position(same) {
                let earlier = state.realisations.remove(place).claim;
                if earlier.realisation.fingerprint() == claim.realisation.fingerprint() {
                    claim.registered = earlier.registered;
                    claim.realisation.signatures = earlier.realisation.signatures;
                }
            }
            for signature in brought {
                if claim.realisation.signatures.len() < MAX_SIGNATURES {
                    claim.realisation.signatures.insert(signature);
                }
            }
            let length = claim.realisation.to_json().len();
            if length > MAX_REALISATION {
                state.realisations = before;
                return Err(DatabaseError::Backend(Box::new(RealisationError::TooLarge(
                    length,
                ))));
            }
            state.realisations.push(RealisationEvidence { account, claim });
        }
        Ok(())
    }

    async fn forget(&self, account: AccountId, paths: &[StorePath]) -> Result<u64, DatabaseError> {
        let mut state = self.open("forget")?;
        let before = state.claims.len();
        state
            .claims
            .retain(|row| row.owner != account || !paths.contains(&row.claim.object.path));
        let forgotten = before - state.claims.len();
        state.settle();
        state.epoch += 1;
        Ok(forgotten as u64)
    }

    async fn contents(&self) -> Result<BTreeSet<NarHash>, DatabaseError> {
        let state = self.open("contents")?;
        let claimed = state.claims.iter().map(|row| row.claim.object.content);
        let signed = state.signatures.iter().map(|row| state.object(row.id).content);
        let outcomes = state.runs.iter().flat_map(|row| &row.outcome);
        let built = outcomes.flat_map(BTreeMap::values);
        let built = built.map(|output| output.object.content);
        Ok(claimed.chain(signed).chain(built).collect())
    }
}
