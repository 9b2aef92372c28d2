//! The caller's side: start the helper, feed it, carry the log, take the report.

use std::ffi::OsString;
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

use crate::wire::{self, MAX_REPORT_BYTES, Report};
use crate::{Exit, ExitKind, SandboxError, SandboxSpec};

/// Longest time for the helper to take the specification.
const TAKE_SPEC: Duration = Duration::from_secs(60);
/// Longest time from a cancellation to the end of the helper. Longer than the helper itself waits.
const DEATH: Duration = Duration::from_secs(40);
const CHUNK: usize = 64 << 10;

/// The executable whose `main` is [`sandbox_exec_main`](crate::sandbox_exec_main).
#[derive(Debug, Clone)]
pub struct HelperCommand {
    program: PathBuf,
    args: Vec<OsString>,
}

impl HelperCommand {
    /// An executable, for example `/proc/self/exe`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    fn spawn(&self) -> Result<Child, SandboxError> {
        Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in a terminal is the service's to handle.
            .process_group(0)
            .spawn()
            .map_err(|source| SandboxError::Spawn {
                program: self.program.clone(),
                source,
            })
    }
}

/// Run one command to its end.
///
/// Its output goes to `log` in order and completely; while the channel is full the command waits in its next write. When the receiver is
/// gone the rest of the output is thrown away.
///
/// When `cancel` completes, everything in the sandbox is killed and the exit is [`ExitKind::Cancelled`]; this returns after it is gone.
/// Dropping the future kills it too, but nobody waits then: host ids and directories may be in use a moment longer.
///
/// # Errors
/// [`SandboxError`] when there is no telling how the command ended. That it failed, or that the sandbox could not be
/// set up, is an [`Exit`].
pub async fn run(
    helper: &HelperCommand,
    spec: &SandboxSpec,
    log: mpsc::Sender<Bytes>,
    cancel: impl Future<Output = ()>,
) -> Result<Exit, SandboxError> {
    let frame = wire::encode(spec)?;
    let mut process = helper.spawn()?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (process.stdin.take(), process.stdout.take(), process.stderr.take())
    else {
        return Err(SandboxError::Helper {
            what: "pipes",
            source: std::io::ErrorKind::BrokenPipe.into(),
        });
    };
    let born = Arc::new(Notify::new());
    let mut heard = Heard {
        helper: process.id(),
        born: Arc::clone(&born),
        ..Heard::default()
    };
    let mut cancelled = false;
    {
        let mut listen = pin!(heard.listen(stderr));
        let mut listened = false;
        {
            let mut cancel = pin!(cancel);
            let mut pump = pin!(pump(stdout, &log));
            let mut feed = pin!(feed(&mut stdin, &frame, &born));
            let (mut fed, mut pumped) = (false, false);
            while !(pumped && listened) {
                tokio::select! {
                    () = &mut cancel => { cancelled = true; break }
                    () = &mut pump, if !pumped => pumped = true,
                    () = &mut listen, if !listened => listened = true,
                    took = &mut feed, if !fed => {
                        fed = true;
                        if !took { break }
                    }
                }
            }
        }
        // Whoever is still alive at the other end stops now.
        drop(stdin);
        // It may have ended by itself just before.
        if cancelled && !listened {
            let _ = timeout(DEATH, listen).await;
        }
    }
    let exited = timeout(DEATH, process.wait()).await;
    if exited.is_err() {
        // Nothing is lost by it: the helper is stuck, and the kernel kills its child with it.
        let _ = process.start_kill();
    }
    if let Some(pidfd) = heard.first.take() {
        gone(&pidfd, heard.pid).await?;
    }
    if let Some((pidfd, pid)) = heard.relay.take() {
        gone(&pidfd, pid).await?;
    }
    match (heard.last, exited) {
        (Some(Report::Unkillable { pid, seconds }), _) => Err(SandboxError::Unkillable { pid, seconds }),
        (Some(Report::Ended(exit)), _) => Ok(exit),
        _ if cancelled => Ok(Exit::unstarted(ExitKind::Cancelled)),
        (_, Ok(Err(source))) => Err(SandboxError::Helper { what: "wait", source }),
        (_, status) => Err(SandboxError::HelperDied {
            status: status
                .ok()
                .and_then(Result::ok)
                .map_or("killed".to_owned(), |status| status.to_string()),
            diagnostics: heard.diagnostics.escape_ascii().to_string(),
        }),
    }
}

/// `false`: the helper does not read. One that has ended is no concern here: it says why elsewhere.
async fn feed(stdin: &mut ChildStdin, frame: &[u8], born: &Notify) -> bool {
    let feed = async {
        stdin.write_all(frame).await?;
        born.notified().await;
        stdin.write_all(&[wire::GO]).await
    };
    match timeout(TAKE_SPEC, feed).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(%error, "the sandbox helper ended before it took the specification");
            true
        }
        Err(_) => false,
    }
}

async fn pump(mut stdout: ChildStdout, log: &mpsc::Sender<Bytes>) {
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        match stdout.read_buf(&mut chunk).await {
            Ok(0) | Err(_) => return,
            // Without a receiver the output is read and forgotten, so that the command can go on.
            Ok(_) => drop(log.send(chunk.freeze()).await),
        }
    }
}

/// What came over the helper's standard error.
#[derive(Default)]
struct Heard {
    helper: Option<u32>,
    last: Option<Report>,
    /// The first process of the sandbox, to kill it should the helper be killed.
    first: Option<OwnedFd>,
    pid: i32,
    /// The relay of its network, likewise.
    relay: Option<(OwnedFd, i32)>,
    born: Arc<Notify>,
    diagnostics: Vec<u8>,
}

impl Heard {
    async fn listen(&mut self, mut stderr: ChildStderr) {
        let mut line = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
            for &byte in chunk.iter().take(length) {
                match byte {
                    b'\n' => self.line(&std::mem::take(&mut line)),
                    byte if line.len() < MAX_REPORT_BYTES => line.push(byte),
                    _ => {}
                }
            }
        }
        self.line(&line);
    }

    fn line(&mut self, line: &[u8]) {
        match serde_json::from_slice(line) {
            Ok(Report::Born { pid }) => {
                self.pid = pid;
                self.first = self.hold(pid);
                self.born.notify_one();
            }
            Ok(Report::Relayed { pid }) => self.relay = self.hold(pid).map(|handle| (handle, pid)),
            Ok(report) => self.last = Some(report),
            Err(_) => {
                let left = MAX_REPORT_BYTES.saturating_sub(self.diagnostics.len());
                self.diagnostics.extend(line.iter().take(left));
            }
        }
    }

    /// A handle on a process that is certainly a child of the helper: the parent is looked up after the handle was taken.
    fn hold(&self, pid: i32) -> Option<OwnedFd> {
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = stat
            .lines()
            .find_map(|line| line.strip_prefix("PPid:"))?
            .trim()
            .parse()
            .ok();
        (parent.is_some() && parent == self.helper).then_some(handle)
    }
}

/// Make sure that the first process, and so its whole namespace, is gone. Only has to wait when the helper was killed.
async fn gone(first: &OwnedFd, pid: i32) -> Result<(), SandboxError> {
    let _ = pidfd_send_signal(first.as_fd(), Signal::KILL);
    let since = Instant::now();
    loop {
        let mut fds = [PollFd::new(first, PollFlags::IN)];
        if !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0)) {
            return Ok(());
        }
        if since.elapsed() > DEATH {
            return Err(SandboxError::Unkillable {
                pid,
                seconds: DEATH.as_secs(),
            });
        }
        sleep(Duration::from_millis(5)).await;
    }
}
