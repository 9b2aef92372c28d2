//! What the use cases need from the world: one port per aggregate.
//!
//! A method is one transaction: it happens whole and durably, or not at all. "Durably" means that the answer survives power loss one
//! instant later. Times are seconds since 1970, given by the caller.

mod accounts;
mod builder;
mod builds;
mod caches;
mod grounds;
mod policies;
mod views;

pub use accounts::{Account, Accounts, SshKey};
pub use builder::{Builder, BuiltFile, Job, JobLimits, Outcome, RunFailure, RunReport, Scarce};
pub use builds::{
    BuildRecord, Builds, DerivationDigest, FailureRecord, MAX_MARKS, Mark, OutputRecord, PastRun, Reason,
    RequestRecord, RunRecord, RungUsage, Usage,
};
pub use caches::{AccountCaches, CacheError, CacheInfo, Caches, Login, Trouble};
pub use grounds::{GroundedOutput, Grounds};
pub use policies::{
    AccountChange, Changed, Gives, KeyFor, MAX_KNOWN_KEYS, MAX_LOGINS, MAX_OPEN_SIGNATURES, MAX_SESSION_KEYS,
    MAX_SIGNING_KEYS, MAX_TRUSTED, NewSigningKey, Policies, Relation, SigningKey, Stored,
};
pub use views::{MAX_SIGNATURES, OpenSignature, Proof, Views};

/// Why the database could not do it.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// An account of that name exists.
    #[error("account '{0}' exists already")]
    AccountExists(String),
    /// No such account.
    #[error("there is no account '{0}'")]
    NoAccount(String),
    /// The key acts for another account; a key belongs to one.
    #[error("this key belongs to an account already")]
    KeyTaken,
    /// No such key.
    #[error("account '{account}' has no key '{fingerprint}'")]
    NoKey {
        /// Whose.
        account: String,
        /// Which.
        fingerprint: String,
    },
    /// Public keys became known since the proofs of a batch were made; make them again.
    #[error("public keys became known in the meantime")]
    KeysChanged,
    /// The account made as many public keys known as one may.
    #[error(
        "the account has trusted {MAX_KNOWN_KEYS} public keys that nobody had trusted before, which is the most"
    )]
    TooManyKeys,
    /// What is set does not allow the change.
    #[error(transparent)]
    Change(#[from] firn_core::ChangeError),
    /// A list of the account's is full.
    #[error("an account has at most {most} {what}")]
    TooMany {
        /// Entries.
        most: usize,
        /// Of what.
        what: &'static str,
    },
    /// A row that cannot be what was written: the database was changed from outside, or a bug.
    #[error("the database has a bad row in {table}: {what}")]
    Inconsistent {
        /// Where.
        table: &'static str,
        /// What.
        what: String,
    },
    /// The database itself.
    #[error("database: {0}")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// All metadata ports at once.
pub trait Database: Accounts + Policies + Views + Builds + Grounds + Clone {}

impl<T: Accounts + Policies + Views + Builds + Grounds + Clone> Database for T {}

/// The world that a service runs in.
pub trait Ports: Send + Sync + 'static {
    /// Metadata.
    type Database: Database;
    /// What runs builds.
    type Builder: Builder;
    /// Binary caches.
    type Caches: Caches;
}
