//! Running one build. The engine behind it may be this machine's sandbox or a remote one; what it reports becomes true only when the
//! service records it.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use firn_core::{BuildId, EnvironmentClass, InputMapping, Isolation, Object};
use firn_nix::rewrite::SelfReferences;
use firn_nix::{BasicDerivation, StorePath, Words};
use firn_protocol::MAX_WORDS;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// One build to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// This run.
    pub id: BuildId,
    /// Named in errors only: a sandbox cannot see it.
    pub drv_path: StorePath,
    /// What to run.
    pub drv: BasicDerivation,
    /// The form of the hashes from which the paths of floating outputs follow.
    pub self_references: SelfReferences,
    /// Exactly what the sandbox holds.
    pub inputs: InputMapping,
    /// What it must run in; never anything else.
    pub isolation: Isolation,
    /// What the sandbox looks like.
    pub class: EnvironmentClass,
    /// The operator's limits; never a requester's.
    pub limits: JobLimits,
}

/// The operator's limits on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobLimits {
    /// In all.
    pub wall: Duration,
    /// Without output.
    pub silent: Duration,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Bytes of log a second in the long run: who writes faster is slowed. `None` is no limit.
    pub log_rate: Option<u64>,
    /// Bytes of all outputs' NARs together.
    pub output_bytes: u64,
    /// Bytes of memory. `None` is no limit.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at a time. `None` is no limit.
    pub processes: Option<u64>,
    /// Bytes on disk of everything that the build has written, outputs included.
    pub disk_bytes: u64,
    /// Files, directories and links that the build has made.
    pub disk_entries: u64,
}

impl Default for JobLimits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(24 * 3600),
            silent: Duration::from_secs(4 * 3600),
            log_bytes: 256 << 20,
            log_rate: Some(16 << 20),
            output_bytes: 64 << 30,
            memory_bytes: None,
            processes: None,
            disk_bytes: 128 << 30,
            disk_entries: 20_000_000,
        }
    }
}

/// An output whose content is in the content store (published, not yet synced or recorded).
pub type BuiltFile = Object;

/// What the builds of one machine have in common, so that some can use it up for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scarce {
    /// Bytes of the file system that builds write to.
    DiskSpace,
    /// Files of it.
    DiskEntries,
    /// Memory.
    Memory,
    /// Process numbers.
    Processes,
    /// Open files of the whole machine.
    OpenFiles,
    /// Terminals of the whole machine.
    Terminals,
    /// Memory of the kernel's sockets.
    Sockets,
}

impl Scarce {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::DiskSpace,
        Self::DiskEntries,
        Self::Memory,
        Self::Processes,
        Self::OpenFiles,
        Self::Terminals,
        Self::Sockets,
    ];
}

impl std::fmt::Display for Scarce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::DiskSpace => "disk space",
            Self::DiskEntries => "files on disk",
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::OpenFiles => "open files",
            Self::Terminals => "terminals",
            Self::Sockets => "memory for sockets",
        })
    }
}

/// What a run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunReport {
    /// Milliseconds from start to end.
    pub wall_ms: u64,
    /// Microseconds.
    pub cpu_user_us: u64,
    /// Microseconds.
    pub cpu_system_us: u64,
    /// Most bytes of memory at a time; `None` where nobody counts.
    pub memory_peak: Option<u64>,
    /// Bytes on disk at the end, or at the time when there were seen to be most. 0 where nobody counts.
    pub disk_bytes: u64,
    /// Whether processes of the build were killed because memory was short, its own or the machine's, or may have been. Not where a build
    /// sees the memory that it has: more of it would be another build.
    pub short_of_memory: bool,
    /// What the machine was short of at any moment of the run, or may have been. How such a run ended, successes included, is no
    /// outcome: whoever brought the shortage about would have chosen it.
    pub shortage: Option<Scarce>,
    /// Whether another build ran on the machine at the same time, for which this one may have had to wait.
    pub beside: bool,
}

/// Why a run gave no outputs. Texts are for the client and name the derivation, output or path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunFailure {
    /// The builder ended with a non-zero status or by a signal.
    #[error("{0}")]
    Builder(String),
    /// Missing outputs, a broken output check, a hash mismatch, a forbidden reference.
    #[error("{0}")]
    OutputRejected(String),
    /// The derivation asks for what cannot be done (attributes that do not parse, a graph of a path that is no input, …).
    #[error("{0}")]
    InputRejected(String),
    /// Too long, or silent for too long.
    #[error("{0}")]
    TimedOut(String),
    /// Too much log.
    #[error("{0}")]
    LogLimit(String),
    /// The build went over what one build may use of a machine: memory, processes, disk. It may do better elsewhere.
    #[error("{0}")]
    Exhausted(String),
    /// Nobody waits any more.
    #[error("cancelled")]
    Cancelled,
    /// The machine: no disk, no namespaces, a lost helper. Never the builder's doing.
    #[error("{0}")]
    Infrastructure(String),
}

impl RunFailure {
    /// With words that can be kept and told, whatever the build put into them.
    #[must_use]
    pub fn bounded(self) -> Self {
        let cut = |words| Words::<MAX_WORDS>::new(words).into_string();
        match self {
            Self::Builder(words) => Self::Builder(cut(words)),
            Self::OutputRejected(words) => Self::OutputRejected(cut(words)),
            Self::InputRejected(words) => Self::InputRejected(cut(words)),
            Self::TimedOut(words) => Self::TimedOut(cut(words)),
            Self::LogLimit(words) => Self::LogLimit(cut(words)),
            Self::Exhausted(words) => Self::Exhausted(cut(words)),
            Self::Cancelled => Self::Cancelled,
            Self::Infrastructure(words) => Self::Infrastructure(cut(words)),
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By output name, or why not.
    pub result: Result<BTreeMap<String, BuiltFile>, RunFailure>,
    /// What it used.
    pub report: RunReport,
}

/// Something that runs builds.
pub trait Builder: Send + Sync + 'static {
    /// Runs a job. Log bytes go to `log` in order, as the builder wrote them; a slow reader slows the build. When `cancel` fires, or the
    /// future is dropped, every process of the build is gone before this returns, or soon after.
    fn run(
        &self,
        job: Job,
        log: mpsc::Sender<Bytes>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Outcome> + Send;
}
