//! The host's side: start a machine, give it a job, take what it says, and end it.

mod console;
mod qemu;
mod talk;
#[cfg(test)]
mod tests;
mod workplace;

use std::fmt;
use std::future::Future;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use firn_content::WalkError;
use firn_sandbox::{Exit, ExitKind, HelperCommand, kvm};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::error::{SinkError, VmError};
use crate::job::Job;
use crate::prepare::{Manifest, Prepared};
use console::Console;
use talk::{Ended, Talk};
use workplace::Workplace;

pub use qemu::find_qemu;

/// How long a machine that has ended may still be heard.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor. The only one that keeps tenants apart.
    Kvm,
    /// A program that translates them: about ten times slower, and no wall between tenants (QEMU: "must not rely on QEMU to provide
    /// guest isolation"). For tests.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        })
    }
}

/// How machines run here.
#[derive(Clone, Debug)]
pub struct MachineOptions {
    /// Executable whose `main` is [`firn_sandbox::sandbox_exec_main`]: QEMU itself runs in a sandbox.
    pub helper: HelperCommand,
    /// Absolute path of `qemu-system-x86_64`, 7.2 or newer.
    pub qemu: PathBuf,
    /// Named by the caller and never changed.
    pub accelerator: Accelerator,
    /// Longest time from the start of QEMU until the guest is ready.
    pub boot: Duration,
}

/// What one machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Memory of the guest. Its kernel and Firn's own part take about 100 MB of it.
    pub memory_bytes: u64,
    /// Virtual processors.
    pub cpus: u32,
    /// Size of the disk for everything that the command writes.
    pub disk_bytes: u64,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// What to do.
    pub job: &'a Job,
    /// Image of the inputs (EROFS), readable for everybody, in a directory that is not. Never written to.
    pub image: &'a Path,
    /// An existing, empty directory of the caller's, on a disk with room for [`Resources::disk_bytes`]. The caller removes it afterwards.
    pub work: &'a Path,
    /// An empty file of [`Resources::disk_bytes`] for the disk, in that directory or beside it in the same file system; it is moved. With `None` a sparse
    /// one is made.
    pub disk: Option<&'a Path>,
    /// User and group that QEMU runs as: distinct for every machine that runs at a time. Needed when this process is root's, as in
    /// [`SandboxSpec::host_ids`](firn_sandbox::SandboxSpec::host_ids).
    pub host_ids: Option<(u32, u32)>,
    /// Control groups for the machine's process, as in [`SandboxSpec::cgroups`](firn_sandbox::SandboxSpec::cgroups).
    pub cgroups: &'a [PathBuf],
    /// What the machine has.
    pub resources: Resources,
}

/// Takes outputs as they come. The bytes are a claim of the guest's to be a NAR: the sink parses them strictly.
pub trait OutputSink: Send {
    /// The NAR of this output (an index of [`Job::outputs`]) begins.
    fn begin(&mut self, output: usize) -> impl Future<Output = Result<(), SinkError>> + Send;
    /// More of it. While this waits, so does the guest.
    fn data(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), SinkError>> + Send;
    /// That was all of it. An output that ends otherwise is dropped without this.
    fn end(&mut self) -> impl Future<Output = Result<(), SinkError>> + Send;
}

/// What became of the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collected {
    /// The command did not succeed.
    NotBuilt,
    /// The sink has them all.
    All,
    /// These were not made. The sink has got nothing.
    Missing(Vec<usize>),
    /// These cannot be taken, in their order; at [`MAX_REJECTED`](crate::MAX_REJECTED) the guest looks no further. The sink may have got
    /// those before the first one, and a part of that.
    Rejected(Vec<(usize, WalkError)>),
    /// Together they are larger than [`Job::nar_bytes`]. The sink has got a part.
    TooLarge,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmExit {
    /// How the command ended. That it was stopped, and the size of the log, is known; the rest is the guest's claim.
    pub exit: Exit,
    /// What became of the outputs.
    pub outputs: Collected,
    /// Processes that the guest's kernel killed for lack of memory, as the guest says.
    pub oom_kills: u64,
    /// Times that a process could not be made because the command had as many as it may, as the guest says.
    pub refused_processes: u64,
    /// Bytes left on the guest's disk, as the guest says.
    pub disk_free: Option<u64>,
    /// What the machine took of the host, measured here: processor time and memory of QEMU.
    pub machine: Exit,
    /// From the start of QEMU until the guest was ready.
    pub boot: Duration,
}

/// A kind of machine that can be started any number of times. Made of the files of a prepared directory.
#[derive(Clone, Debug)]
pub struct Machine {
    prepared: Prepared,
    options: MachineOptions,
    /// Group that may open `/dev/kvm`.
    group: Option<u32>,
}

impl Machine {
    /// Checks that everything is there: the prepared files by their hashes (a second or so), QEMU, and the accelerator.
    ///
    /// # Errors
    /// [`VmError::Prepared`], [`VmError::File`] and [`VmError::Accelerator`].
    pub fn open(dir: &Path, mut options: MachineOptions) -> Result<Self, VmError> {
        let prepared = Prepared::open(dir)?;
        // What it may be a link to is what is in its sandbox.
        options.qemu = std::fs::canonicalize(&options.qemu).map_err(|source| VmError::File {
            what: "look for",
            path: options.qemu.clone(),
            source,
        })?;
        let group = match options.accelerator {
            Accelerator::Tcg => None,
            Accelerator::Kvm => kvm_group().map_err(|why| VmError::Accelerator {
                accelerator: options.accelerator,
                why,
            })?,
        };
        Ok(Self {
            prepared,
            options,
            group,
        })
    }

    /// What the machine is made of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        self.prepared.manifest()
    }

    /// Carry out one job in a fresh machine. Whatever this returns, the machine is gone by then.
    ///
    /// The output of the command goes to `log` in order; while the channel is full the command waits in its next write. When the
    /// receiver is gone the rest is thrown away. When `cancel` completes the exit is [`ExitKind::Cancelled`].
    ///
    /// Dropping the future ends the machine too, but nobody waits then. It ends as well when this process is killed.
    ///
    /// # Errors
    /// [`VmError`] when there is no telling how the command ended. [`VmError::Process`] with
    /// [`Unkillable`](firn_sandbox::SandboxError::Unkillable) means that the user and directory may still be in use.
    pub async fn run<S: OutputSink>(
        &self,
        order: Order<'_>,
        log: mpsc::Sender<Bytes>,
        sink: &mut S,
        cancel: impl Future<Output = ()>,
    ) -> Result<VmExit, VmError> {
        let record = order.job.encode()?;
        let ids = order.host_ids.map(|(uid, gid)| (uid, self.group.unwrap_or(gid)));
        let workplace = Workplace::make(order.work, order.disk, order.resources.disk_bytes, ids)?;
        let spec = qemu::sandbox(&self.options, &self.prepared, &order, &workplace, ids);

        let began = Instant::now();
        let (console_in, console_out) = mpsc::channel(4);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let process = firn_sandbox::run(&self.options.helper, &spec, console_in, stopped);
        let console = Console::default();
        let mut process = pin!(async { tokio::join!(process, console.fill(console_out)).0 });
        let boot = OnceLock::new();
        let mut talk = pin!(async {
            let up = async {
                let port = workplace.connection().await?;
                let mut talk = Talk::new(port, order.job, &log, sink);
                talk.ready().await?;
                Ok::<Talk<'_, UnixStream, S>, VmError>(talk)
            };
            let Ok(up) = timeout(self.options.boot, up).await else {
                return Err(VmError::Boot {
                    seconds: self.options.boot.as_secs(),
                    console: console.text(),
                });
            };
            let up = up?;
            let _ = boot.set(began.elapsed());
            // QEMU holds it; so it vanishes with QEMU.
            workplace.forget_disk();
            up.work(&record).await
        });

        let mut exited = None;
        let ended = tokio::select! {
            exit = &mut process => {
                exited = Some(exit);
                timeout(LAST_WORDS, &mut talk).await.unwrap_or(Err(VmError::Port(std::io::ErrorKind::UnexpectedEof.into())))
            }
            ended = &mut talk => ended,
            () = cancel => Ok(Ended::stopped(ExitKind::Cancelled)),
        };
        drop(stop);
        let machine = match exited {
            Some(exit) => exit,
            None => process.await,
        }?;
        match ended {
            // It hung up because its process has ended.
            Err(VmError::Port(_)) => Err(VmError::Died {
                status: machine.status,
                console: console.text(),
            }),
            Err(error) => Err(error),
            Ok(ended) => Ok(VmExit {
                exit: ended.exit,
                outputs: ended.outputs,
                oom_kills: ended.oom_kills,
                refused_processes: ended.refused_processes,
                disk_free: ended.disk_free,
                machine,
                boot: boot.get().copied().unwrap_or_default(),
            }),
        }
    }
}

/// Whether KVM works, and the group through which an unprivileged QEMU gets at it.
pub(crate) fn kvm_group() -> Result<Option<u32>, String> {
    kvm::probe().map_err(|e| e.to_string())?;
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let device = std::fs::metadata("/dev/kvm").map_err(|e| format!("/dev/kvm: {e}"))?;
    match (device.mode() & 0o066, device.gid()) {
        (0o006 | 0o066, _) => Ok(None),
        (mode, gid) if mode & 0o060 == 0o060 && gid != 0 => Ok(Some(gid)),
        _ => Err(
            "only root may open /dev/kvm, and QEMU does not run as root: give it to a group with mode 0660"
                .to_owned(),
        ),
    }
}
