//! The system call filter: what the sandboxed command is told it cannot do.
//!
//! Written as classic BPF by hand because it has to cover the three ways into an x86_64 kernel at once (x86_64, x32, i386), with a
//! list of numbers for each. The default is to allow: the command is an arbitrary compiler, and namespaces and missing
//! capabilities do the confining. Denied is what leaves marks that an output must not have (set-id bits, extended
//! attributes), what namespaces do not confine (odd socket families, io_uring, key rings), and what tells about the host or its other
//! users. [`numbers`] has the reasons.

mod assemble;
mod numbers;

pub(crate) use assemble::program;

/// What happens to a system call that is on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Fails with this error.
    Deny(i32),
    /// Fails with `EPERM` when this argument, a file mode, has a set-id bit.
    SetIdMode(u32),
    /// The same for open flags and mode; without `O_CREAT` and `O_TMPFILE` the mode is not looked at.
    SetIdOpen { flags: u32, mode: u32 },
    /// Fails with `EAFNOSUPPORT` unless the first argument is a family that network namespaces confine.
    SocketFamily,
    /// Fails when the request puts bytes into a terminal's input, changes its line discipline (a door to old drivers), or takes any
    /// amount of a disk at once.
    Ioctl,
    /// Fails with `EOPNOTSUPP`, as on a file system that cannot do it, unless this argument, a mode of `fallocate`, makes a hole.
    TakeSpace(u32),
    /// Does nothing, successfully, when the limit to be set is the one on core dumps. See `confine::no_core_dumps`.
    CoreLimit,
    /// The same for `prlimit64`, which may also just ask; `EPERM` when it asks and sets at once.
    CoreLimitOf,
}

/// One way into the kernel.
struct Arch {
    /// `AUDIT_ARCH_*`.
    audit: u32,
    /// Bits of the system call number that count (all but the x32 flag).
    mask: u32,
    rules: Vec<(u32, Rule)>,
}
