//! What a client may ask of one account's store: the port that sessions drive.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use firn_nix::realisation::{DrvOutput, Realisation};
use firn_nix::{BasicDerivation, CaMethod, HashAlgo, PathInfo, StorePath, Words};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

use crate::{Addressing, BuildMode, BuildResult, DerivedPath};

/// Bytes of the longest error that a client is shown: ten log lines of a failed build have room.
pub const MAX_WORDS: usize = 64 << 10;

/// A byte stream with an end.
pub type ByteStream = Box<dyn AsyncRead + Send + Unpin>;

/// A refusal or failure, as the text that the client is shown. Names the path or thing, and the next step where there is one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct StoreError {
    /// For a person; at most [`MAX_WORDS`] bytes.
    pub message: String,
}

impl StoreError {
    /// An error with that text.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: Words::<MAX_WORDS>::new(message).into_string(),
        }
    }
}

/// What happens while a request runs, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// A line for the person at the terminal, outside any build.
    Message(String),
    /// A build (or the replay of one) begins; `id` is unique within the request.
    BuildStarted {
        /// Number of the build within the request.
        id: u64,
        /// What is built.
        drv_path: StorePath,
        /// What is done for it.
        doing: Doing,
    },
    /// A build waits before it can be run; what it waits for may be told again.
    Waiting {
        /// Number of the build.
        id: u64,
        /// For what, in words.
        text: String,
    },
    /// A build waits no more.
    WaitingEnded {
        /// Number of the build.
        id: u64,
    },
    /// One line of a build's log, without its newline.
    BuildLine {
        /// Number of the build.
        id: u64,
        /// Bytes as the builder wrote them.
        line: Vec<u8>,
    },
    /// A build entered a phase (`@nix { "action": "setPhase" }`).
    BuildPhase {
        /// Number of the build.
        id: u64,
        /// Its name.
        phase: String,
    },
    /// How far a request for several builds is.
    Progress {
        /// Builds and fetches that ended well.
        done: u64,
        /// Of how many, as far as is known.
        expected: u64,
        /// Under way.
        running: u64,
        /// That failed.
        failed: u64,
    },
    /// A build ended.
    BuildStopped {
        /// Number of the build.
        id: u64,
    },
}

/// What a request for a build comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It is run, or a run of it is joined.
    Building,
    /// A cache has its outputs.
    Fetching,
    /// Its outputs are valid.
    Having,
    /// An earlier run answers.
    Reusing,
    /// An earlier run answers, which failed.
    Replaying,
}

impl Doing {
    /// The activity in words.
    #[must_use]
    pub fn shown(self, drv_path: &StorePath) -> String {
        match self {
            Self::Building => format!("building '{drv_path}'"),
            Self::Fetching => format!("fetching the outputs of '{drv_path}'"),
            Self::Having => format!("checking the outputs of '{drv_path}', which are valid"),
            Self::Reusing => format!("reusing a build of '{drv_path}'"),
            Self::Replaying => format!("replaying the failed build of '{drv_path}'"),
        }
    }
}

/// Where a request's events go. Bounded: a client that does not read slows its own request down. Closed when the client is gone.
pub type LogSink = mpsc::Sender<LogEvent>;

/// What a client allows a build; zero or `None` is no limit of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// Seconds without output.
    pub max_silent_time: Option<u64>,
    /// Seconds in all.
    pub timeout: Option<u64>,
    /// Bytes of log.
    pub max_log_size: Option<u64>,
}

/// What a client sets for its session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// For its builds.
    pub builds: BuildOptions,
    /// Seconds for which it may be remembered that a binary cache has no such path (`narinfo-cache-negative-ttl`).
    pub negative_ttl: Option<u64>,
}

/// What a plan for some derived paths needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Derivations to run.
    pub will_build: BTreeSet<StorePath>,
    /// Paths to fetch.
    pub will_substitute: BTreeSet<StorePath>,
    /// Paths that nobody knows.
    pub unknown: BTreeSet<StorePath>,
    /// Bytes to download, compressed.
    pub download_size: u64,
    /// Bytes to unpack.
    pub nar_size: u64,
}

/// One account's store, as its clients see it.
///
/// "Not there" and "not yours" are the same answer: a path outside the account's view does not exist.
pub trait Store: Send + Sync + 'static {
    /// An upload in progress.
    type Upload: Upload;

    /// The client has said, or shown, which content addresses it computes. Where that may differ, it is to be built and told what fits.
    fn meet(&self, addressing: Addressing) {
        let _ = addressing;
    }

    /// Those of `paths` that are valid. With `substitute`, missing ones are fetched from the account's caches first.
    fn query_valid_paths(
        &self,
        paths: BTreeSet<StorePath>,
        substitute: bool,
    ) -> impl Future<Output = Result<BTreeSet<StorePath>, StoreError>> + Send;

    /// Information on the valid ones of `paths`, in the same order.
    fn query_path_infos(
        &self,
        paths: Vec<StorePath>,
    ) -> impl Future<Output = Result<Vec<PathInfo>, StoreError>> + Send;

    /// The valid path with that 32-digit hash part.
    fn query_path_from_hash_part(
        &self,
        hash_part: String,
    ) -> impl Future<Output = Result<Option<StorePath>, StoreError>> + Send;

    /// Every valid path.
    fn query_all_valid_paths(&self) -> impl Future<Output = Result<BTreeSet<StorePath>, StoreError>> + Send;

    /// Valid paths that refer to `path`.
    fn query_referrers(
        &self,
        path: StorePath,
    ) -> impl Future<Output = Result<BTreeSet<StorePath>, StoreError>> + Send;

    /// Valid derivations known to have `path` as an output.
    fn query_valid_derivers(
        &self,
        path: StorePath,
    ) -> impl Future<Output = Result<BTreeSet<StorePath>, StoreError>> + Send;

    /// The closure of the valid ones of `paths` under references; with `include_outputs` also of the outputs of derivations in it.
    fn query_closure(
        &self,
        paths: BTreeSet<StorePath>,
        include_outputs: bool,
    ) -> impl Future<Output = Result<BTreeSet<StorePath>, StoreError>> + Send;

    /// Output names of a derivation with their paths, as far as these are known.
    fn query_derivation_outputs(
        &self,
        drv_path: StorePath,
    ) -> impl Future<Output = Result<BTreeMap<String, Option<StorePath>>, StoreError>> + Send;

    /// What building `targets` would need.
    fn query_missing(
        &self,
        targets: Vec<DerivedPath>,
    ) -> impl Future<Output = Result<Missing, StoreError>> + Send;

    /// The NAR of a valid path, exactly `nar_size` bytes; an error when it is not valid.
    fn nar_from_path(&self, path: StorePath) -> impl Future<Output = Result<ByteStream, StoreError>> + Send;

    /// Starts an upload; nothing of it is valid before [`Upload::commit`] or [`Upload::checkpoint`] returns.
    fn begin_upload(&self) -> impl Future<Output = Result<Self::Upload, StoreError>> + Send;

    /// Adds bytes whose path follows from them: flat bytes for `Text` and `Flat`, a NAR for `Nar` and `Git`. Reads `body` to its end.
    fn add_to_store(
        &self,
        name: String,
        method: CaMethod,
        algo: HashAlgo,
        references: BTreeSet<StorePath>,
        body: &mut (dyn AsyncRead + Send + Unpin),
    ) -> impl Future<Output = Result<PathInfo, StoreError>> + Send;

    /// Attaches signatures to a valid path.
    fn add_signatures(
        &self,
        path: StorePath,
        signatures: BTreeSet<String>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The path that an output got, as far as the account may believe it; only of paths that are valid.
    fn query_realisation(
        &self,
        id: DrvOutput,
    ) -> impl Future<Output = Result<Option<Realisation>, StoreError>> + Send;

    /// Notes which path an output got. The path must be valid.
    fn register_realisation(
        &self,
        realisation: Realisation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes sure that a path is valid, fetching it if need be.
    fn ensure_path(&self, path: StorePath) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Builds one derivation whose inputs are valid. A failed build is an `Ok` with a failure status; `Err` is a request that could not be
    /// taken. Dropping the future withdraws the interest in the build.
    fn build_derivation(
        &self,
        drv_path: StorePath,
        drv: BasicDerivation,
        mode: BuildMode,
        options: BuildOptions,
        log: LogSink,
    ) -> impl Future<Output = Result<BuildResult, StoreError>> + Send;

    /// Makes `targets` valid, building what is missing; one result per target, in order.
    fn build_paths(
        &self,
        targets: Vec<DerivedPath>,
        mode: BuildMode,
        options: BuildOptions,
        log: LogSink,
    ) -> impl Future<Output = Result<Vec<BuildResult>, StoreError>> + Send;

    /// The client's wish, for the rest of the session: that a binary cache has no such path is remembered for `longest` at most.
    fn remember_misses(&self, longest: Duration) {
        let _ = longest;
    }

    /// Keeps a build log that a client brings. Reads `body` to its end.
    fn add_build_log(
        &self,
        drv_path: StorePath,
        body: &mut (dyn AsyncRead + Send + Unpin),
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A batch of paths on their way in. Dropped without [`Upload::commit`], it leaves nothing but what a checkpoint made valid.
pub trait Upload: Send {
    /// Takes one path. Reads exactly `info.nar_size` bytes from `nar` on success; on an error the session drains the rest.
    /// References must be valid already or come earlier in the same upload (or be the path itself).
    fn add(
        &mut self,
        info: PathInfo,
        nar: &mut (dyn AsyncRead + Send + Unpin),
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes one path whose size is not known beforehand: reads one NAR and not a byte more. Hash and size are what came.
    fn add_unsized(
        &mut self,
        path: StorePath,
        references: BTreeSet<StorePath>,
        deriver: Option<StorePath>,
        nar: &mut (dyn AsyncRead + Send + Unpin),
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes everything added so far valid, durably, if it is closed: what has come whole need not come again when the upload breaks
    /// off. Otherwise it waits for the rest. Whether nothing waits.
    fn checkpoint(&mut self) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Makes everything added valid, durably, at once.
    fn commit(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}
