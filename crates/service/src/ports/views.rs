//! Evidence: per account, which objects it has; and which objects trusted keys have signed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use firn_core::{
    AccountId, Claim, Evidence, KeyId, Object, ObjectId, Policy, RealisationClaim, RealisationEvidence,
};
use firn_nix::realisation::DrvOutput;
use firn_nix::{NarHash, StorePath};

use super::DatabaseError;

/// Most signatures of one claim, or of one realisation in the words of one account. Those that are known stay, and new ones beyond are
/// dropped.
pub const MAX_SIGNATURES: usize = 64;

/// A signature that came with a claim, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Which of the claims, counted from 0.
    pub claim: usize,
    /// `name:base64`.
    pub signature: String,
    /// Name of its key.
    pub key_name: String,
    /// The key that made it, or `None` while no known key of that name did.
    pub key: Option<KeyId>,
}

/// A signature that no key was known for when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSignature {
    /// Its number, ascending.
    pub id: i64,
    /// Number of the object.
    pub object_id: ObjectId,
    /// What it should be over.
    pub object: Object,
    /// `name:base64`.
    pub signature: String,
}

/// The evidence of all accounts. A method answers for one account, and reads no more than that account's policy lets it.
pub trait Views: Send + Sync + 'static {
    /// Whether nobody else writes to the database while this value is there, so that what it has recorded is all that is new.
    fn alone(&self) -> bool;

    /// Everything that the policy lets its account see for these paths (any number of them): its own claims, those of the policy's
    /// accounts as far as their level covers, objects signed by the policy's keys that somebody shares or the account has itself, and what
    /// it was told ([`Views::tell`]) by those keys and by accounts that the policy still trusts so far.
    fn evidence(
        &self,
        policy: &Policy,
        paths: &[StorePath],
    ) -> impl Future<Output = Result<Vec<Evidence>, DatabaseError>> + Send;

    /// Every path with this 32-digit hash part that [`Views::evidence`] has anything for.
    fn paths_by_hash_part(
        &self,
        policy: &Policy,
        hash_part: &str,
    ) -> impl Future<Output = Result<BTreeSet<StorePath>, DatabaseError>> + Send;

    /// Every path that the account, or an account of the policy as far as its level covers, has a claim for. What only a key has signed
    /// is not listed: it has to be asked for by name.
    fn paths(
        &self,
        policy: &Policy,
    ) -> impl Future<Output = Result<BTreeSet<StorePath>, DatabaseError>> + Send;

    /// Those of these paths with a claim that refers to `path`.
    fn referrers(
        &self,
        policy: &Policy,
        path: &StorePath,
    ) -> impl Future<Output = Result<BTreeSet<StorePath>, DatabaseError>> + Send;

    /// Derivers that the account's own claims, or those of the policy's accounts, name for `path`.
    fn derivers(
        &self,
        policy: &Policy,
        path: &StorePath,
    ) -> impl Future<Output = Result<BTreeSet<StorePath>, DatabaseError>> + Send;

    /// Adds claims in one transaction, with what their signatures prove. A claim that is there already (same account, object and origin)
    /// stays as it is, with its signatures united; it becomes shareable when the new one is.
    ///
    /// `registry` is the highest key number that the proofs were made with; [`DatabaseError::KeysChanged`] when there are newer keys.
    fn record_claims(
        &self,
        account: AccountId,
        claims: &[Claim],
        proofs: &[Proof],
        registry: KeyId,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Before the account is told that these objects are valid: keeps what others have of them and the policy admits, so that they cannot take
    /// it back. It stays while those forget it, become private, let nobody read or are removed, and counts as long as the account trusts the
    /// key or the account. Those of which there was something that was not kept already; what is missing was taken back in between.
    fn tell(
        &self,
        policy: &Policy,
        objects: &BTreeMap<StorePath, ObjectId>,
    ) -> impl Future<Output = Result<BTreeSet<ObjectId>, DatabaseError>> + Send;

    /// What the policy lets its account see of these outputs: its own claims, those of the policy's accounts as far as their level covers,
    /// when the policy has keys, registered claims with signatures of accounts that share evidence, and what it was told of them
    /// ([`Views::tell_realisations`]). Whose those signatures are is not looked at.
    fn realisations(
        &self,
        policy: &Policy,
        ids: &[DrvOutput],
    ) -> impl Future<Output = Result<Vec<RealisationEvidence>, DatabaseError>> + Send;

    /// Adds claims of an account in one transaction. One that says the same as an earlier one of that origin and form adds its signatures; one that
    /// says something else takes its place.
    fn record_realisations(
        &self,
        account: AccountId,
        claims: &[RealisationClaim],
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Keeps for an account what others said of outputs, as [`Views::tell`] does for objects.
    fn tell_realisations(
        &self,
        account: AccountId,
        told: &[RealisationEvidence],
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Takes away the account's own claims for these paths, what they alone shared, and what the account was told of these paths; how
    /// many pieces there were. A new epoch.
    fn forget(
        &self,
        account: AccountId,
        paths: &[StorePath],
    ) -> impl Future<Output = Result<u64, DatabaseError>> + Send;

    /// Every content that anybody's evidence, a shared signature, a build result or something that somebody was told speaks of. What is
    /// stored and not here is garbage.
    fn contents(&self) -> impl Future<Output = Result<BTreeSet<NarHash>, DatabaseError>> + Send;
}
