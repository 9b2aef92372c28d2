//! Linux calls that rustix does not have.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use rustix::process::Pid;

/// `MOUNT_ATTR_*` of linux/mount.h.
pub(crate) const ATTR_RDONLY: u64 = 0x1;
pub(crate) const ATTR_NOSUID: u64 = 0x2;
pub(crate) const ATTR_NODEV: u64 = 0x4;
pub(crate) const ATTR_NOEXEC: u64 = 0x8;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Which side of a [`clone`] this is.
pub(crate) enum Cloned {
    Child,
    Parent { pid: Pid, pidfd: OwnedFd },
}

/// Fork with additional clone flags.
///
/// # Safety
/// As after fork(2): when the process has other threads, the child may only make system calls until it ends.
pub(crate) unsafe fn clone(flags: libc::c_int) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let flags = libc::c_long::from(flags | libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: no CLONE_VM and no new stack: the child goes on with a copy of everything, as after fork. The third
    // argument is where CLONE_PIDFD puts the descriptor on x86_64 and aarch64 alike; it outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, &raw mut pidfd, 0usize, 0usize) };
    let Some(pid) = Pid::from_raw(check(pid)? as i32) else {
        return Ok(Cloned::Child);
    };
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid, pidfd })
}

/// Leave some namespaces of this process for new ones.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: only namespace flags are passed by this crate (no CLONE_FILES, whose effect on descriptors is the unsafe one).
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// Change attributes of the mount at `path` (relative to `dir`; empty for `dir` itself), or of all below it too.
pub(crate) fn mount_setattr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    set: u64,
    clear: u64,
) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attr = MountAttr {
        set,
        clear,
        propagation: 0,
        userns_fd: 0,
    };
    let mut flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path ends with NUL, and `attr` has the layout and the size of struct mount_attr (version 0); both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}

/// Have every descriptor from `first` on closed by the next execve.
pub(crate) fn close_on_exec_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: marks descriptors and closes none, so no owner of one is surprised.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        )
    };
    check(result).map(drop)
}

/// Close every descriptor from `first` on.
///
/// # Safety
/// Nobody may use, or close, what had one of them.
pub(crate) unsafe fn close_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: takes numbers; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    check(result).map(drop)
}

/// Join namespaces of a process.
pub(crate) fn join_namespaces(of: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes numbers; no flag for descriptors exists.
    check(unsafe { libc::setns(of.as_raw_fd(), flags) }.into()).map(drop)
}

/// Make a network device of this network namespace whose packets (IP, with nothing before it) the descriptor of `/dev/net/tun` reads and writes. Its number.
pub(crate) fn make_tun(tun: BorrowedFd<'_>, name: &CStr) -> io::Result<u32> {
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    // SAFETY: ifreq is plain data, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, &from) in request.ifr_name.iter_mut().zip(name.to_bytes_with_nul()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes an ifreq, which outlives the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF as _, &raw mut request) }.into())?;
    // SAFETY: a C string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// What a child ended with.
pub(crate) struct Reaped {
    pub(crate) status: libc::c_int,
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) max_rss_bytes: u64,
}

/// Wait for a child and take its resource usage.
pub(crate) fn wait(pid: Pid) -> io::Result<Reaped> {
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live locals of the right types.
        let result = unsafe { libc::wait4(pid.as_raw_nonzero().get(), &mut status, 0, &mut usage) };
        match check(result.into()) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.max(0) as u64) + Duration::from_micros(t.tv_usec.max(0) as u64)
    };
    Ok(Reaped {
        status,
        user: time(usage.ru_utime),
        system: time(usage.ru_stime),
        max_rss_bytes: usage.ru_maxrss.max(0) as u64 * 1024,
    })
}

/// Give every signal its default action and block none. Not by way of libc, which keeps signals 32 and 33 for itself: a
/// process that started this one may have had them ignored, and that is inherited.
pub(crate) fn reset_signals() {
    const WORDS: usize = 4;
    const MASK_BYTES: usize = 8;
    let default = [0usize; WORDS];
    let none = [0u64; 1];
    // SAFETY: the kernel's own struct sigaction is at most four words on x86_64 and arm64, and all zero means the default action,
    // no flags, an empty mask. It fails and changes nothing for SIGKILL and SIGSTOP. The mask is 64 bits.
    unsafe {
        for signal in 1..=64 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u8>(),
                MASK_BYTES,
            );
        }
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            none.as_ptr(),
            ptr::null_mut::<u8>(),
            MASK_BYTES,
        );
    }
}

/// The scheduling of a process that nobody has changed: the usual policy, no priority, every processor that its group may use, no class for
/// its disk access, the usual slack of timers. As far as the rights go.
pub(crate) fn plain_scheduling() {
    const SLACK_NANOS: libc::c_ulong = 50_000;
    const WHO_PROCESS: libc::c_int = 1;
    // Every processor that any kernel knows.
    let every = [u8::MAX; 1024];
    // SAFETY: sched_param is plain data, for which zero is a value.
    let plain: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: numbers, and pointers to locals that outlive the calls, which read them; sizes are theirs.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const plain);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        libc::syscall(libc::SYS_sched_setaffinity, 0, every.len(), every.as_ptr());
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, 0);
        libc::prctl(libc::PR_SET_TIMERSLACK, SLACK_NANOS);
    }
}

/// Memory as of a process that nobody has changed: large pages as the machine has them, from every node, and no policy for broken ones.
pub(crate) fn plain_memory() {
    const DEFAULT_POLICY: libc::c_int = 0;
    const NO_NODES: usize = 0;
    let zero: libc::c_ulong = 0;
    // SAFETY: takes numbers; no nodes means that there is no list to be read.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, zero, zero, zero, zero);
        libc::prctl(
            libc::PR_MCE_KILL,
            libc::PR_MCE_KILL_CLEAR as libc::c_ulong,
            zero,
            zero,
            zero,
        );
        libc::syscall(
            libc::SYS_set_mempolicy,
            DEFAULT_POLICY,
            ptr::null::<u8>(),
            NO_NODES,
        );
    }
}

/// Leave the ring of keys of the session.
pub(crate) fn fresh_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: takes a number; no name means a new ring without one.
    check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, ptr::null::<u8>()) }).map(drop)
}

/// Set the execution domain.
pub(crate) fn personality(persona: libc::c_ulong) -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::personality(persona) }.into()).map(drop)
}

/// Filter the system calls of this thread from now on. Needs `no_new_privs`.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::other("seccomp program too long"))?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel copies and does not write them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    check(result).map(drop)
}

/// Whether filters can be installed and can answer with an error.
pub(crate) fn seccomp_available() -> io::Result<()> {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: reads a u32 that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    };
    check(result).map(drop)
}

/// Keep this process from connecting to abstract unix sockets made outside of it, and from signalling processes outside of it.
/// `Ok(false)`: the kernel cannot.
pub(crate) fn scope() -> io::Result<bool> {
    #[repr(C)]
    struct RulesetAttr {
        handled_access_fs: u64,
        handled_access_net: u64,
        scoped: u64,
    }
    const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
    const SCOPE_SIGNAL: u64 = 2;
    if landlock_abi() < 6 {
        return Ok(false);
    }
    let attr = RulesetAttr {
        handled_access_fs: 0,
        handled_access_net: 0,
        scoped: SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL,
    };
    // SAFETY: `attr` has the layout of struct landlock_ruleset_attr of ABI 6 and outlives the call.
    let ruleset = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attr,
            size_of::<RulesetAttr>(),
            0,
        )
    })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset as i32) };
    // SAFETY: takes numbers.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })?;
    Ok(true)
}

/// Version of the Landlock interface, 0 when there is none.
pub(crate) fn landlock_abi() -> i64 {
    const CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: the null pointer with size 0 is what asks for the version.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<u8>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    version.max(0)
}

/// Become another program. Returns only to say why not.
pub(crate) fn execve(
    program: &CStr,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
) -> io::Error {
    debug_assert!(argv.last().is_some_and(|p| p.is_null()) && envp.last().is_some_and(|p| p.is_null()));
    // SAFETY: the caller passes arrays of C strings that end with a null pointer (asserted above), alive during the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// End at once, without destructors or exit handlers.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Bring the loopback device of this network namespace up; the kernel then gives it 127.0.0.1 and ::1.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, &from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_LOOPBACK | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into())
        .map(drop)
}
