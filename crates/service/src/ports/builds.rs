//! Build results, and the requests that they answered.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use firn_core::schedule::Past;
use firn_core::{AccountId, BuildId, BuildKey, Object, ObjectId, Rung};
use firn_nix::rewrite::SelfReferences;
use firn_nix::{StorePath, Words};

use super::{DatabaseError, RunFailure};

/// One output of a successful build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRecord {
    /// Path, content, references and content address.
    pub object: Object,
}

/// A derivation as a sandbox sees it, whatever it is built from: what two builds must share to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DerivationDigest(pub [u8; 32]);

/// What a run was made of, and what it used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// The run.
    pub id: BuildId,
    /// What was asked.
    pub key: BuildKey,
    /// The derivation as the first requester named it.
    pub drv_path: StorePath,
    /// The derivation, without its inputs.
    pub drv: DerivationDigest,
    /// What it was built for, as `x86_64-linux`.
    pub system: String,
    /// The whole input closure.
    pub inputs: BTreeSet<ObjectId>,
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
    /// Most bytes of memory at a time; `None` where nobody counted.
    pub memory_peak: Option<u64>,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

/// A successful run: what came out for a build key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildRecord {
    /// The run.
    pub run: RunRecord,
    /// By output name.
    pub outputs: BTreeMap<String, OutputRecord>,
}

impl BuildRecord {
    /// The form of content addresses that a client must compute to take these outputs; `None` where any client takes them.
    #[must_use]
    pub fn form(&self) -> Option<SelfReferences> {
        let mut outputs = self.outputs.values();
        outputs.find_map(|output| output.object.self_references)
    }
}

/// A failed run that is remembered: its failure is the builder's own doing, or it ran into the operator's time limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRecord {
    /// The run.
    pub run: RunRecord,
    /// How: [`RunFailure::Builder`], [`RunFailure::OutputRejected`] or [`RunFailure::TimedOut`]; nothing else is ever kept.
    pub failure: RunFailure,
}

/// That an account took part in a shared run which has no outcome, and so may have seen one that it then had thrown away: later runs of
/// the build key that it leads are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Who.
    pub account: AccountId,
    /// Of what.
    pub key: BuildKey,
    /// The derivation as the account names it.
    pub drv_path: StorePath,
    /// What became of the run, as the end of a sentence: `was left by everybody before its end`.
    pub why: String,
    /// When.
    pub time: u64,
}

/// An account with so many marks counts as marked for every key: to forget the oldest would let it make the service forget.
pub const MAX_MARKS: usize = 1 << 13;

/// An earlier run, as far as an account may know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRun {
    /// The run.
    pub run: RunRecord,
    /// Whether it was run for that account itself.
    pub own: bool,
    /// What came out, by output name; empty when it failed.
    pub outputs: BTreeMap<String, (ObjectId, Object)>,
}

/// Why a request was answered as it was; many are read back at once.
pub type Reason = Words<2048>;

/// How one request of one account was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// Who asked.
    pub account: AccountId,
    /// For what.
    pub drv_path: StorePath,
    /// Which rung answered; `None` when the build was run and failed.
    pub rung: Option<Rung>,
    /// The reason in words, as the client was told.
    pub reason: Reason,
    /// The run behind the answer, when there is one.
    pub build: Option<BuildId>,
    /// When.
    pub time: u64,
    /// Milliseconds that the request took.
    pub wall_ms: u64,
}

/// What one rung answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RungUsage {
    /// Requests.
    pub requests: u64,
    /// Microseconds of processor time of the runs behind them: spent for [`Rung::Built`], saved for the others.
    pub cpu_us: u64,
    /// Milliseconds that those runs took: spent or saved likewise.
    pub wall_ms: u64,
    /// Bytes of the outputs (NARs) of those runs.
    pub output_bytes: u64,
}

/// How requests were answered, in sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// By rung; `None` are builds that failed and were run.
    pub rungs: BTreeMap<Option<Rung>, RungUsage>,
    /// Bytes that clients sent.
    pub uploaded_bytes: u64,
    /// Bytes that Firn fetched from caches, which clients did not have to send.
    pub substituted_bytes: u64,
    /// Paths that it has claims for now.
    pub paths: u64,
    /// Bytes of the NARs behind its claims now; a content that several paths have counts once.
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
    /// the account already, as one that `takes` or not, that stays its result, and is returned; the run is remembered all the same. With a
    /// new shared result all marks of its key are gone: there is nothing to choose any more.
    fn record_build(
        &self,
        record: &BuildRecord,
        account: AccountId,
        shares: bool,
        takes: bool,
    ) -> impl Future<Output = Result<BuildRecord, DatabaseError>> + Send;

    /// Remembers a successful run that is nobody's result: one that was made to compare.
    fn record_check(
        &self,
        record: &BuildRecord,
        account: AccountId,
        shares: bool,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Withdraws a build as an answer to its key, because a content of it is lost. The run, what came out of it and what is known of
    /// whether its key is reproducible stay: bytes that are lost were there.
    fn forget_result(&self, build: BuildId) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// The failure of a key for an account: its own latest, else, when it `takes`, the latest that somebody shares.
    fn failure(
        &self,
        key: &BuildKey,
        account: AccountId,
        takes: bool,
    ) -> impl Future<Output = Result<Option<FailureRecord>, DatabaseError>> + Send;

    /// Records a failed run for an account. It takes the place of an earlier failure of that account and key.
    fn record_failure(
        &self,
        record: &FailureRecord,
        account: AccountId,
        shares: bool,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Marks accounts, but for those that are gone. Who is marked for a key already stays so.
    fn add_marks(&self, marks: &[Mark]) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Why an account is marked for a key; one with [`MAX_MARKS`] is for every key, by any of its marks.
    fn mark(
        &self,
        key: &BuildKey,
        account: AccountId,
    ) -> impl Future<Output = Result<Option<Mark>, DatabaseError>> + Send;

    /// An account's latest mark of a derivation.
    fn mark_of(
        &self,
        account: AccountId,
        drv_path: &StorePath,
    ) -> impl Future<Output = Result<Option<Mark>, DatabaseError>> + Send;

    /// The latest runs of a derivation that an account may know of: its own, and, when it `takes`, those that somebody shares (by
    /// the rule of [`Builds::result`]); newest first.
    fn runs_of(
        &self,
        drv: &DerivationDigest,
        account: AccountId,
        takes: bool,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<PastRun>, DatabaseError>> + Send;

    /// What the latest successful runs of packages took, by [`firn_nix::package_name`] of their derivations and for one system: of each up
    /// to `limit` of the account's own, and, when it `takes`, up to `limit` of those that somebody shares. For no other use than the order
    /// in which builds are run: an account is not shown what others' runs took.
    fn history(
        &self,
        packages: &BTreeSet<String>,
        system: &str,
        account: AccountId,
        takes: bool,
        limit: u32,
    ) -> impl Future<Output = Result<BTreeMap<String, Vec<Past>>, DatabaseError>> + Send;

    /// The runs, among those that the account may know of, that these objects came out of.
    fn producers(
        &self,
        objects: &BTreeSet<ObjectId>,
        account: AccountId,
        takes: bool,
    ) -> impl Future<Output = Result<Vec<PastRun>, DatabaseError>> + Send;

    /// A run that answered a request of the account (by [`RequestRecord::build`]), whoever it was run for.
    fn run_of_request(
        &self,
        build: BuildId,
        account: AccountId,
    ) -> impl Future<Output = Result<Option<PastRun>, DatabaseError>> + Send;

    /// Objects by number.
    fn objects(
        &self,
        ids: &BTreeSet<ObjectId>,
    ) -> impl Future<Output = Result<BTreeMap<ObjectId, Object>, DatabaseError>> + Send;

    /// All runs, among those that the account may know of, of build keys that it asked for itself and whose outputs differ between
    /// runs; the latest keys first, at most `limit` keys.
    fn irreproducible(
        &self,
        account: AccountId,
        takes: bool,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<PastRun>, DatabaseError>> + Send;

    /// Notes how a request was answered. Need not be durable at once.
    fn record_request(
        &self,
        request: &RequestRecord,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// The account's latest request for a derivation that a run answered.
    fn latest_request(
        &self,
        account: AccountId,
        drv_path: &StorePath,
    ) -> impl Future<Output = Result<Option<RequestRecord>, DatabaseError>> + Send;

    /// An account's latest requests, newest first.
    fn requests(
        &self,
        account: AccountId,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<RequestRecord>, DatabaseError>> + Send;

    /// What an account used and was spared, in requests from `since` to before `until` (seconds since 1970); `None`: all accounts.
    fn usage(
        &self,
        account: Option<AccountId>,
        since: u64,
        until: u64,
    ) -> impl Future<Output = Result<Usage, DatabaseError>> + Send;
}
