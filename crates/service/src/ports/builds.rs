//! Build results, and the requests that they answered.

use std::collections::BTreeMap;
use std::future::Future;

use firn_core::{AccountId, BuildId, BuildKey, Object, Rung};
use firn_nix::StorePath;

use super::DatabaseError;

/// One output of a successful build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRecord {
    /// Path, content, references and content address.
    pub object: Object,
}

/// A successful run: what came out for a build key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildRecord {
    /// The run.
    pub id: BuildId,
    /// What was asked.
    pub key: BuildKey,
    /// The derivation as the first requester named it.
    pub drv_path: StorePath,
    /// By output name.
    pub outputs: BTreeMap<String, OutputRecord>,
    /// Seconds since 1970.
    pub started: u64,
    /// Seconds since 1970.
    pub stopped: u64,
    /// Milliseconds from start to end.
    pub wall_ms: u64,
    /// Microseconds of processor time in user mode.
    pub cpu_user_us: u64,
    /// Microseconds of processor time in the kernel.
    pub cpu_system_us: u64,
}

/// How one request of one account was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// Who asked.
    pub account: AccountId,
    /// For what.
    pub drv_path: StorePath,
    /// Which rung answered; `None` when the build failed.
    pub rung: Option<Rung>,
    /// The reason in words, as the client was told.
    pub reason: String,
    /// The run behind the answer, when there is one.
    pub build: Option<BuildId>,
    /// When.
    pub time: u64,
    /// Milliseconds that the request took.
    pub wall_ms: u64,
}

/// How an account's requests were answered, in sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests by rung; `None` is a build that failed.
    pub requests: BTreeMap<Option<Rung>, u64>,
    /// Processor time of the builds that were run for it, in microseconds.
    pub cpu_us: u64,
    /// Processor time of the builds whose results it was given without running them, in microseconds.
    pub saved_cpu_us: u64,
    /// Paths that it has claims for.
    pub paths: u64,
    /// Bytes of the NARs behind those claims; a content that several paths have counts once.
    pub bytes: u64,
}

/// Build results of all accounts, by build key.
pub trait Builds: Send + Sync + 'static {
    /// The result of a key for an account: its own, else, when it `takes`, the first that somebody shares.
    fn result(
        &self,
        key: &BuildKey,
        account: AccountId,
        takes: bool,
    ) -> impl Future<Output = Result<Option<BuildRecord>, DatabaseError>> + Send;

    /// Records a successful run for an account, which `shares` the result with everybody or keeps it. When [`Builds::result`] would answer
    /// the account already, that stays its result, and is returned.
    fn record_build(
        &self,
        record: &BuildRecord,
        account: AccountId,
        shares: bool,
    ) -> impl Future<Output = Result<BuildRecord, DatabaseError>> + Send;

    /// Withdraws a build as a result, because a content of it is lost.
    fn forget_result(&self, build: BuildId) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Notes how a request was answered. Need not be durable at once.
    fn record_request(
        &self,
        request: &RequestRecord,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// An account's latest requests, newest first.
    fn requests(
        &self,
        account: AccountId,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<RequestRecord>, DatabaseError>> + Send;

    /// What an account used and was spared.
    fn usage(&self, account: AccountId) -> impl Future<Output = Result<Usage, DatabaseError>> + Send;
}
