//! Accounts and the keys that act for them.

use std::future::Future;

use firn_core::{AccountId, AccountName};

use super::{DatabaseError, Gives};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// Its name.
    pub name: AccountName,
    /// When it was made.
    pub created: u64,
}

/// A public key that acts for one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey {
    /// `ssh-ed25519` and the like.
    pub algorithm: String,
    /// The key in SSH's wire form.
    pub blob: Vec<u8>,
    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    /// What the person wrote behind it.
    pub comment: String,
    /// When it was added.
    pub added: u64,
}

/// The accounts.
pub trait Accounts: Send + Sync + 'static {
    /// Makes an account that signs with that secret key (`name:base64`) and gives so much to others; [`DatabaseError::AccountExists`] when
    /// the name is taken.
    fn create_account(
        &self,
        name: &AccountName,
        signing_key: &str,
        gives: Gives,
        now: u64,
    ) -> impl Future<Output = Result<Account, DatabaseError>> + Send;

    /// The account of that name.
    fn account(
        &self,
        name: &AccountName,
    ) -> impl Future<Output = Result<Option<Account>, DatabaseError>> + Send;

    /// All of them, by name.
    fn accounts(&self) -> impl Future<Output = Result<Vec<Account>, DatabaseError>> + Send;

    /// Removes an account with its keys, its decisions and its evidence, and nobody else's: what a key that others trust has signed, and
    /// the results that it shared, stay. A new epoch.
    fn remove_account(&self, name: &AccountName) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Lets a key act for an account; adding it twice is fine, [`DatabaseError::KeyTaken`] when another account has it.
    fn add_key(
        &self,
        account: AccountId,
        key: &SshKey,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// An account's keys, oldest first.
    fn keys(&self, account: AccountId) -> impl Future<Output = Result<Vec<SshKey>, DatabaseError>> + Send;

    /// Removes the key with that fingerprint; [`DatabaseError::NoKey`] when the account has none such.
    fn remove_key(
        &self,
        account: &Account,
        fingerprint: &str,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Whom a key acts for.
    fn account_by_key(
        &self,
        blob: &[u8],
    ) -> impl Future<Output = Result<Option<Account>, DatabaseError>> + Send;
}
