//! One run in a virtual machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use firn_content::IngestError;
use firn_nix::StorePath;
use firn_sandbox::SandboxError;
use firn_service::ports::{JobLimits, RunFailure, RunReport};
use firn_vm::{Collected, Order, Resources, VmError, VmExit};
use rustix::fs::FallocateFlags;
use tokio::sync::mpsc;

use crate::attempt::{Attempt, Built, Prepared, micros};
use crate::collect::all_refused;
use crate::environment::is_fixed;
use crate::failure::{self, FULL};
use crate::fixed_outputs::note;
use crate::groups::{Group, GroupLimits, Usage};
use crate::machine::{Intake, Machines};
use crate::scarcity::{Held, Watched};
use crate::scratch::Scratch;
use crate::slots::Slot;

/// Memory of QEMU beside that of its guest.
pub const QEMU_MEMORY: u64 = 512 << 20;
/// Of a machine's disk, until QEMU has it.
const DISK: &str = "disk";
/// Threads of QEMU beside those for the guest's processors.
const QEMU_THREADS: u64 = 64;

impl Attempt {
    pub(crate) async fn build_in_machine(
        &self,
        prepared: Arc<Prepared>,
        log: mpsc::Sender<Bytes>,
        report: &mut RunReport,
        watched: &Watched,
    ) -> Result<Built, RunFailure> {
        let Some(machines) = self.shared.config.machines.clone() else {
            return Err(RunFailure::Infrastructure(format!(
                "'{}' must be built in a virtual machine, and this builder has none",
                self.job.drv_path
            )));
        };
        let mut slot = self.slot()?;
        let host_ids = slot.as_ref().map(|slot| (slot.uid(), slot.uid()));
        let packing = machines.clone();
        let image = self
            .blocking(move |it| {
                packing
                    .image(&it.job, &it.shared.config.content)
                    .map_err(|why| it.no_machine(&why))
            })
            .await?;
        let resources = self.resources(&machines);
        let scratch = self.blocking(Self::empty).await?;
        let group = match self.blocking(move |it| it.machine_group(resources)).await {
            Ok(group) => group,
            Err(failure) => return self.end(scratch, watched, Err(failure)),
        };
        let disk_path = scratch.dir().join(DISK);
        let (path, bytes) = (disk_path.clone(), resources.disk_bytes);
        let disk = match self.blocking(move |it| it.disk(&path, bytes)).await {
            Ok(disk) => disk,
            Err(failure) => return self.end(scratch, watched, Err(failure)),
        };
        watched.holds(Held {
            dir: None,
            image: disk,
            memory: group.gauge(),
        });
        let outputs: Vec<String> = prepared
            .outputs
            .values()
            .map(|path| path.base_name().to_owned())
            .collect();
        let job = machines.job(&self.job, &prepared.environment, outputs);
        let collection = self.collection(&prepared, scratch.dir(), 0);
        let candidates = collection.candidates();
        let names: Vec<&String> = prepared.outputs.keys().collect();
        let mut intake = Intake::new(
            self.shared.config.content.clone(),
            self.job.limits.output_bytes,
            |output| collection.look_for(names.get(output).map_or("", |name| name), &candidates),
        );
        let cgroups = group.dirs();
        let order = Order {
            job: &job,
            image: image.path(),
            work: scratch.dir(),
            disk: Some(&disk_path),
            host_ids,
            cgroups: &cgroups,
            resources,
        };
        let (sender, forward) = self.pass_on(log);
        let stop = async {
            tokio::select! {
                () = self.cancel.cancelled() => {}
                () = watched.stopped() => {}
            }
        };
        let run = machines.machine.run(order, sender, &mut intake, stop);
        let (exit, tail) = tokio::join!(run, forward);
        let (used, ended) = self.blocking(move |_| Ok((group.usage(), group.end()))).await?;
        watched.over(used.killed_for_memory);
        if ended.is_err() || matches!(exit, Err(VmError::Process(SandboxError::Unkillable { .. }))) {
            slot.iter_mut().for_each(Slot::spoil);
        }
        let result = match exit {
            _ if let Some(kind) = watched.why() => Err(failure::stopped_for(&self.job.drv_path, kind)),
            Err(VmError::File { what, path, source }) => {
                Err(self.no_machine(&format!("{what} {}: {source}", path.display())))
            }
            Err(error) => Err(RunFailure::Infrastructure(format!(
                "running '{}' in a virtual machine: {error}",
                self.job.drv_path
            ))),
            Ok(exit) => {
                charge(report, &exit, &used);
                let failed = failure::of_exit(
                    &self.job.drv_path,
                    exit.exit.status.clone(),
                    &self.job.limits,
                    tail,
                );
                match for_want(&self.job.drv_path, &exit, resources, &self.job.limits, failed) {
                    Some(RunFailure::Builder(text)) if is_fixed(&self.job.drv) => {
                        Err(RunFailure::Builder(format!(
                            "{text}\n{}",
                            note("virtual machines of builds have none (build.sandboxes)")
                        )))
                    }
                    Some(failure) => Err(failure),
                    None => {
                        let taken = std::mem::take(&mut intake.taken);
                        match self.of_collected(&prepared.outputs, exit.outputs, &collection) {
                            Ok(()) => {
                                let (prepared, dir) = (Arc::clone(&prepared), scratch.dir().to_owned());
                                let accepted =
                                    self.blocking(move |it| it.collection(&prepared, &dir, 0).accept(taken));
                                self.publish(accepted.await).await
                            }
                            Err(failure) => Err(failure),
                        }
                    }
                }
            }
        };
        drop(intake);
        self.end(scratch, watched, result)
    }

    /// The reason names files of this machine.
    fn no_machine(&self, why: &str) -> RunFailure {
        tracing::error!(build = %self.job.id, why, "a virtual machine cannot be prepared");
        RunFailure::Infrastructure(format!(
            "the virtual machine of '{}' cannot be prepared here; the operator's log has the reason",
            self.job.drv_path
        ))
    }

    fn resources(&self, machines: &Machines) -> Resources {
        let limits = &self.job.limits;
        Resources {
            memory_bytes: machines.memory_bytes,
            cpus: self.job.class.cores,
            disk_bytes: limits.disk_bytes,
        }
    }

    fn empty(&self) -> Result<Scratch, RunFailure> {
        let parent = &self.shared.config.scratch_dir;
        Scratch::empty(parent, self.job.id).map_err(|e| self.not_made(&e))
    }

    /// Makes the file of a machine's disk, with all of its space where there is so much. Gives it where there is not, and it grows.
    fn disk(&self, path: &Path, bytes: u64) -> Result<Option<File>, RunFailure> {
        let make = || {
            let disk = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            disk.set_len(bytes)?;
            let taken = self.shared.scarcity.allot(bytes, || {
                Ok(rustix::fs::fallocate(&disk, FallocateFlags::empty(), 0, bytes)?)
            });
            Ok::<_, io::Error>(taken.err().map(|_| disk))
        };
        make().map_err(|e| self.not_made(&e))
    }

    fn machine_group(&self, resources: Resources) -> Result<Group, RunFailure> {
        let limits = GroupLimits {
            memory: Some(resources.memory_bytes.saturating_add(QEMU_MEMORY)),
            processes: Some(u64::from(resources.cpus) + QEMU_THREADS),
            processors: None,
        };
        self.limited(&limits)
    }

    fn of_collected(
        &self,
        outputs: &BTreeMap<String, StorePath>,
        collected: Collected,
        collection: &crate::collect::Collection<'_>,
    ) -> Result<(), RunFailure> {
        let named = |number: usize| outputs.iter().nth(number);
        match collected {
            Collected::All => Ok(()),
            Collected::Missing(numbers) => Err(collection.missing(numbers.into_iter().filter_map(named))),
            Collected::Rejected(all) => {
                let mut refused = Vec::new();
                for (number, error) in all {
                    let (name, path) = named(number).ok_or_else(|| self.nonsense())?;
                    match collection.not_ingested(name, path, IngestError::Tree(error)) {
                        RunFailure::OutputRejected(why) => refused.push(why),
                        failure => return Err(failure),
                    }
                }
                Err(all_refused(refused))
            }
            Collected::TooLarge => Err(RunFailure::OutputRejected(collection.too_large())),
            Collected::NotBuilt => Err(self.nonsense()),
        }
    }

    fn nonsense(&self) -> RunFailure {
        RunFailure::Infrastructure(format!(
            "the machine of '{}' told nothing sensible of its outputs",
            self.job.drv_path
        ))
    }
}

/// What the host has measured counts; the guest tells what it likes.
fn charge(report: &mut RunReport, exit: &VmExit, used: &Usage) {
    report.cpu_user_us = micros(used.cpu_user.unwrap_or(exit.machine.user));
    report.cpu_system_us = micros(used.cpu_system.unwrap_or(exit.machine.system));
    report.memory_peak = Some(used.memory_peak.unwrap_or(exit.machine.max_rss_bytes));
}

/// What failed, or would have, for want of memory, processes or disk in the machine.
fn for_want(
    drv_path: &StorePath,
    exit: &VmExit,
    resources: Resources,
    limits: &JobLimits,
    failed: Option<RunFailure>,
) -> Option<RunFailure> {
    let told = match &failed {
        Some(RunFailure::Builder(text)) => Some(text.clone()),
        _ => None,
    };
    let starved = (exit.oom_kills > 0).then(|| {
        let memory = resources.memory_bytes;
        format!("builder for '{drv_path}' ran out of memory: its machine has {memory} bytes")
    });
    let refused = (told.is_some() && exit.refused_processes > 0)
        .then(|| format!("note: {}", failure::too_many_processes(drv_path, limits)));
    let full = (told.is_some() && exit.disk_free.is_some_and(|free| free < FULL)).then(|| {
        let disk = resources.disk_bytes;
        format!("note: the disk of its machine is full: it has {disk} bytes")
    });
    if starved.is_none() && refused.is_none() && full.is_none() {
        return failed;
    }
    let lines: Vec<String> = [starved, told, refused, full].into_iter().flatten().collect();
    Some(RunFailure::Exhausted(lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use firn_sandbox::{Exit, ExitKind};

    use super::*;

    fn failure(
        oom_kills: u64,
        refused_processes: u64,
        disk_free: u64,
        failed: Option<&str>,
    ) -> Option<RunFailure> {
        let drv = StorePath::parse(b"/nix/store/00000000000000000000000000000003-a.drv").unwrap();
        let ended = Exit {
            status: ExitKind::Exited(3),
            user: Duration::ZERO,
            system: Duration::ZERO,
            max_rss_bytes: 0,
            wall: Duration::ZERO,
            log_bytes: 0,
        };
        let exit = VmExit {
            exit: ended.clone(),
            outputs: Collected::NotBuilt,
            oom_kills,
            refused_processes,
            disk_free: Some(disk_free),
            machine: ended,
            boot: Duration::ZERO,
        };
        let resources = Resources {
            memory_bytes: 100,
            cpus: 1,
            disk_bytes: 200,
        };
        for_want(
            &drv,
            &exit,
            resources,
            &JobLimits {
                processes: Some(300),
                ..JobLimits::default()
            },
            failed.map(|text| RunFailure::Builder(text.to_owned())),
        )
    }

    #[test]
    fn a_failure_of_the_builder_is_its_own_unless_the_machine_was_too_small() {
        assert_eq!(failure(0, 0, FULL, None), None);
        let own = RunFailure::Builder("failed".to_owned());
        assert_eq!(failure(0, 0, FULL, Some("failed")), Some(own));
        // A build that succeeds is not asked how full its disk is.
        assert_eq!(failure(0, 0, 0, None), None);
        // One that makes do without a process is not held up.
        assert_eq!(failure(0, 5, 0, None), None);
        let exhausted = |result| match result {
            Some(RunFailure::Exhausted(text)) => text,
            other => panic!("{other:?}"),
        };
        let disk = exhausted(failure(0, 0, 0, Some("failed")));
        assert_eq!(
            disk,
            "failed\nnote: the disk of its machine is full: it has 200 bytes"
        );
        let memory = exhausted(failure(1, 0, FULL, Some("failed")));
        assert!(
            memory.ends_with("ran out of memory: its machine has 100 bytes\nfailed"),
            "{memory}"
        );
        let processes = exhausted(failure(0, 5, FULL, Some("failed")));
        assert!(
            processes.starts_with("failed\nnote: ")
                && processes.contains("more than 300 processes at a time"),
            "{processes}"
        );
        assert!(exhausted(failure(1, 0, FULL, None)).contains("ran out of memory"));
    }
}
