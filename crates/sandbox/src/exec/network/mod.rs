//! The network of a command whose network is relayed: a device in its namespace, and a process that stands at the other end of it.
//!
//! Packets of the command end in that process ([`relay`]), which has a small TCP of its own and makes an ordinary connection on the host for
//! each of the command's. So what is reached is decided there, out of the command's reach, on the address that is connected to. It has
//! the network of the host and nothing else: an empty root, no rights, the host user of the command.

mod device;
mod flow;
mod names;
mod netlink;
mod packet;
mod policy;
mod relay;

use std::convert::Infallible;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, Signal, pidfd_send_signal};

use super::io_ext::Named;
use super::spawn::{self, FAILED, GO};
use super::{confine, root};
use crate::sys::{self, Cloned};
use crate::wire::Report;
use crate::{Relay, SandboxSpec, seccomp};

pub(crate) use device::TUN;

/// Longest wait for the device.
const DEVICE: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

/// A running relay. It ends when this is dropped, or with the helper.
pub(super) struct Relaying {
    pid: Pid,
    /// Readable when it has ended.
    pub(super) pidfd: OwnedFd,
    _socket: OwnedFd,
}

impl Drop for Relaying {
    fn drop(&mut self) {
        // The only error is that it has ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = sys::wait(self.pid);
    }
}

/// Give the network namespace that `of` is in a device, and put a relay at the other end.
pub(super) fn start(spec: &SandboxSpec, relay: &Relay, of: &OwnedFd) -> Result<Relaying, String> {
    let tun = device(of)?;
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | if spawn::privileged() {
            0
        } else {
            libc::CLONE_NEWUSER
        };
    let (ours, theirs) = pair()?;
    // SAFETY: the helper has one thread.
    let (pid, pidfd) = match unsafe { sys::clone(flags) }.named(|| "clone for the relay of the network")? {
        Cloned::Child => {
            drop(ours);
            become_relay(spec, relay, &tun, &theirs)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    super::report_line(&Report::Relayed {
        pid: pid.as_raw_nonzero().get(),
    });
    let relaying = Relaying {
        pid,
        pidfd,
        _socket: ours,
    };
    // What it uses is the command's.
    spawn::join(pid, spec)?;
    spawn::tell(&relaying._socket, GO, "").named(|| "talk to the relay of the network")?;
    match spawn::hear(&relaying._socket).named(|| "hear from the relay of the network")? {
        Some((spawn::READY, _)) => Ok(relaying),
        Some((_, why)) => Err(format!("relay of the network: {why}")),
        None => Err("the relay of the network ended early".to_owned()),
    }
}

fn pair() -> Result<(OwnedFd, OwnedFd), String> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .named(|| "socketpair")
}

fn caught<T>(steps: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(steps)).unwrap_or_else(|_| Err("it panicked".to_owned()))
}

/// The device is made by a process of its own: who has entered the namespaces of the command as an ordinary user does not come back.
fn device(of: &OwnedFd) -> Result<OwnedFd, String> {
    let (ours, theirs) = pair()?;
    // SAFETY: the helper has one thread.
    let pid = match unsafe { sys::clone(0) }.named(|| "clone for the network device")? {
        Cloned::Child => {
            drop(ours);
            let made = caught(|| {
                confine::die_with_helper(&theirs)?;
                let tun = device::make(of, spawn::privileged())?;
                send_descriptor(&theirs, &tun)
            });
            if let Err(why) = made {
                let _ = spawn::tell(&theirs, FAILED, &why);
            }
            sys::exit_now(0)
        }
        Cloned::Parent { pid, .. } => pid,
    };
    drop(theirs);
    let mut fds = [PollFd::new(&ours, PollFlags::IN)];
    let came = poll(&mut fds, Some(&DEVICE)).named(|| "poll");
    if came != Ok(1) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    let received = receive_descriptor(&ours);
    let _ = sys::wait(pid);
    came?;
    received
}

fn send_descriptor(to: &OwnedFd, fd: &OwnedFd) -> Result<(), String> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(to, &[IoSlice::new(&[GO])], &mut ancillary, SendFlags::NOSIGNAL)
        .named(|| "pass the network device on")
        .map(drop)
}

fn receive_descriptor(from: &OwnedFd) -> Result<OwnedFd, String> {
    let mut text = [0; spawn::MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let length = recvmsg(
        from,
        &mut [IoSliceMut::new(&mut text)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .named(|| "take the network device")?
    .bytes;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Ok(fd);
        }
    }
    let said = text.get(1..length).unwrap_or_default();
    Err(match said.utf8_chunks().next().map(|chunk| chunk.valid()) {
        Some(why) if !why.is_empty() => format!("make a network device: {why}"),
        _ => "make a network device: no answer".to_owned(),
    })
}

/// Relay, or say why not.
fn become_relay(spec: &SandboxSpec, relay: &Relay, tun: &OwnedFd, helper: &OwnedFd) -> ! {
    let outcome = caught(|| {
        let (tun, helper) = keep_only(tun, helper)?;
        let Err(why) = caught(|| enter(spec, relay, tun, &helper));
        let _ = spawn::tell(&helper, FAILED, &why);
        Ok(())
    });
    // Here the descriptors are still what they were.
    if let Err(why) = outcome {
        let _ = spawn::tell(helper, FAILED, &why);
    }
    sys::exit_now(1)
}

fn enter(spec: &SandboxSpec, relay: &Relay, tun: OwnedFd, helper: &OwnedFd) -> Result<Infallible, String> {
    confine::die_with_helper(helper)?;
    match spawn::hear(helper).named(|| "hear from the helper")? {
        Some((GO, _)) => {}
        _ => return Err("the helper is gone".to_owned()),
    }
    nothing_to_see(&spec.scratch)?;
    if let Some((uid, gid)) = spec.host_ids {
        rustix::thread::set_thread_groups(&[]).named(|| "setgroups")?;
        confine::become_user(uid, gid)?;
    } else {
        confine::no_rights()?;
    }
    confine::plain_process(false, false)?;
    let _ = sys::scope();
    confine::die_with_helper(helper)?;
    sys::install_filter(&seccomp::program()).named(|| "install the seccomp filter")?;
    let mut relay = relay::Running::new(tun, relay).named(|| "begin")?;
    spawn::tell(helper, spawn::READY, "").named(|| "talk to the helper")?;
    relay.run(helper).named(|| "relay")
}

/// No other descriptors: that of the terminal would keep the log from ending.
fn keep_only(tun: &OwnedFd, helper: &OwnedFd) -> Result<(OwnedFd, OwnedFd), String> {
    const FIRST: u32 = 3;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .named(|| "open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).named(|| "dup2")?;
    rustix::stdio::dup2_stdout(&null).named(|| "dup2")?;
    rustix::stdio::dup2_stderr(&null).named(|| "dup2")?;
    drop(null);
    // Out of the way of what they are moved to.
    let high = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 100).named(|| "dup");
    let (tun, helper) = (high(tun)?, high(helper)?);
    let last = tun.as_raw_fd().max(helper.as_raw_fd()).unsigned_abs();
    let kept = [tun.as_raw_fd(), helper.as_raw_fd()].map(i32::unsigned_abs);
    for fd in (FIRST..last).filter(|fd| !kept.contains(fd)) {
        // SAFETY: this process never returns to whoever had it, and never runs a destructor of theirs: it ends by _exit.
        unsafe { libc::close(fd as i32) };
    }
    // SAFETY: likewise.
    unsafe { sys::close_from(last + 1) }.named(|| "close_range")?;
    Ok((tun, helper))
}

/// An empty root.
fn nothing_to_see(at: &Path) -> Result<(), String> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .named(|| "make all mounts private")?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("none", at, "tmpfs", plain, c"mode=0555,size=4k").named(|| "mount an empty root")?;
    rustix::process::chdir(at).named(|| "enter it")?;
    rustix::process::pivot_root(".", ".").named(|| "pivot_root")?;
    unmount(".", UnmountFlags::DETACH).named(|| "detach the old root")?;
    rustix::process::chdir("/").named(|| "enter the new root")?;
    root::attributes(Path::new("/"), false, sys::ATTR_RDONLY, 0)
}
