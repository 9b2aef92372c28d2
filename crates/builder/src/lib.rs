//! One build on this machine: lay out its inputs, run it in a sandbox, collect, scan, check and ingest its outputs.
//!
//! What a builder sees and what becomes of its outputs is decided here, bit for bit as Nix does it: environment and files
//! ([`environment`]), the sandbox's furniture ([`layout`]), and after the run the rules for outputs: which may be there, what they may
//! refer to, and which hash a fixed one must have.
//!
//! It refuses to know about accounts, evidence, reuse, queues and databases: it is handed a derivation together with the content of every
//! input, and gives back contents.
//!
//! ```no_run
//! use firn_builder::{Config, LocalBuilder};
//! use firn_service::ports::{Builder as _, Job};
//!
//! # async fn example(config: Config, job: Job) -> Result<(), Box<dyn std::error::Error>> {
//! let builder = LocalBuilder::new(config)?;
//! builder.sweep()?;
//! let (log, mut lines) = tokio::sync::mpsc::channel(16);
//! let outcome = builder.run(job, log, tokio_util::sync::CancellationToken::new()).await;
//! println!("{:?}", outcome.result);
//! # Ok(())
//! # }
//! ```

mod attempt;
mod checks;
mod collect;
mod disk;
mod disk_image;
pub mod environment;
mod failure;
mod fixed;
mod fixed_outputs;
mod flat;
mod floating;
mod graph;
pub mod groups;
mod in_machine;
mod in_namespaces;
pub mod layout;
mod machine;
mod order;
mod outputs;
mod pace;
mod scarcity;
mod scratch;
mod slots;
mod tail;
mod uids;

use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use firn_content::ContentStore;
use firn_sandbox::HelperCommand;
use firn_service::ports::{Builder, Job, Outcome, RunFailure, RunReport};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use attempt::Attempt;
use disk_image::Images;
use groups::Groups;
use scarcity::Scarcity;
use slots::Slots;
use uids::Uids;

pub use fixed_outputs::FixedOutputs;
pub use in_machine::QEMU_MEMORY;
pub use machine::Machines;
pub use scarcity::{Mark, Marks, is_memory_strict};
pub use slots::DEFAULT_FIRST_UID;

/// What a [`LocalBuilder`] needs from its machine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory for running builds; made when absent. On a disk with room for the largest build.
    pub scratch_dir: PathBuf,
    /// Where inputs come from and outputs go.
    pub content: ContentStore,
    /// Executable whose `main` is [`firn_sandbox::sandbox_exec_main`].
    pub helper: HelperCommand,
    /// A statically linked shell that every build finds as `/bin/sh`.
    pub shell: Option<PathBuf>,
    /// First host user of builds, when this process is root's. No one else may use these. Without it, the first ones that are free.
    pub first_uid: Option<u32>,
    /// Number of host users: most builds at a time, when this process is root's.
    pub uids: u32,
    /// Whether each build in namespaces gets a file system of the size of its limit, instead of being watched. Needs root.
    pub disk_images: bool,
    /// Virtual machines, for jobs that must run in one.
    pub machines: Option<Machines>,
    /// What fixed-output builds have besides.
    pub fixed: FixedOutputs,
    /// Most builds at a time.
    pub at_once: u32,
    /// From which amount on this machine counts as short of something.
    pub marks: Marks,
    /// How long a build waits to begin while the machine is short of something.
    pub patience: Duration,
}

/// Runs builds in namespaces of this machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalBuilder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Config,
    /// None when this process is an ordinary user's: builds then run as that user.
    slots: Option<Slots>,
    /// The host users of the slots.
    uids: Option<Uids>,
    groups: Groups,
    images: Option<Images>,
    scarcity: Arc<Scarcity>,
    /// As many as each build may have without taking them from another one.
    processes: Option<u64>,
    /// Likewise.
    terminals: u32,
}

impl Shared {
    /// Where no group limits processes, their user does; a build can see that.
    fn ungrouped_processes(&self) -> Option<u64> {
        self.processes.filter(|_| !self.groups.limits_processes())
    }
}

impl LocalBuilder {
    /// Makes the scratch directory.
    ///
    /// # Errors
    /// When that cannot be made, or the host users are in use.
    pub fn new(config: Config) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.scratch_dir)?;
        let root = rustix::process::geteuid().is_root();
        let claim = || Uids::claim(Path::new(uids::PLACE), config.first_uid, config.uids);
        let uids = root.then(claim).transpose()?;
        let slots = uids
            .as_ref()
            .map(|uids| Slots::new(uids.range.start, config.uids));
        let groups = Groups::find(&config.scratch_dir.canonicalize()?);
        let processes = scarcity::allotted_processes(&config.scratch_dir, config.at_once);
        let terminals = scarcity::allotted_terminals(&config.scratch_dir, config.at_once);
        let scarcity = Arc::new(Scarcity::new(&config.scratch_dir, config.marks)?);
        let images = config
            .disk_images
            .then(|| Images::new(&config.scratch_dir, Arc::clone(&scarcity)));
        Ok(Self(Arc::new(Shared {
            config,
            slots,
            uids,
            groups,
            images,
            scarcity,
            processes,
            terminals,
        })))
    }

    /// The host users of its builds; `None` where all are this process's own.
    #[must_use]
    pub fn uids(&self) -> Option<Range<u32>> {
        self.0.uids.as_ref().map(|uids| uids.range.clone())
    }

    /// What of a build cannot be limited on this machine, in words.
    #[must_use]
    pub fn unlimited(&self) -> Vec<&'static str> {
        self.0.groups.lacking()
    }

    /// How many processes each build may have at most, so that no build takes them from another one; `None` where the machine has no limit.
    #[must_use]
    pub fn processes(&self) -> Option<u64> {
        self.0.processes
    }

    /// What a build in namespaces sees here that it does not see everywhere else: to be part of the name of what it sees.
    #[must_use]
    pub fn peculiarities(&self) -> Vec<String> {
        let mut all = firn_sandbox::leftovers();
        let processes = self.0.ungrouped_processes();
        all.extend(processes.map(|most| format!("processes={most}")));
        all
    }

    /// Ends and removes what builds of an earlier process left behind; for the start, before the first run. Gives their number.
    ///
    /// # Errors
    /// The first failure; what could be removed before it is gone.
    pub fn sweep(&self) -> io::Result<usize> {
        self.0.groups.sweep()?;
        scratch::sweep(&self.0.config.scratch_dir)
    }
}

impl Builder for LocalBuilder {
    async fn run(&self, job: Job, log: mpsc::Sender<Bytes>, cancel: CancellationToken) -> Outcome {
        // A task of its own, so that a dropped future still ends the build in order: processes, then directories, then its user.
        let cancel = cancel.child_token();
        let _stop = cancel.clone().drop_guard();
        let attempt = Attempt::new(Arc::clone(&self.0), job, cancel);
        tokio::spawn(attempt.run(log)).await.unwrap_or_else(|e| Outcome {
            result: Err(RunFailure::Infrastructure(format!(
                "the build's task ended early: {e}"
            ))),
            report: RunReport::default(),
        })
    }
}
