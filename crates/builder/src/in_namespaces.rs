//! One run in namespaces of this machine.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use firn_sandbox::{Network, SandboxError, SandboxSpec};
use firn_service::ports::{RunFailure, RunReport};
use tokio::sync::mpsc;

use crate::attempt::{Attempt, Built, Prepared, micros};
use crate::disk::{self, Amount};
use crate::environment::Environment;
use crate::failure;
use crate::groups::{Group, GroupLimits};
use crate::layout::{Surroundings, loopback_files, sandbox_spec};
use crate::scarcity::{Held, Watched};
use crate::scratch::Scratch;
use crate::slots::Slot;
use crate::tail::LogTail;

/// What is seen of a running build's files.
#[derive(Default)]
struct Watch {
    peak: AtomicU64,
    /// It was stopped because it had as much as it may.
    full: OnceLock<()>,
}

impl Attempt {
    pub(crate) async fn build_in_namespaces(
        &self,
        prepared: Arc<Prepared>,
        log: mpsc::Sender<Bytes>,
        report: &mut RunReport,
        watched: &Watched,
    ) -> Result<Built, RunFailure> {
        let mut slot = self.slot()?;
        let host_ids = slot.as_ref().map(|slot| (slot.uid(), slot.uid()));
        let environment = Arc::clone(&prepared);
        let scratch = self
            .blocking(move |it| it.create(&environment.environment, host_ids))
            .await?;
        let group = match self.blocking(Self::group).await {
            Ok(group) => group,
            Err(failure) => return self.end(scratch, watched, Err(failure)),
        };
        let mut spec = self.spec(&scratch, &prepared.environment, host_ids);
        spec.cgroups = group.dirs();
        watched.holds(Held {
            dir: self.shared.images.is_none().then(|| scratch.dir().to_owned()),
            image: None,
            memory: group.gauge(),
        });
        let disk = Watch::default();
        let (exit, tail) = self.sandbox(&spec, log, scratch.dir(), &disk, watched).await;
        let (used, ended) = self.blocking(move |_| Ok((group.usage(), group.end()))).await?;
        watched.over(used.killed_for_memory);
        let exit = match exit {
            Ok(exit) => exit,
            Err(error) => {
                let failure = Err(failure::of_sandbox(&self.job.drv_path, &error));
                if matches!(error, SandboxError::Unkillable { .. }) {
                    // Its user and directories may still be in use; the next start sweeps.
                    slot.iter_mut().for_each(Slot::spoil);
                    return failure;
                }
                return self.end(scratch, watched, failure);
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
        report.short_of_memory = used.killed_for_memory > 0;
        report.disk_bytes = self.on_disk(&scratch, &disk).await;
        let failure = failure::of_exit(&self.job.drv_path, exit.status, &self.job.limits, tail);
        let stopped = disk.full.get().is_some();
        let full = stopped || (failure.is_some() && scratch.is_full());
        let exhausted = failure::exhausted(&self.job, &used, full);
        let seen = watched.seen();
        let result = match failure {
            _ if let Some(kind) = watched.why() => Err(failure::stopped_for(&self.job.drv_path, kind)),
            // Also when the builder made do without what was killed.
            _ if used.killed_for_memory > 0 || stopped => {
                Err(RunFailure::Exhausted(exhausted.unwrap_or_default()))
            }
            Some(RunFailure::Builder(text)) if let Some(why) = exhausted => {
                Err(RunFailure::Exhausted(format!("{text}\nnote: {why}")))
            }
            None if let Some(kind) = seen.shortage => Err(self.uncounted(kind, Ok(()))),
            None => {
                let collection = Arc::clone(&prepared);
                let store = scratch.dirs.store.clone();
                let collected = self.blocking(move |it| {
                    let owner = host_ids.map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid);
                    it.collection(&collection, &store, owner).collect()
                });
                self.publish(collected.await).await
            }
            Some(RunFailure::Builder(text)) => Err(RunFailure::Builder(
                self.shared.config.fixed.noted(&self.job.drv, text),
            )),
            Some(failure) => Err(failure),
        };
        self.end(scratch, watched, result)
    }

    fn create(&self, environment: &Environment, owner: Option<(u32, u32)>) -> Result<Scratch, RunFailure> {
        let parent = &self.shared.config.scratch_dir;
        let size = self.disk_limit();
        let disk = self.shared.images.as_ref().map(|images| (images, size));
        Scratch::create(parent, self.job.id, disk, environment, owner).map_err(|e| self.not_made(&e))
    }

    fn spec(
        &self,
        scratch: &Scratch,
        environment: &Environment,
        host_ids: Option<(u32, u32)>,
    ) -> SandboxSpec {
        let config = &self.shared.config;
        let trees = config.content.trees();
        let network = config.fixed.network(&self.job.drv);
        let around = Surroundings {
            files: match &network {
                Network::Loopback => loopback_files(),
                Network::Relayed(relay) => config.fixed.files(relay),
            },
            shell: config.shell.as_deref(),
            contents: Some(&trees),
            i686: self.job.drv.platform == b"i686-linux",
            network,
            host_ids,
            limits: self.job.limits,
            processes: self.shared.ungrouped_processes(),
            terminals: self.shared.terminals,
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

    fn disk_limit(&self) -> Amount {
        Amount {
            bytes: self.job.limits.disk_bytes,
            entries: self.job.limits.disk_entries,
        }
    }

    /// What it has on disk now, or had.
    async fn on_disk(&self, scratch: &Scratch, watch: &Watch) -> u64 {
        if let Some(bytes) = scratch.used() {
            return bytes;
        }
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
        watched: &Watched,
    ) -> (Result<firn_sandbox::Exit, SandboxError>, LogTail) {
        let (sender, forward) = self.pass_on(log);
        let filled = disk::filled(dir.to_owned(), self.disk_limit(), &watch.peak);
        let limited = self.shared.images.is_some();
        let stop = async {
            tokio::select! {
                () = self.cancel.cancelled() => {}
                () = watched.stopped() => {}
                () = filled, if !limited => { let _ = watch.full.set(()); }
            }
        };
        let run = firn_sandbox::run(&self.shared.config.helper, spec, sender, stop);
        tokio::join!(run, forward)
    }
}
