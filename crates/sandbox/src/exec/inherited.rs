//! What a process has of the one that started it, whichever way that was started: all of it is set to constants before the command runs, so
//! that two commands of one specification see the same.
//!
//! A service without the rights to do so keeps what it has been given less of; [`leftovers`] says what that is, so that the caller can tell such commands
//! from others. Sources: credentials(7), prctl(2), setrlimit(2), sched(7), ioprio_set(2), set_mempolicy(2), proc(5).

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CapabilitySet;

use super::io_ext::Named;
use super::spawn::privileged;
use crate::{SandboxSpec, sys};

const NONE: u64 = u64::MAX;

/// Soft and hard limits, but for core dumps. Without rights of root what the kernel counts per user is that of all commands together, and each gets a part.
fn limits(root: bool) -> [(Resource, &'static str, u64, u64); 12] {
    let of_user = |all: u64, part: u64| if root { all } else { part };
    let locked = of_user(8 << 20, 64 << 10);
    let pending = of_user(16_384, 1024);
    let messages = of_user(819_200, 65_536);
    [
        (Resource::Cpu, "cpu", NONE, NONE),
        (Resource::Fsize, "fsize", NONE, NONE),
        (Resource::Data, "data", NONE, NONE),
        (Resource::Stack, "stack", 8 << 20, NONE),
        (Resource::Nproc, "nproc", NONE, NONE),
        (Resource::Nofile, "nofile", 65_536, 65_536),
        (Resource::Memlock, "memlock", locked, locked),
        (Resource::As, "as", NONE, NONE),
        (Resource::Sigpending, "sigpending", pending, pending),
        (Resource::Msgqueue, "msgqueue", messages, messages),
        (Resource::Nice, "nice", 0, 0),
        (Resource::Rtprio, "rtprio", 0, 0),
    ]
}

/// Files that say something of a process, and what of it.
const FILES: [(&str, &str); 3] = [
    ("/proc/self/oom_score_adj", "0"),
    ("/proc/self/coredump_filter", "0x33"),
    ("/proc/self/loginuid", "4294967295"),
];

/// Set all that was inherited and that this process may set.
pub(super) fn reset(spec: &SandboxSpec) -> Result<(), String> {
    for (resource, name, soft, hard) in limits(privileged()) {
        let hard = match (resource, spec.processes) {
            (Resource::Nproc, Some(most)) => most,
            _ => hard,
        };
        limit(resource, soft.min(hard), hard).named(|| format!("limit {name}"))?;
    }
    for (file, value) in FILES {
        // Not there, or not to be lowered.
        let _ = fs::write(file, value);
    }
    sys::plain_scheduling();
    sys::plain_memory();
    let _ = sys::fresh_session_keyring();
    Ok(())
}

/// Sets a limit, or as much of it as there is.
fn limit(resource: Resource, soft: u64, hard: u64) -> rustix::io::Result<()> {
    let some = |limit: u64| (limit != NONE).then_some(limit);
    let wanted = Rlimit {
        current: some(soft),
        maximum: some(hard),
    };
    setrlimit(resource, wanted).or_else(|_| {
        let most = getrlimit(resource).maximum.unwrap_or(NONE).min(hard);
        let possible = Rlimit {
            current: some(soft.min(most)),
            maximum: some(most),
        };
        setrlimit(resource, possible)
    })
}

/// What of the calling process its commands will have, although it is not what others have: for lack of rights. Each is a short word.
#[must_use]
pub fn leftovers() -> Vec<String> {
    let may = rustix::thread::capabilities(None).is_ok_and(|held| {
        held.effective
            .contains(CapabilitySet::SYS_RESOURCE | CapabilitySet::SYS_NICE)
    });
    let mut left = Vec::new();
    if !may {
        for (resource, name, _, hard) in limits(privileged()) {
            let most = getrlimit(resource).maximum.unwrap_or(NONE);
            if most < hard {
                left.push(format!("{name}={most}"));
            }
        }
        let nice = rustix::process::getpriority_process(None).unwrap_or(0);
        if nice > 0 {
            left.push(format!("nice={nice}"));
        }
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let score: i32 = read("/proc/self/oom_score_adj").trim().parse().unwrap_or(0);
        if score > 0 {
            left.push(format!("oom={score}"));
        }
    }
    let login = fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    if !privileged() && !matches!(login.as_str(), "" | "4294967295") {
        left.push(format!("loginuid={login}"));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let filters = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp_filters:"));
    if let Some(filters) = filters.map(str::trim).filter(|number| *number != "0") {
        left.push(format!("filters={filters}"));
    }
    left
}
