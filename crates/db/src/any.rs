//! One type for whichever database is configured, so that what stands above is compiled once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use firn_core::schedule::Past;
use firn_core::{
    AccountId, AccountName, BuildId, BuildKey, Claim, Evidence, Ground, KeyId, Object, ObjectId, Policy,
    RealisationClaim, RealisationEvidence, Trust,
};
use firn_nix::realisation::DrvOutput;
use firn_nix::signature::PublicKey;
use firn_nix::{NarHash, StorePath};
use firn_service::ports::{
    Account, Accounts, BuildRecord, Builds, DatabaseError, DerivationDigest, FailureRecord, Gives,
    GroundedOutput, Grounds, Login, OpenSignature, PastRun, Policies, Proof, Relation, RequestRecord,
    SigningKey, SshKey, Stored, Usage, Views,
};

use crate::{PostgresDatabase, SqliteDatabase};

/// The metadata ports on either database.
#[derive(Clone, Debug)]
pub enum AnyDatabase {
    /// For one machine.
    Sqlite(SqliteDatabase),
    /// For more.
    Postgres(PostgresDatabase),
}

impl AnyDatabase {
    /// [`SqliteDatabase::open`].
    ///
    /// # Errors
    /// As there.
    pub async fn open(path: &Path) -> Result<Self, DatabaseError> {
        SqliteDatabase::open(path).await.map(Self::Sqlite)
    }

    /// [`PostgresDatabase::connect`].
    ///
    /// # Errors
    /// As there.
    pub async fn connect(url: &str, connections: u32) -> Result<Self, DatabaseError> {
        PostgresDatabase::connect(url, connections)
            .await
            .map(Self::Postgres)
    }

    /// Finishes what was given to it and closes it.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(database) => database.close().await,
            Self::Postgres(database) => database.close().await,
        }
    }
}

macro_rules! delegate {
    ($port:ident $({ $($plain:item)+ })?: $($method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)+) => {
        impl $port for AnyDatabase {
            $($($plain)+)?

            $(async fn $method(&self $(, $argument: $type)*) -> Result<$answer, DatabaseError> {
                match self {
                    Self::Sqlite(database) => database.$method($($argument),*).await,
                    Self::Postgres(database) => database.$method($($argument),*).await,
                }
            })+
        }
    };
}

delegate! {
    Accounts:
    create_account(name: &AccountName, signing_key: &str, now: u64) -> Account;
    account(name: &AccountName) -> Option<Account>;
    accounts() -> Vec<Account>;
    remove_account(name: &AccountName) -> ();
    add_key(account: AccountId, key: &SshKey) -> ();
    keys(account: AccountId) -> Vec<SshKey>;
    remove_key(account: &Account, fingerprint: &str) -> ();
    account_by_key(blob: &[u8]) -> Option<Account>;
}

delegate! {
    Policies:
    epoch() -> u64;
    stored(account: AccountId, ssh_key: Option<&str>) -> Stored;
    set_account(account: AccountId, name: &str, value: Option<&str>, gives: Gives) -> ();
    set_key(account: AccountId, fingerprint: &str, name: &str, value: Option<&str>) -> ();
    trust(account: AccountId, other: AccountId, level: Option<Trust>) -> ();
    let_read(account: AccountId, other: AccountId, level: Option<Trust>) -> ();
    relations(account: AccountId) -> Vec<Relation>;
    keys_named(names: &[String]) -> (Vec<(KeyId, PublicKey)>, KeyId);
    register_key(by: Option<AccountId>, key: &PublicKey) -> (KeyId, bool);
    open_signers(key_name: &str) -> Vec<AccountId>;
    open_signatures(key_name: &str, account: AccountId, after: i64, limit: u32) -> Vec<OpenSignature>;
    prove(key: KeyId, proven: &[(i64, ObjectId)]) -> ();
    settle_key(key: KeyId) -> ();
    logins(account: AccountId) -> BTreeMap<String, Login>;
    set_login(account: AccountId, host: &str, login: Option<&Login>) -> bool;
    signing_keys(account: AccountId) -> Vec<SigningKey>;
    add_signing_key(account: AccountId, secret: &str, now: u64) -> ();
}

delegate! {
    Views {
        fn alone(&self) -> bool {
            match self {
                Self::Sqlite(database) => database.alone(),
                Self::Postgres(database) => database.alone(),
            }
        }
    }:
    evidence(policy: &Policy, paths: &[StorePath]) -> Vec<Evidence>;
    paths_by_hash_part(policy: &Policy, hash_part: &str) -> BTreeSet<StorePath>;
    paths(policy: &Policy) -> BTreeSet<StorePath>;
    referrers(policy: &Policy, path: &StorePath) -> BTreeSet<StorePath>;
    derivers(policy: &Policy, path: &StorePath) -> BTreeSet<StorePath>;
    record_claims(account: AccountId, claims: &[Claim], proofs: &[Proof], registry: KeyId) -> ();
    realisations(policy: &Policy, ids: &[DrvOutput]) -> Vec<RealisationEvidence>;
    record_realisations(account: AccountId, claims: &[RealisationClaim]) -> ();
    forget(account: AccountId, paths: &[StorePath]) -> u64;
    contents() -> BTreeSet<NarHash>;
}

delegate! {
    Builds:
    result(key: &BuildKey, account: AccountId, takes: bool) -> Option<BuildRecord>;
    record_build(record: &BuildRecord, account: AccountId, shares: bool) -> BuildRecord;
    record_check(record: &BuildRecord, account: AccountId, shares: bool) -> ();
    forget_result(build: BuildId) -> ();
    failure(key: &BuildKey, account: AccountId, takes: bool) -> Option<FailureRecord>;
    record_failure(record: &FailureRecord, account: AccountId, shares: bool) -> ();
    runs_of(drv: &DerivationDigest, account: AccountId, takes: bool, limit: u32) -> Vec<PastRun>;
    history(packages: &BTreeSet<String>, system: &str, account: AccountId, takes: bool, limit: u32) -> BTreeMap<String, Vec<Past>>;
    producers(objects: &BTreeSet<ObjectId>, account: AccountId, takes: bool) -> Vec<PastRun>;
    run_of_request(build: BuildId, account: AccountId) -> Option<PastRun>;
    objects(ids: &BTreeSet<ObjectId>) -> BTreeMap<ObjectId, Object>;
    irreproducible(account: AccountId, takes: bool, limit: u32) -> Vec<PastRun>;
    record_request(request: &RequestRecord) -> ();
    latest_request(account: AccountId, drv_path: &StorePath) -> Option<RequestRecord>;
    requests(account: AccountId, limit: u32) -> Vec<RequestRecord>;
    usage(account: Option<AccountId>, since: u64, until: u64) -> Usage;
}

delegate! {
    Grounds:
    ground(build: BuildId, ground: &Ground) -> ();
    grounded(objects: &BTreeSet<ObjectId>, ground: &Ground) -> BTreeSet<ObjectId>;
    grounded_outputs(paths: &[StorePath], ground: &Ground, account: AccountId, takes: bool) -> BTreeMap<StorePath, GroundedOutput>;
    inputs_of(builds: &BTreeSet<BuildId>) -> BTreeMap<BuildId, BTreeSet<ObjectId>>;
}
