//! One type for whichever database is configured, so that what stands above is compiled once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use firn_core::schedule::Past;
use firn_core::{
    AccountId, AccountName, BuildId, BuildKey, Claim, Effective, Evidence, Ground, KeyId, Object, ObjectId,
    Policy, RealisationClaim, RealisationEvidence, Trust,
};
use firn_nix::realisation::DrvOutput;
use firn_nix::signature::PublicKey;
use firn_nix::{NarHash, StorePath};
use firn_service::ports::{
    Account, AccountChange, Accounts, BuildRecord, Builds, DatabaseError, DerivationDigest, FailureRecord,
    Gives, GroundedOutput, Grounds, KeyFor, Login, Mark, NewSigningKey, OpenSignature, PastRun, Policies,
    Proof, Relation, RequestRecord, SigningKey, SshKey, Stored, Usage, Views,
};

use crate::{Occupant, PostgresDatabase, SqliteDatabase};

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

    /// [`PostgresDatabase::occupy`].
    ///
    /// # Errors
    /// As there.
    pub async fn occupy(
        url: &str,
        connections: u32,
        occupant: Occupant,
        token: [u8; 16],
    ) -> Result<Self, DatabaseError> {
        PostgresDatabase::occupy(url, connections, occupant, token)
            .await
            .map(Self::Postgres)
    }

    /// Returns, with the reason, when the database can do nothing more for this process.
    pub async fn lost(&self) -> String {
        match self {
            Self::Sqlite(database) => database.lost().await,
            Self::Postgres(database) => database.lost().await,
        }
    }

    /// A fault for tests: the writer dies.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub async fn lose_writer(&self) {
        if let Self::Sqlite(database) = self {
            database.lose_writer().await;
        }
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
    create_account(name: &AccountName, signing_key: &str, gives: Gives, now: u64) -> Account;
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
    change_account(account: AccountId, change: &AccountChange) -> ();
    settle_gives(defaults: &Effective) -> u64;
    set_key(account: AccountId, fingerprint: &str, name: &str, value: Option<&str>) -> ();
    trust(account: AccountId, other: AccountId, level: Option<Trust>) -> ();
    let_read(account: AccountId, other: AccountId, level: Option<Trust>) -> ();
    relations(account: AccountId) -> Vec<Relation>;
    keys_named(names: &[String]) -> (Vec<(KeyId, PublicKey)>, KeyId);
    register_key(by: KeyFor, key: &PublicKey) -> (KeyId, bool);
    open_signers(key_name: &str) -> Vec<AccountId>;
    open_signatures(key_name: &str, account: AccountId, after: i64, limit: u32) -> Vec<OpenSignature>;
    prove(key: KeyId, proven: &[(i64, ObjectId)]) -> ();
    settle_key(key: KeyId) -> ();
    logins(account: AccountId) -> BTreeMap<String, Login>;
    set_login(account: AccountId, host: &str, login: Option<&Login>) -> bool;
    signing_keys(account: AccountId) -> Vec<SigningKey>;
    add_signing_key(account: AccountId, key: &NewSigningKey, now: u64) -> SigningKey;
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
    tell(policy: &Policy, objects: &BTreeMap<StorePath, ObjectId>) -> BTreeSet<ObjectId>;
    realisations(policy: &Policy, ids: &[DrvOutput]) -> Vec<RealisationEvidence>;
    record_realisations(account: AccountId, claims: &[RealisationClaim]) -> ();
    tell_realisations(account: AccountId, told: &[RealisationEvidence]) -> ();
    forget(account: AccountId, paths: &[StorePath]) -> u64;
    contents() -> BTreeSet<NarHash>;
}

delegate! {
    Builds:
    result(key: &BuildKey, account: AccountId, takes: bool) -> Option<BuildRecord>;
    record_build(record: &BuildRecord, account: AccountId, shares: bool, takes: bool) -> BuildRecord;
    record_check(record: &BuildRecord, account: AccountId, shares: bool) -> ();
    forget_result(build: BuildId) -> ();
    failure(key: &BuildKey, account: AccountId, takes: bool) -> Option<FailureRecord>;
    record_failure(record: &FailureRecord, account: AccountId, shares: bool) -> ();
    add_marks(marks: &[Mark]) -> ();
    mark(key: &BuildKey, account: AccountId) -> Option<Mark>;
    mark_of(account: AccountId, drv_path: &StorePath) -> Option<Mark>;
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
    ground(build: BuildId, ground: &Ground, drv_path: &StorePath) -> ();
    grounded(objects: &BTreeSet<ObjectId>, ground: &Ground) -> BTreeSet<ObjectId>;
    grounded_outputs(paths: &[StorePath], ground: &Ground, account: AccountId, takes: bool) -> BTreeMap<StorePath, GroundedOutput>;
    grounded_from(made: &BTreeSet<(StorePath, StorePath)>, ground: &Ground, account: AccountId, takes: bool) -> BTreeSet<(StorePath, StorePath)>;
    inputs_of(builds: &BTreeSet<BuildId>) -> BTreeMap<BuildId, BTreeSet<ObjectId>>;
}
