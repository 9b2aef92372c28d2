//! How an ended sandbox is told to the client, in Nix's words.

use std::time::Duration;

use firn_nix::StorePath;
use firn_sandbox::{ExitKind, SandboxError};
use firn_service::ports::{Job, JobLimits, RunFailure, Scarce};

use crate::groups::Usage;
use crate::tail::LogTail;

/// Below this much free disk a failure is not held against the builder (the value is Nix's).
pub(crate) const FULL: u64 = 8 << 20;
/// No process of the sandbox can send it to the first one, which the builder is (only a limit on CPU time, set by itself, does the same).
const SIGKILL: i32 = 9;

/// Why a builder that ended like this has no outputs; none when it exited with status 0.
pub(crate) fn of_exit(
    drv_path: &StorePath,
    kind: ExitKind,
    limits: &JobLimits,
    tail: LogTail,
) -> Option<RunFailure> {
    let builder =
        |what: String| RunFailure::Builder(format!("builder for '{drv_path}' {what}{}", tail.message()));
    Some(match kind {
        ExitKind::Exited(0) => return None,
        ExitKind::Exited(status) => builder(format!("failed with exit code {status}")),
        ExitKind::Signalled(SIGKILL) => RunFailure::Infrastructure(format!(
            "builder for '{drv_path}' was killed from outside of its sandbox, probably for lack of memory"
        )),
        ExitKind::Signalled(signal) => {
            builder(format!("failed due to signal {signal} ({})", signal_text(signal)))
        }
        ExitKind::NotExecutable(why) => builder(format!("could not be executed: {why}")),
        ExitKind::TimedOut => RunFailure::TimedOut(format!(
            "building of '{drv_path}' timed out after {} seconds",
            seconds(limits.wall)
        )),
        ExitKind::SilentTimedOut => RunFailure::TimedOut(format!(
            "building of '{drv_path}' timed out after {} seconds of silence",
            seconds(limits.silent)
        )),
        ExitKind::LogLimit => RunFailure::LogLimit(format!(
            "building of '{drv_path}' killed after writing more than {} bytes of log output",
            limits.log_bytes
        )),
        ExitKind::Cancelled => RunFailure::Cancelled,
        // The reason names files of this machine.
        ExitKind::SetupFailed(why) => {
            tracing::error!(%drv_path, why, "a sandbox cannot be set up");
            RunFailure::Infrastructure(format!(
                "the sandbox for '{drv_path}' cannot be set up here; the operator's log has the reason"
            ))
        }
    })
}

/// What a build used up of the things that are limited, when it did.
pub(crate) fn exhausted(job: &Job, used: &Usage, disk_full: bool) -> Option<String> {
    let drv_path = &job.drv_path;
    let limits = &job.limits;
    if disk_full {
        return Some(format!(
            "building of '{drv_path}' stopped after writing {} bytes or {} files to disk, the most that a build may have there",
            limits.disk_bytes, limits.disk_entries
        ));
    }
    if used.killed_for_memory > 0 {
        return Some(format!(
            "builder for '{drv_path}' ran out of memory: it may use {} bytes",
            limits.memory_bytes.unwrap_or(u64::MAX)
        ));
    }
    (used.refused_processes > 0).then(|| too_many_processes(drv_path, limits))
}

/// That a builder was refused processes.
pub(crate) fn too_many_processes(drv_path: &StorePath, limits: &JobLimits) -> String {
    format!(
        "builder for '{drv_path}' wanted more than {} processes at a time, the most that a build may have",
        limits.processes.unwrap_or(u64::MAX)
    )
}

/// Why a sandbox without a report has no outputs.
pub(crate) fn of_sandbox(drv_path: &StorePath, error: &SandboxError) -> RunFailure {
    let text = format!("running '{drv_path}': {error}");
    match error {
        SandboxError::SpecTooLarge(_) => RunFailure::InputRejected(text),
        _ => RunFailure::Infrastructure(text),
    }
}

/// That a build was stopped because it had most of what the machine was about to run out of.
pub(crate) fn stopped_for(drv_path: &StorePath, kind: Scarce) -> RunFailure {
    RunFailure::Exhausted(format!(
        "building of '{drv_path}' was stopped: this machine was about to run out of {kind}, and of the builds that ran this one took most"
    ))
}

/// Processes that the kernel has killed on this machine for lack of memory since it started; `None` where it does not count them.
pub(crate) fn killed_for_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/vmstat").ok()?;
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    count.trim().parse().ok()
}

/// Rounded up, so that a limit below a second is not called none.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What glibc's `strsignal` says.
fn signal_text(signal: i32) -> &'static str {
    match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        24 => "CPU time limit exceeded",
        25 => "File size limit exceeded",
        31 => "Bad system call",
        _ => "signal",
    }
}
