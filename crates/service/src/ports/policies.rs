//! What accounts decided: settings, trust, readers, logins, signing keys; and the public keys that anybody trusts.

use std::collections::BTreeMap;
use std::future::Future;

use firn_core::{AccountId, AccountName, KeyId, ObjectId, Trust};
use firn_nix::signature::PublicKey;

use super::{DatabaseError, Login, OpenSignature};

/// Public keys that one account may make known.
pub const MAX_KNOWN_KEYS: u32 = 256;

/// What was set for an account, and for one of its SSH keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Number of the state of everything that this port keeps; it grows with every change to anybody's.
    pub epoch: u64,
    /// The account's settings by name.
    pub account: BTreeMap<String, String>,
    /// The SSH key's settings by name.
    pub key: BTreeMap<String, String>,
    /// Accounts that it trusts, that let it read, and that are not private; the lower of both levels; in the order of trusting.
    pub accounts: Vec<(AccountId, Trust)>,
}

/// What an account gives to others: follows from its own settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gives {
    /// Signed uploads to those who trust the key, builds and uploads to readers that trust it.
    pub evidence: bool,
    /// Build results to everybody with the same build key.
    pub results: bool,
}

/// How an account stands to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The other one.
    pub name: AccountName,
    /// How far this account trusts the other.
    pub trusts: Option<Trust>,
    /// How far the other trusts this one.
    pub trusted_by: Option<Trust>,
    /// What this account lets the other read.
    pub lets_read: Option<Trust>,
    /// What the other lets this one read, where this one trusts it; otherwise it is not for this account to know.
    pub may_read: Option<Trust>,
}

/// A key that signs for an account.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// `name:base64` of the secret key.
    pub secret: String,
    /// Since when.
    pub created: u64,
    /// Whether it signs what comes; the others have signed what came before.
    pub active: bool,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("created", &self.created)
            .finish_non_exhaustive()
    }
}

/// The policies of all accounts. What changes here takes effect with the next question.
pub trait Policies: Send + Sync + 'static {
    /// Number of the state; see [`Stored::epoch`]. Also grows when evidence is taken away. Cheap.
    fn epoch(&self) -> impl Future<Output = Result<u64, DatabaseError>> + Send;

    /// What was set for an account and, when it came with one, the SSH key with that fingerprint; [`DatabaseError::NoAccount`] when the
    /// account does not exist any more, [`DatabaseError::NoKey`] when the key is not the account's: what restricts a key does not end with it.
    fn stored(
        &self,
        account: AccountId,
        ssh_key: Option<&str>,
    ) -> impl Future<Output = Result<Stored, DatabaseError>> + Send;

    /// Sets (or with `None` unsets) an account's setting, and what follows from it for others. A new epoch.
    fn set_account(
        &self,
        account: AccountId,
        name: &str,
        value: Option<&str>,
        gives: Gives,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Sets (or unsets) a setting of an account's SSH key; [`DatabaseError::NoKey`] when it has none such. A new epoch.
    fn set_key(
        &self,
        account: AccountId,
        fingerprint: &str,
        name: &str,
        value: Option<&str>,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// `account` trusts `other` so far, or not any more. A new epoch.
    fn trust(
        &self,
        account: AccountId,
        other: AccountId,
        level: Option<Trust>,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// `account` lets `other` read so much, or nothing any more. A new epoch.
    fn let_read(
        &self,
        account: AccountId,
        other: AccountId,
        level: Option<Trust>,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Accounts that this one trusts or lets read, or that trust this one; by name.
    fn relations(
        &self,
        account: AccountId,
    ) -> impl Future<Output = Result<Vec<Relation>, DatabaseError>> + Send;

    /// The known keys of these names, and the highest number of any key (0 when there is none).
    fn keys_named(
        &self,
        names: &[String],
    ) -> impl Future<Output = Result<(Vec<(KeyId, PublicKey)>, KeyId), DatabaseError>> + Send;

    /// Makes a key known; its number, and whether the signatures that came before were looked at ([`Policies::settle_key`]). One account
    /// may make [`MAX_KNOWN_KEYS`] keys known in its life ([`DatabaseError::TooManyKeys`]): each costs those who upload signatures of
    /// its name. `None`: the operator's key.
    fn register_key(
        &self,
        by: Option<AccountId>,
        key: &PublicKey,
    ) -> impl Future<Output = Result<(KeyId, bool), DatabaseError>> + Send;

    /// Up to `limit` signatures by a key of that name that no key is known for, with numbers above `after`, ascending.
    fn open_signatures(
        &self,
        key_name: &str,
        after: i64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<OpenSignature>, DatabaseError>> + Send;

    /// These signatures (by number) are the key's. They are not open any more; they count for others as far as an account that brought
    /// them shares.
    fn prove(
        &self,
        key: KeyId,
        proven: &[(i64, ObjectId)],
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// All signatures that came before the key were looked at.
    fn settle_key(&self, key: KeyId) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// The account's logins by host.
    fn logins(
        &self,
        account: AccountId,
    ) -> impl Future<Output = Result<BTreeMap<String, Login>, DatabaseError>> + Send;

    /// Keeps (or with `None` removes) the login for a host (`host` or `host:port`); whether there was one. A new epoch.
    fn set_login(
        &self,
        account: AccountId,
        host: &str,
        login: Option<&Login>,
    ) -> impl Future<Output = Result<bool, DatabaseError>> + Send;

    /// The account's signing keys, the active one first, then the newest.
    fn signing_keys(
        &self,
        account: AccountId,
    ) -> impl Future<Output = Result<Vec<SigningKey>, DatabaseError>> + Send;

    /// Adds a signing key and makes it the active one.
    fn add_signing_key(
        &self,
        account: AccountId,
        secret: &str,
        now: u64,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;
}
