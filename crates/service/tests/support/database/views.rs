//! Evidence.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{
    AccountId, Claim, Evidence, KeyId, ObjectId, Origin, Policy, RealisationClaim, RealisationEvidence,
    Witness,
};
use firn_nix::realisation::{DrvOutput, MAX_REALISATION, RealisationError};
use firn_nix::{NarHash, StorePath};
use firn_service::ports::{DatabaseError, MAX_SIGNATURES, Proof, Views};

use super::signatures::SignatureRow;
use super::{ClaimRow, MemoryDatabase, State};

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
        self.with_told(policy, self.live(policy, &wanted), &wanted)
    }

    /// What there is now.
    pub fn live(&self, policy: &Policy, wanted: impl Fn(&StorePath) -> bool) -> Vec<Evidence> {
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
            kept: row.owner == policy.account,
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
            kept: self.is_kept(policy, row),
        });
        claims.chain(signed).collect()
    }

    fn record(&mut self, account: AccountId, claim: &Claim) -> ObjectId {
        let id = self.object_id(&claim.object);
        let same = |row: &&mut ClaimRow| (row.owner, row.id, row.claim.origin) == (account, id, claim.origin);
        if let Some(row) = self.claims.iter_mut().find(same) {
            for signature in &claim.signatures {
                if row.claim.signatures.len() < MAX_SIGNATURES {
                    row.claim.signatures.insert(signature.clone());
                }
            }
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

    fn note(&mut self, account: AccountId, id: ObjectId, proof: &Proof) {
        let same = |row: &&mut SignatureRow| row.id == id && row.text == proof.signature;
        if let Some(row) = self.signatures.iter_mut().find(same) {
            row.key = row.key.or(proof.key);
            return;
        }
        let number = self.tick() as i64;
        self.signatures.push(SignatureRow {
            number,
            brought: account,
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
        let told = state.told_by_accounts(policy);
        Ok(state
            .claims_seen(policy)
            .map(|row| row.claim.object.path.clone())
            .chain(told.map(|claim| claim.object.path.clone()))
            .collect())
    }

    async fn referrers(
        &self,
        policy: &Policy,
        path: &StorePath,
    ) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let state = self.open("referrers")?;
        let told = state.told_by_accounts(policy).map(|claim| &claim.object);
        let objects = state.claims_seen(policy).map(|row| &row.claim.object).chain(told);
        let referring = objects.filter(|object| object.references.contains(path));
        Ok(referring.map(|object| object.path.clone()).collect())
    }

    async fn derivers(
        &self,
        policy: &Policy,
        path: &StorePath,
    ) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let state = self.open("derivers")?;
        let claims = state.claims_seen(policy).map(|row| &row.claim);
        let of_path = claims
            .chain(state.told_by_accounts(policy))
            .filter(|claim| claim.object.path == *path);
        Ok(of_path.filter_map(|claim| claim.deriver.clone()).collect())
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
            state.note(account, ids[&proof.claim], proof);
        }
        state.settle();
        Ok(())
    }

    async fn tell(
        &self,
        policy: &Policy,
        objects: &BTreeMap<StorePath, ObjectId>,
    ) -> Result<BTreeSet<ObjectId>, DatabaseError> {
        if objects.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut state = self.open("tell")?;
        state.of(policy.account)?;
        Ok(state.tell(policy, objects))
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
        let own = |e: &RealisationEvidence| e.account == policy.account;
        let mut found: Vec<RealisationEvidence> = asked
            .filter(seen)
            .map(|e| RealisationEvidence {
                kept: own(e),
                ..e.clone()
            })
            .collect();
        let told = state.told_realisations.iter().filter(|(whose, e)| {
            let mut trusted = policy.told_by.iter();
            let believed = trusted.any(|(other, level)| *other == e.account && level.covers(e.claim.origin));
            let signed = !policy.keys.is_empty() && !e.claim.realisation.signatures.is_empty();
            *whose == policy.account && ids.contains(&e.claim.realisation.id) && (believed || signed)
        });
        found.extend(told.map(|(_, e)| e.clone()));
        Ok(found)
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
            state.realisations.push(RealisationEvidence {
                account,
                claim,
                kept: false,
            });
        }
        Ok(())
    }

    async fn tell_realisations(
        &self,
        account: AccountId,
        told: &[RealisationEvidence],
    ) -> Result<(), DatabaseError> {
        match told.is_empty() {
            true => Ok(()),
            false => self.tell_realisation(account, told),
        }
    }

    async fn forget(&self, account: AccountId, paths: &[StorePath]) -> Result<u64, DatabaseError> {
        let mut state = self.open("forget")?;
        let before = state.claims.len();
        state
            .claims
            .retain(|row| row.owner != account || !paths.contains(&row.claim.object.path));
        let told = state.told.len() + state.told_realisations.len();
        state
            .told
            .retain(|row| row.account != account || !paths.contains(&row.evidence.claim.object.path));
        state
            .told_realisations
            .retain(|(whose, e)| *whose != account || !paths.contains(&e.claim.realisation.out_path));
        let told = told - state.told.len() - state.told_realisations.len();
        let forgotten = before - state.claims.len() + told;
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
        let told = state.told.iter().map(|row| row.evidence.claim.object.content);
        Ok(claimed.chain(signed).chain(told).chain(built).collect())
    }
}
