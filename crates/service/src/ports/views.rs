//! Evidence: per account, which contents a store path may have.

use std::collections::BTreeSet;
use std::future::Future;

use firn_core::{AccountId, Claim};
use firn_nix::{NarHash, StorePath};

use super::DatabaseError;

/// A content that some evidence or result speaks of, with its size.
pub type ContentSize = (NarHash, u64);

/// The evidence of all accounts. Every method speaks of one account only.
pub trait Views: Send + Sync + 'static {
    /// The account's claims for these paths (any number of them), oldest first.
    fn claims(
        &self,
        account: AccountId,
        paths: &[StorePath],
    ) -> impl Future<Output = Result<Vec<Claim>, DatabaseError>> + Send;

    /// The account's claims for paths with this 32-digit hash part, oldest first.
    fn claims_by_hash_part(
        &self,
        account: AccountId,
        hash_part: &str,
    ) -> impl Future<Output = Result<Vec<Claim>, DatabaseError>> + Send;

    /// Every path that the account has a claim for.
    fn paths(
        &self,
        account: AccountId,
    ) -> impl Future<Output = Result<BTreeSet<StorePath>, DatabaseError>> + Send;

    /// Paths of the account with a claim that refers to `path`.
    fn referrers(
        &self,
        account: AccountId,
        path: &StorePath,
    ) -> impl Future<Output = Result<BTreeSet<StorePath>, DatabaseError>> + Send;

    /// Derivers that the account's claims name for `path`.
    fn derivers(
        &self,
        account: AccountId,
        path: &StorePath,
    ) -> impl Future<Output = Result<BTreeSet<StorePath>, DatabaseError>> + Send;

    /// Adds claims in one transaction; one that is there already (same account, object and kind) stays as it is, with its signatures united.
    fn record_claims(
        &self,
        account: AccountId,
        claims: &[Claim],
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Adds signatures to all the account's claims for a path; false when there is none.
    fn add_signatures(
        &self,
        account: AccountId,
        path: &StorePath,
        signatures: &BTreeSet<String>,
    ) -> impl Future<Output = Result<bool, DatabaseError>> + Send;

    /// Every content that anybody's evidence or a build result speaks of. What is stored and not here is garbage.
    fn contents(&self) -> impl Future<Output = Result<BTreeSet<NarHash>, DatabaseError>> + Send;
}
