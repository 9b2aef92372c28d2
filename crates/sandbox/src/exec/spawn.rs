//! The child: how it comes to be and what is said between it and the helper.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::{Pid, Signal, pidfd_send_signal};

use super::io_ext::Named;
use super::{child, idmap};
use crate::SandboxSpec;
use crate::sys::{self, Cloned};

/// Longest message.
pub(super) const MESSAGE: usize = 8 << 10;

// One message is one packet; its first byte says what it is.
/// To the child, at the beginning: your ids are set (an ordinary user's); then: you are in your control groups; the answer to [`MAP`]
/// and to [`READY`].
pub(super) const GO: u8 = b'g';
/// To the helper: I am in my user namespace, write its maps.
pub(super) const MAP: u8 = b'm';
/// To the helper: I am in my network namespace, connect it.
pub(super) const CONNECT: u8 = b'c';
/// To the helper: the sandbox could not be set up; text follows.
pub(super) const FAILED: u8 = b'f';
/// To the helper: everything is ready, may I execute the program? When nothing but the end of the file follows, that worked.
pub(super) const READY: u8 = b'r';
/// To the helper: the program could not be executed; text follows.
pub(super) const NO_EXEC: u8 = b'x';

pub(super) struct Child {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    /// Reaches its end when the command has been executed.
    pub(super) socket: OwnedFd,
}

impl Child {
    /// Kills it and with it its process id namespace. It stays a zombie, so the id cannot be anybody else's.
    pub(super) fn kill(&self) {
        // The only error is that it has ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    fn dies(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let soon = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&soon)).is_ok_and(|ready| ready > 0)
    }

    pub(super) fn go(&self) -> Result<(), String> {
        tell(&self.socket, GO, "").named(|| "talk to the first process of the sandbox")
    }
}

/// Whether the helper has the rights to prepare everything before it enters a user namespace.
pub(super) fn privileged() -> bool {
    rustix::process::geteuid().is_root()
}

/// The flag for a network of its own. It is always made together with the user namespace, and so belongs to it: the kernel tells of all
/// devices of the host in every network namespace that belongs to the host's own users.
pub(super) const NETWORK: libc::c_int = libc::CLONE_NEWNET;

/// As root, only the namespaces that hold resources: the tree of mounts is then made with the rights of root (which alone can reach
/// the sources), and belongs to the namespace of root, so that nothing inside can ever change it. The child enters its
/// user namespace when all is done. An ordinary user needs the user namespace first to be allowed the rest.
pub(super) fn spawn(spec: &SandboxSpec, slave: OwnedFd) -> Result<Child, String> {
    match (privileged(), spec.host_ids) {
        (true, None) => return Err("running as root needs host_ids: root is never mapped".to_owned()),
        (false, Some(_)) => {
            return Err("host_ids need root; an ordinary user can only stand for itself".to_owned());
        }
        _ => {}
    }
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if !privileged() {
        flags |= libc::CLONE_NEWUSER | NETWORK;
    }
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .named(|| "socketpair")?;
    // SAFETY: the helper has one thread.
    let cloned = unsafe { sys::clone(flags) }.named(|| {
        format!("clone into new namespaces (flags {flags:#x}; user, mount, pid, ipc, uts and net namespaces are needed)")
    })?;
    let (pid, pidfd) = match cloned {
        Cloned::Child => {
            drop(ours);
            child::enter(spec, theirs, slave);
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    let child = Child {
        pid,
        pidfd,
        socket: ours,
    };
    prepare(&child, spec).inspect_err(|_| {
        child.kill();
        let _ = sys::wait(child.pid);
    })?;
    Ok(child)
}

fn prepare(child: &Child, spec: &SandboxSpec) -> Result<(), String> {
    if !privileged() {
        idmap::write(child.pid, spec)?;
    }
    child.go()?;
    // Moving a process waits for all processors (version 1: ten milliseconds and more); the child makes its root meanwhile.
    match join(child.pid, spec).and_then(|()| child.go()) {
        // It has ended, or is about to, with a better reason, which is still to be heard.
        Err(_) if child.dies() => Ok(()),
        outcome => outcome,
    }
}

pub(super) fn join(process: Pid, spec: &SandboxSpec) -> Result<(), String> {
    for group in &spec.cgroups {
        let path = group.join("cgroup.procs");
        fs::write(&path, process.as_raw_nonzero().to_string())
            .named(|| format!("join control group {}", path.display()))?;
    }
    Ok(())
}

/// Send one message. Never raises SIGPIPE.
pub(super) fn tell(to: impl AsFd, kind: u8, text: &str) -> rustix::io::Result<()> {
    let mut message = vec![kind];
    message.extend(text.bytes().take(MESSAGE - 1));
    send(to, &message, SendFlags::NOSIGNAL).map(drop)
}

/// Receive one message, or `None` at the end.
pub(super) fn hear(from: impl AsFd) -> rustix::io::Result<Option<(u8, String)>> {
    let mut message = [0; MESSAGE];
    let mut receive = || rustix::io::retry_on_intr(|| recv(&from, &mut message, RecvFlags::empty()));
    let (length, _) = match receive() {
        // Told once of one who left something unread. What it said before is still there.
        Err(Errno::CONNRESET) => receive()?,
        received => received?,
    };
    let (kind, text) = match message.get(..length).and_then(<[u8]>::split_first) {
        Some(parts) => parts,
        None => return Ok(None),
    };
    Ok(Some((
        *kind,
        text.utf8_chunks().map(|chunk| chunk.valid()).collect(),
    )))
}
