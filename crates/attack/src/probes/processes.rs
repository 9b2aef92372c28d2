//! Reaching for other processes, for more rights and for a larger share.

use std::fs;

use crate::{Outcome, host, raw};

/// Is there anybody else whom a signal reaches? Signal 0 only asks.
pub(crate) fn kill_all() -> Outcome {
    Outcome::of(raw::call(libc::SYS_kill, &[usize::MAX, 0]))
}

pub(crate) fn kill_host() -> Outcome {
    Outcome::of(raw::call(libc::SYS_kill, &[host::pid() as usize, 0]))
}

pub(crate) fn ptrace_host() -> Outcome {
    Outcome::of(raw::call(
        libc::SYS_ptrace,
        &[libc::PTRACE_SEIZE as usize, host::pid() as usize, 0, 0],
    ))
}

pub(crate) fn read_host_memory() -> Outcome {
    let buffer = [0u8; 8];
    let ours = [raw::at(&buffer), buffer.len()];
    let theirs = [0x10000usize, buffer.len()];
    Outcome::of(raw::call(
        libc::SYS_process_vm_readv,
        &[host::pid() as usize, raw::at(&ours), 1, raw::at(&theirs), 1, 0],
    ))
}

pub(crate) fn pidfd_host() -> Outcome {
    Outcome::of(raw::call(libc::SYS_pidfd_open, &[host::pid() as usize, 0]))
}

/// How many processes /proc shows: this one and the builder.
pub(crate) fn visible() -> Outcome {
    let names = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .map(|entry| entry.file_name());
    let numbers = names.filter(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    Outcome::value(numbers.count())
}

/// How many processes the kernel says there are on the machine.
pub(crate) fn sysinfo() -> Outcome {
    // SAFETY: plain numbers, for which zero is a value.
    let info: libc::sysinfo = unsafe { std::mem::zeroed() };
    match raw::call(libc::SYS_sysinfo, &[raw::at(&info)]) {
        Ok(_) if info.procs > 10 => Outcome::Leaked("processes of the host".to_owned()),
        Ok(_) => Outcome::Hidden,
        Err(errno) => Outcome::Denied(errno),
    }
}

pub(crate) fn priority() -> Outcome {
    let higher = -5i32;
    Outcome::of(raw::call(libc::SYS_setpriority, &[0, 0, higher as usize]))
}

pub(crate) fn real_time() -> Outcome {
    let parameter = 1u32;
    Outcome::of(raw::call(
        libc::SYS_sched_setscheduler,
        &[0, libc::SCHED_FIFO as usize, raw::at(&parameter)],
    ))
}

pub(crate) fn disk_priority() -> Outcome {
    const REAL_TIME: usize = 1 << 13;
    Outcome::of(raw::call(libc::SYS_ioprio_set, &[1, 0, REAL_TIME]))
}

/// Let the kernel kill others first when there is no memory.
pub(crate) fn oom_score() -> Outcome {
    Outcome::of_io(fs::write("/proc/self/oom_score_adj", "-900"))
}

pub(crate) fn become_root() -> Outcome {
    Outcome::of(raw::call(libc::SYS_setuid, &[0]))
}

pub(crate) fn groups() -> Outcome {
    let root = 0u32;
    Outcome::of(raw::call(libc::SYS_setgroups, &[1, raw::at(&root)]))
}

fn status(name: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

pub(crate) fn capabilities() -> Outcome {
    match ["CapInh", "CapPrm", "CapEff", "CapAmb"].map(status) {
        sets if sets.iter().all(|set| set == "0000000000000000") => Outcome::value("none"),
        sets => Outcome::Leaked(sets.join(",")),
    }
}

/// Take all that there are.
pub(crate) fn regain_capabilities() -> Outcome {
    let header = [0x2008_0522u32, 0];
    let all = [u32::MAX; 6];
    Outcome::of(raw::call(libc::SYS_capset, &[raw::at(&header), raw::at(&all)]))
}

pub(crate) fn new_privileges() -> Outcome {
    Outcome::value(status("NoNewPrivs"))
}

/// The limits on core dumps. At 1 the kernel starts no program of the host for a crash (fs/coredump.c).
pub(crate) fn core_limit() -> Outcome {
    let [now, most] = core();
    Outcome::value(format!("{now},{most}"))
}

fn core() -> [u64; 2] {
    let limit = [0u64; 2];
    let _ = raw::call(
        libc::SYS_prlimit64,
        &[0, libc::RLIMIT_CORE as usize, 0, raw::at(&limit)],
    );
    std::hint::black_box(limit)
}

/// By every way that there is.
pub(crate) fn set_core_limit() -> Outcome {
    let core = libc::RLIMIT_CORE as usize;
    let before = self::core();
    for new in [[0u64, 0], [0, u64::MAX], [4096, 4096], [u64::MAX, u64::MAX]] {
        let old = [0u64; 2];
        let _ = raw::call(libc::SYS_setrlimit, &[core, raw::at(&new)]);
        let _ = raw::call(libc::SYS_prlimit64, &[0, core, raw::at(&new), 0]);
        let _ = raw::call(libc::SYS_prlimit64, &[0, core, raw::at(&new), raw::at(&old)]);
        let _ = raw::call(
            libc::SYS_prlimit64,
            &[std::process::id() as usize, core, raw::at(&new), 0],
        );
        #[cfg(target_arch = "x86_64")]
        {
            let _ = raw::call_x32(libc::SYS_setrlimit, &[core, raw::at(&new)]);
            let _ = raw::call_x32(libc::SYS_prlimit64, &[0, core, raw::at(&new), 0]);
            let words: Vec<u8> = new.iter().flat_map(|limit| limit.to_le_bytes()).collect();
            let _ = raw::call_i386(340, &[0, core as u32, raw::low(&words), 0]);
            let halves: Vec<u8> = new
                .iter()
                .flat_map(|limit| (*limit as u32).to_le_bytes())
                .collect();
            let _ = raw::call_i386(75, &[core as u32, raw::low(&halves)]);
        }
        if self::core() != before {
            return Outcome::Reached;
        }
    }
    Outcome::value("unchanged")
}
