//! One run from start to end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use firn_content::Staged;
use firn_core::{Isolation, Object};
use firn_nix::StorePath;
use firn_nix::derivation::{DerivationOptions, MAX_ATERM};
use firn_service::ports::{BuiltFile, Job, Outcome, RunFailure, RunReport, Scarce};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Shared;
use crate::collect::{Collection, not_stored};
use crate::environment::{Environment, Request};
use crate::groups::{Group, GroupLimits};
use crate::outputs::output_paths;
use crate::pace::Pace;
use crate::scarcity::Watched;
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

pub(crate) type Built = BTreeMap<String, BuiltFile>;

impl Attempt {
    pub(crate) fn new(shared: Arc<Shared>, mut job: Job, cancel: CancellationToken) -> Self {
        let processes = job.limits.processes.into_iter().chain(shared.processes).min();
        job.limits.processes = processes;
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
        self.room(&log).await?;
        let watched = self.shared.scarcity.enter();
        let result = match self.job.isolation {
            // Not the account's program but ours, and it may need a network.
            _ if prepared.environment.own => self.build_in_namespaces(prepared, log, report, &watched).await,
            Isolation::Namespaces => self.build_in_namespaces(prepared, log, report, &watched).await,
            Isolation::Vm => self.build_in_machine(prepared, log, report, &watched).await,
        };
        let seen = watched.end();
        report.beside = seen.beside;
        report.shortage = seen.shortage;
        report.short_of_memory |= seen.shortage == Some(Scarce::Memory);
        match seen.shortage {
            Some(kind) => Err(self.uncounted(kind, result)),
            None => result,
        }
    }

    /// Waits until the machine has what a build needs to begin.
    async fn room(&self, log: &mpsc::Sender<Bytes>) -> Result<(), RunFailure> {
        let scarcity = &self.shared.scarcity;
        let Some(kind) = scarcity.wanting() else {
            return Ok(());
        };
        let line = format!("firn: this machine has too little {kind} left to begin; waiting for more\n");
        let room = async {
            let _ = log.send(line.into()).await;
            scarcity.room(self.shared.config.patience).await
        };
        tokio::select! {
            room = room => room.map_err(|kind| RunFailure::Infrastructure(format!(
                "'{}' was not built: this machine has too little {kind} left; try again later",
                self.job.drv_path
            ))),
            () = self.cancel.cancelled() => Err(RunFailure::Cancelled),
        }
    }

    /// How a run ended during which the machine was short of something: never the builder's doing.
    pub(crate) fn uncounted<T>(&self, kind: Scarce, result: Result<T, RunFailure>) -> RunFailure {
        let drv_path = &self.job.drv_path;
        match result {
            // It has no part in it, or is nobody's doing anyway.
            Err(
                failure @ (RunFailure::Cancelled
                | RunFailure::InputRejected(_)
                | RunFailure::Exhausted(_)
                | RunFailure::Infrastructure(_)),
            ) => failure,
            Err(failure) => RunFailure::Infrastructure(format!(
                "{failure}\nnote: this machine was short of {kind} meanwhile, so that this counts for nothing; try again later"
            )),
            Ok(_) => RunFailure::Infrastructure(format!(
                "'{drv_path}' was built while this machine was short of {kind}, so that the result counts for nothing; try again later"
            )),
        }
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
        if let (Err(why), b"builtin:fetchurl") = (&self.shared.config.fixed.network, drv.builder.as_slice()) {
            let local = drv
                .env
                .get(&b"url"[..])
                .is_some_and(|url| url.starts_with(b"file:"));
            if !local {
                return Err(RunFailure::InputRejected(format!(
                    "cannot build '{drv_path}': it fetches from the network, and there is none here for builds: {why}"
                )));
            }
        }
        let options = DerivationOptions::of(drv)
            .map_err(|e| RunFailure::InputRejected(format!("derivation '{drv_path}': {e}")))?;
        let outputs = output_paths(drv_path, drv, &options, inputs)?;
        let content = &self.shared.config.content;
        if let Some(lost) = inputs.objects().find(|input| !content.contains(&input.content)) {
            return Err(RunFailure::Infrastructure(format!(
                "cannot build '{drv_path}': the content of its input '{}' is not here; try again, and if that does not help, \
                 copy '{0}' to this service again",
                lost.path
            )));
        }
        let request = Request {
            drv_path,
            drv,
            options: &options,
            outputs: &outputs,
            inputs,
            class,
            variables: &self.shared.config.fixed.variables,
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

    /// That the directories of a build could not be made. Where they are is the operator's to know.
    pub(crate) fn not_made(&self, error: &std::io::Error) -> RunFailure {
        let dir = self.shared.config.scratch_dir.display();
        tracing::error!(build = %self.job.id, %dir, %error, "the directories of a build cannot be made");
        RunFailure::Infrastructure(format!(
            "the directories of '{}' cannot be made here ({}); the operator's log has the details",
            self.job.drv_path,
            error.kind()
        ))
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

    pub(crate) fn limited(&self, limits: &GroupLimits) -> Result<Group, RunFailure> {
        self.shared
            .groups
            .create(self.job.id, limits)
            .map_err(|e| RunFailure::Infrastructure(format!("limiting a build: {e}")))
    }

    /// Passes a log on, no faster than it may be, and keeps the end of it. Meanwhile the builder waits in its next write.
    pub(crate) fn pass_on(
        &self,
        log: mpsc::Sender<Bytes>,
    ) -> (mpsc::Sender<Bytes>, impl Future<Output = LogTail> + Send + '_) {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(LOG_CHUNKS);
        let forward = async move {
            let mut tail = LogTail::default();
            let mut pace = Pace::new(self.job.limits.log_rate);
            while let Some(chunk) = receiver.recv().await {
                tail.push(&chunk);
                let pass = async {
                    pace.pay(chunk.len()).await;
                    // Nobody has to listen.
                    let _ = log.send(chunk).await;
                };
                tokio::select! {
                    () = pass => {}
                    // Who stopped the build need not read on.
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

    /// Has what a build leaves thrown away, beside whatever comes next: nobody waits for it.
    pub(crate) fn end<T>(&self, scratch: Scratch, watched: &Watched, result: T) -> T {
        let (id, leftovers) = (self.job.id, watched.leftovers());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = scratch.remove() {
                tracing::warn!(build = %id, %error, "the directories of a build were not removed");
            }
            drop(leftovers);
        });
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
