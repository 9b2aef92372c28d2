//! Namespaces and mounts.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use crate::{Outcome, host, raw};

const HERE: usize = libc::AT_FDCWD as usize;

fn call(number: libc::c_long, args: &[usize]) -> Outcome {
    Outcome::of(raw::call(number, args))
}

fn unshare(flags: i32) -> Outcome {
    call(libc::SYS_unshare, &[flags as usize])
}

pub(crate) fn unshare_user() -> Outcome {
    unshare(libc::CLONE_NEWUSER)
}

pub(crate) fn unshare_mount() -> Outcome {
    unshare(libc::CLONE_NEWNS)
}

pub(crate) fn unshare_network() -> Outcome {
    unshare(libc::CLONE_NEWNET)
}

pub(crate) fn unshare_process() -> Outcome {
    unshare(libc::CLONE_NEWPID)
}

pub(crate) fn unshare_control_group() -> Outcome {
    unshare(libc::CLONE_NEWCGROUP)
}

pub(crate) fn clone_user() -> Outcome {
    let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as usize;
    match raw::call(libc::SYS_clone, &[flags, 0, 0, 0, 0]) {
        Ok(0) => raw::exit(0),
        Ok(pid) => {
            raw::wait(pid as i32);
            Outcome::Reached
        }
        Err(errno) => Outcome::Denied(errno),
    }
}

/// Its flags lie in memory, where a filter cannot see them.
pub(crate) fn clone3_user() -> Outcome {
    let mut arguments = [0u64; 8];
    arguments[0] = libc::CLONE_NEWUSER as u64;
    arguments[4] = libc::SIGCHLD as u64;
    match raw::call(libc::SYS_clone3, &[raw::at(&arguments), 64]) {
        Ok(0) => raw::exit(0),
        Ok(pid) => {
            raw::wait(pid as i32);
            Outcome::Reached
        }
        Err(errno) => Outcome::Denied(errno),
    }
}

/// Enter the mount namespace of the builder, with the rights that would come with it.
pub(crate) fn setns() -> Outcome {
    match File::open("/proc/1/ns/mnt") {
        Ok(file) => call(
            libc::SYS_setns,
            &[file.as_raw_fd() as usize, libc::CLONE_NEWNS as usize],
        ),
        Err(error) => Outcome::of_io::<()>(Err(error)),
    }
}

pub(crate) fn mount_tmpfs() -> Outcome {
    call(
        libc::SYS_mount,
        &[raw::text("x"), raw::text("/build"), raw::text("tmpfs"), 0, 0],
    )
}

pub(crate) fn mount_proc() -> Outcome {
    call(
        libc::SYS_mount,
        &[raw::text("x"), raw::text("/build"), raw::text("proc"), 0, 0],
    )
}

pub(crate) fn mount_bind() -> Outcome {
    call(
        libc::SYS_mount,
        &[
            raw::text("/proc"),
            raw::text("/build"),
            0,
            libc::MS_BIND as usize,
            0,
        ],
    )
}

/// Make an input writable.
pub(crate) fn remount_input() -> Outcome {
    let input = raw::text(&host::var(host::INPUT));
    call(
        libc::SYS_mount,
        &[0, input, 0, (libc::MS_REMOUNT | libc::MS_BIND) as usize, 0],
    )
}

/// Look under what hides a file.
pub(crate) fn unmount() -> Outcome {
    call(
        libc::SYS_umount2,
        &[raw::text("/proc/cmdline"), libc::MNT_DETACH as usize],
    )
}

pub(crate) fn pivot_root() -> Outcome {
    call(libc::SYS_pivot_root, &[raw::text("/build"), raw::text("/build")])
}

pub(crate) fn chroot() -> Outcome {
    call(libc::SYS_chroot, &[raw::text("/build")])
}

pub(crate) fn open_tree() -> Outcome {
    call(428, &[HERE, raw::text("/build"), 0])
}

pub(crate) fn open_tree_clone() -> Outcome {
    call(428, &[HERE, raw::text("/build"), 1])
}

pub(crate) fn move_mount() -> Outcome {
    call(429, &[HERE, raw::text("/proc"), HERE, raw::text("/build"), 0])
}

pub(crate) fn fsopen() -> Outcome {
    call(430, &[raw::text("tmpfs"), 0])
}

pub(crate) fn fsconfig() -> Outcome {
    call(431, &[usize::MAX, 6, 0, 0, 0])
}

pub(crate) fn fsmount() -> Outcome {
    call(432, &[usize::MAX, 0, 0])
}

pub(crate) fn fspick() -> Outcome {
    call(433, &[HERE, raw::text("/build"), 0])
}

/// Make an input writable, as [`remount_input`].
pub(crate) fn mount_setattr() -> Outcome {
    let clear_read_only = [0u64, 1, 0, 0];
    let input = raw::text(&host::var(host::INPUT));
    call(442, &[HERE, input, 0, raw::at(&clear_read_only), 32])
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn fsopen_i386() -> Outcome {
    Outcome::of(raw::call_i386(430, &[raw::low(b"tmpfs\0"), 0]))
}

/// What is mounted where, of the namespace's root.
pub(crate) fn listmount() -> Outcome {
    let request = [24u64, u64::MAX, 0];
    let list = [0u64; 64];
    call(458, &[raw::at(&request), raw::at(&list), list.len(), 0])
}

pub(crate) fn statmount() -> Outcome {
    let request = [24u64, 1, 1];
    let buffer = [0u64; 256];
    call(457, &[raw::at(&request), raw::at(&buffer), 2048, 0])
}
