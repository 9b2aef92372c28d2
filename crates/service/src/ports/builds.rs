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

/// Build results of all accounts, by build key.
pub trait Builds: Send + Sync + 'static {
    /// The result that is shared for a key: the first that was recorded.
    fn result(
        &self,
        key: &BuildKey,
    ) -> impl Future<Output = Result<Option<BuildRecord>, DatabaseError>> + Send;

    /// Records a successful run. When the key has a result already that one stays the shared one, and it is returned.
    fn record_build(
        &self,
        record: &BuildRecord,
    ) -> impl Future<Output = Result<BuildRecord, DatabaseError>> + Send;

    /// Withdraws the shared result of a key, because a content of it is lost.
    fn forget_result(&self, key: &BuildKey) -> impl Future<Output = Result<(), DatabaseError>> + Send;

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
}
