//! What the command must not keep of the helper.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Mode, Uid};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::io_ext::Named;
use crate::sys;

/// Have the kernel kill this process when the helper ends, and make sure that it has not ended before. A change of ids undoes the
/// former, so this is done again after each.
pub(super) fn die_with_helper(helper: &OwnedFd) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).named(|| "PR_SET_PDEATHSIG")?;
    let mut fds = [PollFd::new(helper, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).named(|| "poll")?;
    if fds.iter().any(|fd| fd.revents().contains(PollFlags::HUP)) {
        return Err("the helper is gone".to_owned());
    }
    Ok(())
}

/// No user namespaces inside this one. Best effort: without it the kernel's own defences remain.
pub(super) fn no_user_namespaces() {
    let _ = fs::write("/proc/sys/user/max_user_namespaces", "0");
}

/// Where all commands are one user of the host, each may have a part of the instances of inotify that a user has. Best effort, as above.
pub(super) fn few_watchers(one_user: bool) {
    if one_user {
        let _ = fs::write("/proc/sys/user/max_inotify_instances", "8");
    }
}

/// Have the user namespace made next belong to this user of the host. What its processes take of what the kernel counts per user (inotify
/// instances, message queues, pending signals, …) is charged to its owner as well: it must not be root, for whom all commands would
/// share one account. The rights to make it stay.
pub(super) fn charge(host_uid: u32) -> Result<(), String> {
    rustix::thread::set_thread_res_uid(None, Uid::from_raw(host_uid), None)
        .named(|| format!("take the effective user {host_uid}"))?;
    let held = rustix::thread::capabilities(None).named(|| "capget")?;
    let all = CapabilitySets {
        effective: held.permitted,
        ..held
    };
    rustix::thread::set_capabilities(None, all).named(|| "capset")
}

/// Take the ids of the command and give up every capability.
pub(super) fn become_user(uid: u32, gid: u32) -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).named(|| format!("setresgid {gid}"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).named(|| format!("setresuid {uid}"))?;
    no_rights()
}

/// Give up every capability.
pub(super) fn no_rights() -> Result<(), String> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::clear_ambient_capability_set().named(|| "clear the ambient capabilities")?;
    rustix::thread::set_capabilities(None, none).named(|| "capset")
}

pub(super) fn no_new_privileges() -> Result<(), String> {
    rustix::thread::set_no_new_privs(true).named(|| "PR_SET_NO_NEW_PRIVS")
}

/// Where `core_pattern` names a program, the kernel runs it as root of the host for every crash, with input that the command chose and
/// whatever the limit is; but not at a limit of exactly 1 byte (fs/coredump.c, there for the program's own crashes). That is too little for a file as
/// well. The system call filter keeps the command from changing it.
fn no_core_dumps() -> Result<(), String> {
    let one = match getrlimit(Resource::Core).maximum {
        Some(0) => Some(0),
        _ => Some(1),
    };
    let limit = Rlimit {
        current: one,
        maximum: one,
    };
    setrlimit(Resource::Core, limit).named(|| "setrlimit RLIMIT_CORE")
}

/// The state of a process that nobody has changed.
pub(super) fn plain_process(i686: bool, randomize: bool) -> Result<(), String> {
    const ADDR_NO_RANDOMIZE: libc::c_ulong = 0x004_0000;
    const PER_LINUX32: libc::c_ulong = 0x0008;
    no_new_privileges()?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    no_core_dumps()?;
    sys::reset_signals();
    let layout = if randomize { 0 } else { ADDR_NO_RANDOMIZE };
    sys::personality(layout | if i686 { PER_LINUX32 } else { 0 }).named(|| "personality")
}
