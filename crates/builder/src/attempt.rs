//! One run from start to end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use firn_content::Staged;
use firn_core::{Isolation, Object};
use firn_nix::StorePath;
use firn_nix::derivation::{DerivationOptions, MAX_ATERM};
use firn_sandbox::{Network, SandboxError, SandboxSpec};
use firn_service::ports::{BuiltFile, Job, Outcome, RunFailure, RunReport};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Shared;
use crate::collect::{Collection, not_stored};
use crate::disk::{self, Amount};
use crate::environment::{Environment, Request, is_fixed};
use crate::failure;
use crate::groups::{Group, GroupLimits};
use crate::layout::{Surroundings, sandbox_spec};
use crate::outputs::output_paths;
use crate::scratch::Scratch;
use crate::slots::Slot;
use crate::tail::LogTail;

/// Chunks of log between sandbox and client; few, because a slow client is meant to slow the build.
const LOG_CHUNKS: usize = 4;

/// A job on this machine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) shared: Arc<Shared>,
    pub(crate) job: Arc<Job>,
    pub(crate) cancel: CancellationToken,
}

/// What is known before the run.
pub(crate) struct Prepared {
    pub(crate) outputs: BTreeMap<String, StorePath>,
    options: DerivationOptions,
    pub(crate) environment: Environment,
}

/// What is seen of a running build's files.
#[derive(Default)]
struct Watch {
    peak: AtomicU64,
    /// It was stopped because it had as much as it may.
    full: OnceLock<()>,
}

pub(crate) type Built = BTreeMap<String, BuiltFile>;

impl Attempt {
    pub(crate) fn new(shared: Arc<Shared>, job: Job, cancel: CancellationToken) -> Self {
        Self {
            shared,
            job: Arc::new(job),
            cancel,
        }
    }

    pub(crate) async fn run(self, log: mpsc::Sender<Bytes>) -> Outcome {
        let start = Instant::now();
        let mut report = RunReport::default();
        let result = self.build(log, &mut report).await;
        report.wall_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Outcome { result, report }
    }

    async fn build(&self, log: mpsc::Sender<Bytes>, report: &mut RunReport) -> Result<Built, RunFailure> {
        let prepared = Arc::new(self.blocking(Self::prepare).await?);
        match self.job.isolation {
            Isolation::Namespaces => self.build_in_namespaces(prepared, log, report).await,
            Isolation::Vm => self.build_in_machine(prepared, log, report).await,
        }
    }

    async fn build_in_namespaces(
        &self,
        prepared: Arc<Prepared>,
        log: mpsc::Sender<Bytes>,
        report: &mut RunReport,
    ) -> Result<Built, RunFailure> {
        let mut slot = self.slot()?;
        let host_ids = slot.as_ref().map(|slot| (slot.uid(), slot.uid()));
        let environment = Arc::clone(&prepared);
        let scratch = self
            .blocking(move |it| it.create(&environment.environment, host_ids))
            .await?;
        let (group, scratch) = match self.blocking(Self::group).await {
            Ok(group) => (group, scratch),
            Err(failure) => return self.end(scratch, Err(failure)).await,
        };
        let mut spec = self.spec(&scratch, &prepared.environment, host_ids);
        spec.cgroups = group.dirs();
        let killed_before = failure::killed_for_memory();
        let disk = Watch::default();
        let (exit, tail) = self.sandbox(&spec, log, scratch.dir(), &disk).await;
        let (used, ended) = self.blocking(move |_| Ok((group.usage(), group.end()))).await?;
        let exit = match exit {
            Ok(exit) => exit,
            Err(error) => {
                let failure = Err(failure::of_sandbox(&self.job.drv_path, &error));
                if matches!(error, SandboxError::Unkillable { .. }) {
                    // Its user and directories may still be in use; the next start sweeps.
                    slot.iter_mut().for_each(Slot::spoil);
                    return failure;
                }
                return self.end(scratch, failure).await;
            }
        };
        if let Err(error) = ended {
            slot.iter_mut().for_each(Slot::spoil);
            return Err(RunFailure::Infrastructure(format!(
                "ending '{}': {error}",
                self.job.drv_path
            )));
        }
        report.cpu_user_us = micros(used.cpu_user.unwrap_or(exit.user));
        report.cpu_system_us = micros(used.cpu_system.unwrap_or(exit.system));
        report.memory_peak = used.memory_peak;
        report.disk_bytes = self.on_disk(&scratch, &disk).await;
        let failure = failure::of_exit(&self.job.drv_path, exit.status, &self.job.limits, tail);
        let exhausted = failure::exhausted(&self.job, &used, disk.full.get().is_some());
        let result = match failure {
            // Also when the builder made do without what was killed.
            _ if used.killed_for_memory > 0 || disk.full.get().is_some() => {
                Err(RunFailure::Exhausted(exhausted.unwrap_or_default()))
            }
            Some(RunFailure::Builder(text)) if let Some(why) = exhausted => {
                Err(RunFailure::Exhausted(format!("{text}\nnote: {why}")))
            }
            None => {
                let collection = Arc::clone(&prepared);
                let store = scratch.dirs.store.clone();
                let collected = self.blocking(move |it| {
                    let owner = host_ids.map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid);
                    it.collection(&collection, &store, owner).collect()
                });
                self.publish(collected.await).await
            }
            Some(failure @ RunFailure::Builder(_)) => Err(self.unless_starved(failure, killed_before)),
            Some(failure) => Err(failure),
        };
        self.end(scratch, result).await
    }

    /// What is refused is refused here, before anything is made.
    fn prepare(&self) -> Result<Prepared, RunFailure> {
        let Job {
            drv_path,
            drv,
            inputs,
            class,
            ..
        } = &*self.job;
        let options = DerivationOptions::of(drv)
            .map_err(|e| RunFailure::InputRejected(format!("derivation '{drv_path}': {e}")))?;
        let outputs = output_paths(drv_path, drv, &options, inputs)?;
        let request = Request {
            drv_path,
            drv,
            options: &options,
            outputs: &outputs,
            inputs,
            class,
        };
        let read = |object: &Object| self.read_derivation(drv_path, object);
        let environment = Environment::new(&request, &read)?;
        Ok(Prepared {
            outputs,
            options,
            environment,
        })
    }

    /// Reads an input that is called a derivation. A client may have uploaded anything under that name: a symbolic link would lead
    /// to files of this machine.
    fn read_derivation(&self, drv_path: &StorePath, object: &Object) -> Result<Vec<u8>, RunFailure> {
        let tree = self.shared.config.content.tree(&object.content);
        let failed =
            |e| RunFailure::Infrastructure(format!("reading input '{}' of '{drv_path}': {e}", object.path));
        let meta = std::fs::symlink_metadata(&tree).map_err(failed)?;
        if !meta.is_file() || meta.len() > MAX_ATERM as u64 {
            return Err(RunFailure::InputRejected(format!(
                "cannot build '{drv_path}': input '{}' is not a file of at most {MAX_ATERM} bytes, as derivations are",
                object.path
            )));
        }
        std::fs::read(tree).map_err(failed)
    }

    pub(crate) fn slot(&self) -> Result<Option<Slot>, RunFailure> {
        let Some(slots) = &self.shared.slots else {
            return Ok(None);
        };
        match slots.take() {
            None => Err(RunFailure::Infrastructure(
                "every user for builds on this machine is in use".to_owned(),
            )),
            slot => Ok(slot),
        }
    }

    fn create(&self, environment: &Environment, owner: Option<(u32, u32)>) -> Result<Scratch, RunFailure> {
        let parent = &self.shared.config.scratch_dir;
        Scratch::create(parent, self.job.id, environment, owner).map_err(|e| {
            RunFailure::Infrastructure(format!(
                "making the directories of a build in {}: {e}",
                parent.display()
            ))
        })
    }

    fn spec(
        &self,
        scratch: &Scratch,
        environment: &Environment,
        host_ids: Option<(u32, u32)>,
    ) -> SandboxSpec {
        let config = &self.shared.config;
        let trees = config.content.trees();
        let around = Surroundings {
            shell: config.shell.as_deref(),
            contents: Some(&trees),
            i686: self.job.drv.platform == b"i686-linux",
            network: if is_fixed(&self.job.drv) {
                config.fixed_network
            } else {
                Network::Loopback
            },
            host_ids,
            limits: self.job.limits,
        };
        sandbox_spec(
            &scratch.dirs,
            environment,
            &self.job.inputs,
            |hash| config.content.tree(hash),
            &around,
        )
    }

    fn group(&self) -> Result<Group, RunFailure> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = self.job.class.cores;
        let limits = GroupLimits {
            memory: self.job.limits.memory_bytes,
            processes: self.job.limits.processes,
            processors: usize::try_from(cores)
                .is_ok_and(|n| n < processors)
                .then_some(cores),
        };
        self.limited(&limits)
    }

    pub(crate) fn limited(&self, limits: &GroupLimits) -> Result<Group, RunFailure> {
        self.shared
            .groups
            .create(self.job.id, limits)
            .map_err(|e| RunFailure::Infrastructure(format!("limiting a build: {e}")))
    }

    fn disk_limit(&self) -> Amount {
        Amount {
            bytes: self.job.limits.disk_bytes,
            entries: self.job.limits.disk_entries,
        }
    }

    /// What it has on disk now, or had.
    async fn on_disk(&self, scratch: &Scratch, watch: &Watch) -> u64 {
        let (dir, limit) = (scratch.dir().to_owned(), self.disk_limit());
        let now = self.blocking(move |_| Ok(disk::count_all(&dir, limit))).await;
        let now = now.ok().and_then(Result::ok).unwrap_or_default();
        now.bytes.max(watch.peak.load(Ordering::Relaxed))
    }

    /// Runs it, and keeps the end of its log.
    async fn sandbox(
        &self,
        spec: &SandboxSpec,
        log: mpsc::Sender<Bytes>,
        dir: &Path,
        watch: &Watch,
    ) -> (Result<firn_sandbox::Exit, SandboxError>, LogTail) {
        let (sender, forward) = self.pass_on(log);
        let filled = disk::filled(dir.to_owned(), self.disk_limit(), &watch.peak);
        let stop = async {
            tokio::select! {
                () = self.cancel.cancelled() => {}
                () = filled => { let _ = watch.full.set(()); }
            }
        };
        let run = firn_sandbox::run(&self.shared.config.helper, spec, sender, stop);
        tokio::join!(run, forward)
    }

    /// Passes a log on, and keeps the end of it.
    pub(crate) fn pass_on(
        &self,
        log: mpsc::Sender<Bytes>,
    ) -> (mpsc::Sender<Bytes>, impl Future<Output = LogTail> + Send + '_) {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(LOG_CHUNKS);
        let forward = async move {
            let mut tail = LogTail::default();
            while let Some(chunk) = receiver.recv().await {
                tail.push(&chunk);
                // Nobody has to listen, and who stopped the build need not read on.
                tokio::select! {
                    _ = log.send(chunk) => {}
                    () = self.cancel.cancelled() => {}
                }
            }
            tail
        };
        (sender, forward)
    }

    pub(crate) fn collection<'a>(
        &'a self,
        prepared: &'a Prepared,
        store: &'a std::path::Path,
        owner: u32,
    ) -> Collection<'a> {
        Collection {
            job: &self.job,
            outputs: &prepared.outputs,
            options: &prepared.options,
            content: &self.shared.config.content,
            store,
            owner,
            cancel: &self.cancel,
        }
    }

    pub(crate) async fn publish(
        &self,
        collected: Result<(Built, Vec<Staged>), RunFailure>,
    ) -> Result<Built, RunFailure> {
        let (objects, trees) = collected?;
        let published = self.shared.config.content.publish(trees).await;
        published
            .map_err(|e| not_stored(&self.job.drv_path, &e))
            .map(|()| objects)
    }

    /// A builder that fails on a full disk, or while the kernel killed processes for lack of memory, is not to blame.
    fn unless_starved(&self, failure: RunFailure, killed_before: Option<u64>) -> RunFailure {
        if failure::killed_for_memory() != killed_before {
            return RunFailure::Infrastructure(format!(
                "{failure}\nnote: the failure may come from lack of memory: the kernel killed processes on this machine meanwhile"
            ));
        }
        let config = &self.shared.config;
        match failure::full_disk([config.scratch_dir.as_path()]) {
            Some(path) => RunFailure::Infrastructure(format!(
                "{failure}\nnote: the failure may come from lack of free disk space in {}",
                path.display()
            )),
            None => failure,
        }
    }

    pub(crate) async fn end(
        &self,
        scratch: Scratch,
        result: Result<Built, RunFailure>,
    ) -> Result<Built, RunFailure> {
        let removed = tokio::task::spawn_blocking(move || scratch.remove()).await;
        if let Err(error) = removed.map_err(std::io::Error::other).flatten() {
            tracing::warn!(build = %self.job.id, %error, "the directories of a build were not removed");
        }
        result
    }

    /// Runs what reads and writes files away from the tasks.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, RunFailure> + Send + 'static,
    ) -> Result<T, RunFailure> {
        let this = self.clone();
        match tokio::task::spawn_blocking(move || work(&this)).await {
            Ok(result) => result,
            Err(e) => Err(RunFailure::Infrastructure(format!(
                "a step of the build ended early: {e}"
            ))),
        }
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
