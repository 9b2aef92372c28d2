//! What accounts decided: settings, trust, readers, logins, signing keys; and the public keys that anybody trusts.

use std::collections::BTreeMap;
use std::future::Future;

use firn_core::{AccountId, AccountName, Effective, KeyId, ObjectId, SettingChange, Trust, layered};
use firn_nix::signature::{PublicKey, SecretKey, SignatureError};

use super::{DatabaseError, Login, OpenSignature};
use crate::terms;

/// Public keys that one account may make known.
pub const MAX_KNOWN_KEYS: u32 = 256;
/// Accounts that one account may trust.
pub const MAX_TRUSTED: usize = 64;
/// Logins of one account.
pub const MAX_LOGINS: usize = 64;
/// Signing keys of one account, old ones included.
pub const MAX_SIGNING_KEYS: usize = 256;

/// How many of them by what its sessions say, so that a session leaves room for what the account itself decides.
pub const MAX_SESSION_KEYS: u32 = MAX_KNOWN_KEYS / 2;

/// For whom a public key is made known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFor {
    /// The operator.
    Operator,
    /// An account, by its own decision.
    Account(AccountId),
    /// A session of an account.
    Session(AccountId),
}

impl KeyFor {
    /// The account.
    #[must_use]
    pub const fn account(self) -> Option<AccountId> {
        match self {
            Self::Operator => None,
            Self::Account(account) | Self::Session(account) => Some(account),
        }
    }

    /// The account, and how many keys it may have made known when this one is.
    #[must_use]
    pub const fn most(self) -> Option<(AccountId, u32)> {
        match self {
            Self::Operator => None,
            Self::Account(account) => Some((account, MAX_KNOWN_KEYS)),
            Self::Session(account) => Some((account, MAX_SESSION_KEYS)),
        }
    }
}

/// Signatures by unknown keys that one account may have kept for the day when the key becomes known. What it brings beyond is its own
/// paths' and proves nothing to others, until it is brought again.
pub const MAX_OPEN_SIGNATURES: u32 = 1 << 16;

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
    /// All that it trusts, in that order; also those that are gone, while it was told something on their word.
    pub trusted: Vec<(AccountId, Trust)>,
}

/// What an account gives to others: follows from its own settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gives {
    /// Signed uploads to those who trust the key, builds and uploads to readers that trust it.
    pub evidence: bool,
    /// Build results to everybody with the same build key.
    pub results: bool,
}

impl Gives {
    /// All that an account can give.
    pub const ALL: Self = Self {
        evidence: true,
        results: true,
    };

    /// The settings that decide it.
    pub const SETTINGS: [&str; 2] = ["private", "share-builds"];

    /// What follows for an account that has set this, of [`Gives::SETTINGS`] at least.
    #[must_use]
    pub fn of_account(defaults: &Effective, settings: &BTreeMap<String, String>) -> Self {
        Self::of(&layered(defaults.clone(), [&terms::of_account(settings)]))
    }

    /// What follows from settings that hold.
    #[must_use]
    pub fn of(settings: &Effective) -> Self {
        Self {
            evidence: settings.gives_evidence(),
            results: settings.gives_results(),
        }
    }
}

/// A change of an account's settings. It is worked out within the transaction that makes it, from what is set then: whatever others
/// change at the same moment, through this server or another, nothing is lost.
#[derive(Clone, Debug)]
pub struct AccountChange {
    /// What holds where the account has set nothing.
    pub defaults: Effective,
    /// What is to be done.
    pub change: SettingChange,
}

/// What a change comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The setting.
    pub name: &'static str,
    /// Its value from now on; `None` unsets it.
    pub value: Option<String>,
    /// What the account gives from now on.
    pub gives: Gives,
}

impl AccountChange {
    /// What it comes to for an account that has set this.
    ///
    /// # Errors
    /// [`DatabaseError::Change`] when it is refused.
    pub fn apply(&self, mut settings: BTreeMap<String, String>) -> Result<Changed, DatabaseError> {
        let now = layered(self.defaults.clone(), [&terms::of_account(&settings)]);
        let name = self.change.name();
        let value = self.change.value(&now)?;
        match &value {
            Some(value) => drop(settings.insert(name.to_owned(), value.clone())),
            None => drop(settings.remove(name)),
        }
        let gives = Gives::of_account(&self.defaults, &settings);
        Ok(Changed { name, value, gives })
    }
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

/// A key that shall sign for an account.
#[derive(Clone)]
pub enum NewSigningKey {
    /// The text of a secret key.
    Given(String),
    /// A new one, named by its place among the account's keys.
    Numbered {
        /// The name without the number.
        stem: String,
        /// 32 bytes that nobody can guess.
        seed: [u8; 32],
    },
}

impl NewSigningKey {
    /// The text of the secret key of an account that has so many already.
    ///
    /// # Errors
    /// The name cannot be that of a key.
    pub fn secret(&self, before: usize) -> Result<String, SignatureError> {
        match self {
            Self::Given(text) => Ok(text.clone()),
            Self::Numbered { stem, seed } => {
                let key = SecretKey::from_seed(&format!("{stem}-{}", before + 1), seed)?;
                Ok(key.to_secret_text())
            }
        }
    }
}

impl std::fmt::Debug for NewSigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewSigningKey").finish_non_exhaustive()
    }
}

/// The policies of all accounts. A method that changes something locks the account's row, so that changes of one account come one after
/// the other, from however many servers. What changes here takes effect with the next question.
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

    /// Changes an account's settings, and what follows from them for others; [`DatabaseError::Change`] when the change is refused. A new
    /// epoch.
    fn change_account(
        &self,
        account: AccountId,
        change: &AccountChange,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Makes every account give what follows from its settings where the operator's defaults are these; how many give more or less than
    /// before. A new epoch when any does.
    fn settle_gives(&self, defaults: &Effective) -> impl Future<Output = Result<u64, DatabaseError>> + Send;

    /// Sets (or unsets) a setting of an account's SSH key; [`DatabaseError::NoKey`] when it has none such. A new epoch.
    fn set_key(
        &self,
        account: AccountId,
        fingerprint: &str,
        name: &str,
        value: Option<&str>,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// `account` trusts `other` so far, or not any more; [`DatabaseError::TooMany`] when it trusts [`MAX_TRUSTED`] others. A new epoch.
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
    /// its name.
    fn register_key(
        &self,
        by: KeyFor,
        key: &PublicKey,
    ) -> impl Future<Output = Result<(KeyId, bool), DatabaseError>> + Send;

    /// Who brought the signatures by a key of that name that no key is known for; 0 stands for accounts that are gone.
    fn open_signers(
        &self,
        key_name: &str,
    ) -> impl Future<Output = Result<Vec<AccountId>, DatabaseError>> + Send;

    /// Up to `limit` of those that one of them brought first, with numbers above `after`, ascending.
    fn open_signatures(
        &self,
        key_name: &str,
        account: AccountId,
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

    /// Keeps (or with `None` removes) the login for a host (`host` or `host:port`); whether there was one. [`DatabaseError::TooMany`] when
    /// there are [`MAX_LOGINS`] for other hosts. A new epoch.
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

    /// Adds a signing key and makes it the active one; [`DatabaseError::TooMany`] when there are [`MAX_SIGNING_KEYS`].
    fn add_signing_key(
        &self,
        account: AccountId,
        key: &NewSigningKey,
        now: u64,
    ) -> impl Future<Output = Result<SigningKey, DatabaseError>> + Send;
}
