//! How the command ended, in numbers of fixed size and a text.

use std::time::Duration;

use firn_sandbox::{Exit, ExitKind};

use super::guest::cut;

/// How the command ended and what the guest had left. All of it is the guest's claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// As in a sandbox without a machine around it.
    pub exit: Exit,
    /// Processes that the guest's kernel killed for lack of memory.
    pub oom_kills: u64,
    /// Times that a process could not be made because the command had as many as it may.
    pub refused_processes: u64,
    /// Bytes left on the guest's disk at the end.
    pub disk_free: u64,
}

/// Kind, status, eight numbers.
pub(super) const FIXED: usize = 1 + 4 + 8 * 8;

const EXITED: u8 = 0;
const SIGNALLED: u8 = 1;
const TIMED_OUT: u8 = 2;
const SILENT: u8 = 3;
const LOG_LIMIT: u8 = 4;
const CANCELLED: u8 = 5;
const NOT_EXECUTABLE: u8 = 6;
const SETUP_FAILED: u8 = 7;

pub(super) fn encode(report: &Report) -> Vec<u8> {
    let exit = &report.exit;
    let (kind, status, text) = match &exit.status {
        ExitKind::Exited(status) => (EXITED, *status, ""),
        ExitKind::Signalled(signal) => (SIGNALLED, *signal, ""),
        ExitKind::TimedOut => (TIMED_OUT, 0, ""),
        ExitKind::SilentTimedOut => (SILENT, 0, ""),
        ExitKind::LogLimit => (LOG_LIMIT, 0, ""),
        ExitKind::Cancelled => (CANCELLED, 0, ""),
        ExitKind::NotExecutable(why) => (NOT_EXECUTABLE, 0, why.as_str()),
        ExitKind::SetupFailed(why) => (SETUP_FAILED, 0, why.as_str()),
    };
    let mut body = vec![kind];
    body.extend(status.to_le_bytes());
    for number in [
        micros(exit.user),
        micros(exit.system),
        exit.max_rss_bytes,
        micros(exit.wall),
        exit.log_bytes,
        report.oom_kills,
        report.refused_processes,
        report.disk_free,
    ] {
        body.extend(number.to_le_bytes());
    }
    body.extend(cut(text).as_bytes());
    body
}

pub(super) fn decode(body: &[u8]) -> Option<Report> {
    let (&kind, rest) = body.split_first()?;
    let (status, rest) = rest.split_first_chunk::<4>()?;
    let status = i32::from_le_bytes(*status);
    let (numbers, text) = rest.split_at_checked(FIXED - 5)?;
    let text = std::str::from_utf8(text).ok()?;
    let (numbers, _) = numbers.as_chunks::<8>();
    let &[
        user,
        system,
        max_rss_bytes,
        wall,
        log_bytes,
        oom_kills,
        refused_processes,
        disk_free,
    ] = numbers
    else {
        return None;
    };
    let number = u64::from_le_bytes;
    let micros = |bytes| Duration::from_micros(number(bytes));
    let status = match (kind, status, text) {
        (EXITED, 0..=255, "") => ExitKind::Exited(status),
        (SIGNALLED, 1..=64, "") => ExitKind::Signalled(status),
        (TIMED_OUT, 0, "") => ExitKind::TimedOut,
        (SILENT, 0, "") => ExitKind::SilentTimedOut,
        (LOG_LIMIT, 0, "") => ExitKind::LogLimit,
        (CANCELLED, 0, "") => ExitKind::Cancelled,
        (NOT_EXECUTABLE, 0, why) => ExitKind::NotExecutable(why.to_owned()),
        (SETUP_FAILED, 0, why) => ExitKind::SetupFailed(why.to_owned()),
        _ => return None,
    };
    Some(Report {
        exit: Exit {
            status,
            user: micros(user),
            system: micros(system),
            max_rss_bytes: number(max_rss_bytes),
            wall: micros(wall),
            log_bytes: number(log_bytes),
        },
        oom_kills: number(oom_kills),
        refused_processes: number(refused_processes),
        disk_free: number(disk_free),
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
