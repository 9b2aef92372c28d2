//! Every attempt, and what must come of it on each backend.

use crate::Outcome;
use crate::probes::{calls, files, host, inputs, marks, mounts, proc, processes, sockets, special, terminal};

/// Where the attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Firn's namespaces, made by root.
    Root,
    /// Firn's namespaces, made by an ordinary user.
    User,
    /// A virtual machine. What is reached or leaks there is its own, and it lives for one build.
    Machine,
    /// Root's, of a fixed-output build that has a network.
    Fixed,
    /// The sandbox of the Nix that is installed: asked and printed for comparison, never asserted.
    Nix,
}

/// What must come of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One of these words of [`Outcome`]. A word that ends in `*` stands for all that begin so.
    Is(&'static [&'static str]),
    /// Nobody has looked yet.
    Unseen,
}

impl Answer {
    /// Whether an outcome, in words, is what must come.
    #[must_use]
    pub fn allows(self, outcome: &str) -> bool {
        match self {
            Self::Unseen => true,
            Self::Is(words) => words.iter().any(|word| match word.strip_suffix('*') {
                Some(beginning) => outcome.starts_with(beginning),
                None => *word == outcome,
            }),
        }
    }
}

/// An attempt that harms nobody.
#[derive(Debug)]
pub struct Threat {
    /// Its name, the argument of `attack`.
    pub id: &'static str,
    /// The row of the list of threats.
    pub row: u8,
    /// What it is, in a few words.
    pub what: &'static str,
    pub(crate) probe: fn() -> Outcome,
    root: Answer,
    user: Answer,
    machine: Answer,
    fixed: Answer,
}

impl Threat {
    /// What must come of it there.
    #[must_use]
    pub const fn answer(&self, column: Column) -> Answer {
        match column {
            Column::Root => self.root,
            Column::User => self.user,
            Column::Machine => self.machine,
            Column::Fixed => self.fixed,
            // It depends on the version.
            Column::Nix => Answer::Unseen,
        }
    }

    /// Where builds in a machine differ from root's.
    const fn machine(mut self, words: &'static [&'static str]) -> Self {
        self.machine = Answer::Is(words);
        self
    }

    /// Where root's builds with a network differ from those without.
    const fn fixed(mut self, answer: Answer) -> Self {
        self.fixed = answer;
        self
    }

    /// Where an ordinary user's builds differ from root's.
    const fn user(mut self, words: &'static [&'static str]) -> Self {
        self.user = Answer::Is(words);
        self
    }
}

/// An attempt with the same answer everywhere.
const fn threat(
    row: u8,
    id: &'static str,
    what: &'static str,
    probe: fn() -> Outcome,
    words: &'static [&'static str],
) -> Threat {
    let answer = Answer::Is(words);
    Threat {
        id,
        row,
        what,
        probe,
        root: answer,
        user: answer,
        machine: answer,
        fixed: answer,
    }
}

const ENOSYS: &[&str] = &["denied:ENOSYS"];
const EPERM: &[&str] = &["denied:EPERM"];
const EACCES: &[&str] = &["denied:EACCES"];
/// A read-only mount, or somebody else's.
const UNCHANGED: &[&str] = &["denied:EROFS", "denied:EPERM", "denied:EACCES"];
const ENOTSUP: &[&str] = &["denied:ENOTSUP"];
const ENOENT: &[&str] = &["denied:ENOENT"];
const ESRCH: &[&str] = &["denied:ESRCH"];
const FAMILY: &[&str] = &["denied:EAFNOSUPPORT"];
const UNREACHABLE: &[&str] = &["denied:ENETUNREACH"];
/// Where there is IPv6, the kernel tells of what is forbidden in another way.
const NOT_BY_V6: &[&str] = &["denied:ENETUNREACH", "denied:EACCES"];
const REFUSED: &[&str] = &["denied:ECONNREFUSED"];
/// Kernels without the door say that there is none.
const OR_NO_DOOR: &[&str] = &["denied:EAFNOSUPPORT", "denied:ENOSYS"];
const NOTHING: &[&str] = &["empty", "absent"];
const HIDDEN: &[&str] = &["hidden"];
/// Reached, and known: docs/sandbox.md says why, under "What remains".
const REMAINS: &[&str] = &["reached"];
const LEAKS: &[&str] = &["leaked:*"];
const ALL_THERE: &[&str] = &["value:all there"];
/// Older kernels, such as a guest's 6.1, show the length of queues to the first user namespace only.
const OR_WITHOUT_QUEUE: &[&str] = &["value:all there", "value:sys/net/core/somaxconn"];

/// By row of the list of threats.
#[rustfmt::skip]
pub const THREATS: &[Threat] = &[
    threat(1, "vsock", "a socket to the hypervisor, which no network namespace holds back", sockets::vsock, FAMILY),
    threat(1, "vsock-pair", "two of them", sockets::vsock_pair, FAMILY),
    #[cfg(target_arch = "x86_64")]
    threat(1, "vsock-x32", "by the x32 door", sockets::vsock_x32, OR_NO_DOOR),
    #[cfg(target_arch = "x86_64")]
    threat(1, "vsock-i386", "by the 32-bit door", sockets::vsock_i386, FAMILY),
    #[cfg(target_arch = "x86_64")]
    threat(1, "vsock-socketcall", "by socketcall of the 32-bit door", sockets::vsock_socketcall, ENOSYS),
    threat(1, "families", "every family of sockets: unix, inet, inet6, netlink remain", sockets::families, &["value:1,2,10,16"]),
    threat(1, "packet", "everything that goes by on the network", sockets::packet, FAMILY),
    threat(1, "alg", "the cryptography of the kernel", sockets::alg, FAMILY),
    threat(2, "raw-inet", "packets of one's own making", sockets::raw_inet, EPERM),
    threat(2, "outside", "the internet", sockets::outside, UNREACHABLE).fixed(Answer::Unseen),
    threat(2, "outside-v6", "by IPv6", sockets::outside_v6, UNREACHABLE).fixed(Answer::Unseen),
    threat(2, "outside-udp", "by UDP", sockets::outside_udp, UNREACHABLE).fixed(Answer::Unseen),
    threat(2, "metadata", "the secrets of a machine in a cloud", sockets::metadata, UNREACHABLE),
    threat(2, "host-loopback", "a service on the host's loopback device", sockets::host_loopback, REFUSED),
    threat(2, "interfaces", "network devices", sockets::interfaces, &["value:lo"]).fixed(Answer::Is(&["value:lo,net0"])),
    threat(2, "own-address", "a service on an address of the host that others can see", special::own_address, UNREACHABLE),
    threat(2, "own-address-mapped", "the same, written as IPv6", special::own_address_mapped, UNREACHABLE),
    threat(2, "private", "private networks, and other special ranges", special::private, UNREACHABLE),
    threat(2, "private-v6", "by IPv6", special::private_v6, NOT_BY_V6),
    threat(2, "resolver", "other services of the host's resolver", special::resolver, UNREACHABLE),
    threat(2, "low-port", "the port of a service of the system", special::low_port, EACCES),
    threat(2, "interface-down", "switch one off", sockets::interface_down, EPERM),
    threat(3, "abstract-socket", "an abstract unix socket of the host (CVE-2024-27297)", sockets::abstract_socket, REFUSED),
    threat(3, "path-socket", "a unix socket of the host by its path", sockets::path_socket, ENOENT),
    threat(4, "io-uring", "io_uring, which no filter of calls sees", calls::io_uring, ENOSYS),
    #[cfg(target_arch = "x86_64")]
    threat(4, "io-uring-i386", "by the 32-bit door", calls::io_uring_i386, ENOSYS),
    #[cfg(target_arch = "x86_64")]
    threat(4, "io-uring-x32", "by the x32 door", calls::io_uring_x32, ENOSYS),
    threat(11, "kill-all", "everybody whom a signal reaches", processes::kill_all, ESRCH),
    threat(11, "kill-host", "a process of the host, by its number", processes::kill_host, ESRCH),
    threat(11, "ptrace-host", "trace it", processes::ptrace_host, ESRCH),
    threat(11, "read-host-memory", "read its memory", processes::read_host_memory, ESRCH),
    threat(11, "pidfd-host", "hold it", processes::pidfd_host, &["denied:ESRCH", "denied:EINVAL"]),
    threat(11, "processes", "processes in /proc: the builder and the attempt", processes::visible, &["value:2"]),
    threat(11, "sysinfo", "the number of processes of the machine", processes::sysinfo, LEAKS),
    threat(12, "input-write", "an input, by writing", inputs::write, UNCHANGED),
    threat(12, "input-truncate", "an input, by emptying it", inputs::truncate, UNCHANGED),
    threat(12, "input-chmod", "its mode", inputs::chmod, UNCHANGED),
    threat(12, "input-chown", "its owner", inputs::chown, UNCHANGED),
    threat(12, "input-times", "its times", inputs::set_times, UNCHANGED),
    threat(12, "input-rename-file", "a name in it", inputs::rename_file, UNCHANGED),
    threat(12, "input-rename", "another tree in its place", inputs::rename_input, &["denied:EBUSY", "denied:EXDEV", "denied:EPERM"]),
    threat(12, "input-remove", "no tree in its place", inputs::remove_input, &["denied:EBUSY", "denied:EPERM"]),
    threat(12, "input-unlink", "a file out of it", inputs::unlink, UNCHANGED),
    threat(12, "input-create", "a file into it", inputs::create, UNCHANGED),
    threat(12, "input-link", "an output's name for its file", inputs::link, &["denied:EXDEV", "denied:EPERM"]),
    threat(12, "input-map", "its file as writable memory", inputs::map_writable, EACCES),
    threat(12, "input-flags", "its flags", inputs::set_flags, UNCHANGED),
    threat(12, "input-remount", "a writable mount of it", mounts::remount_input, EPERM),
    threat(12, "input-lock", "a lock that others wait for", inputs::lock, REMAINS),
    threat(12, "input-lease", "a lease that others wait for", inputs::lease, EACCES).user(REMAINS),
    threat(12, "input-watch", "news of who opens it", inputs::watch, REMAINS),
    threat(12, "input-cachestat", "whether it was read lately", inputs::cachestat, ENOSYS),
    threat(13, "host-file", "a file of the host", host::file, ENOENT),
    threat(13, "host-file-above", "above the root", host::file_above, ENOENT),
    threat(13, "host-file-of-builder", "below the root of process 1", host::file_of_builder, ENOENT),
    threat(13, "host-file-of-cwd", "above the working directory of process 1", host::file_of_cwd, ENOENT),
    threat(13, "host-builds", "the directory of all builds", host::builds, ENOENT),
    threat(13, "leftovers", "what earlier builds left in /tmp and /dev/shm", host::leftovers, &["value:0"]),
    threat(13, "write-root", "the root, /etc, /bin, /dev", host::write_root, &["value:none"]),
    threat(14, "proc-buddyinfo", "free memory of the machine, in detail", proc::buddyinfo, NOTHING),
    threat(14, "proc-bus", "devices of the host", proc::bus, NOTHING),
    threat(14, "proc-cgroups", "the number of control groups", proc::cgroups, NOTHING),
    threat(14, "proc-cmdline", "how the host was started", proc::cmdline, NOTHING),
    threat(14, "proc-crypto", "who uses the kernel's cryptography", proc::crypto, NOTHING),
    threat(14, "proc-diskstats", "use of disks", proc::diskstats, NOTHING),
    threat(14, "proc-fs", "disks and their file systems", proc::fs_dir, NOTHING),
    threat(14, "proc-file-nr", "the number of open files", proc::file_nr, NOTHING),
    threat(14, "proc-interrupts", "use of devices, to the keystroke", proc::interrupts, NOTHING),
    threat(14, "proc-iomem", "memory layout of the host", proc::iomem, NOTHING),
    threat(14, "proc-kallsyms", "where the kernel is", proc::kallsyms, NOTHING),
    threat(14, "proc-kcore", "the memory of the machine", proc::kcore, NOTHING),
    threat(14, "proc-key-users", "users with keys", proc::key_users, NOTHING),
    threat(14, "proc-keys", "keys", proc::keys, NOTHING),
    threat(14, "proc-kmsg", "the log of the kernel", proc::kmsg, NOTHING),
    threat(14, "proc-kpageflags", "every page of memory", proc::kpageflags, NOTHING),
    threat(14, "proc-locks", "locks on files", proc::locks, NOTHING),
    threat(14, "proc-modules", "drivers, and who uses them", proc::modules, NOTHING),
    threat(14, "proc-partitions", "disks", proc::partitions, NOTHING),
    threat(14, "proc-pressure", "how busy the others are, in detail", proc::pressure, NOTHING),
    threat(14, "proc-pty-nr", "the number of terminals, so of builds", proc::pty_nr, NOTHING),
    threat(14, "proc-sched-debug", "every process of the machine", proc::sched_debug, NOTHING),
    threat(14, "proc-schedstat", "how busy each processor is", proc::schedstat, NOTHING),
    threat(14, "proc-slabinfo", "memory of the kernel", proc::slabinfo, NOTHING),
    threat(14, "proc-softirqs", "use of devices", proc::softirqs, NOTHING),
    threat(14, "proc-swaps", "use of swap", proc::swaps, NOTHING),
    threat(14, "proc-timer-list", "timers of all processes", proc::timer_list, NOTHING),
    threat(14, "proc-vmallocinfo", "memory of the kernel", proc::vmallocinfo, NOTHING),
    threat(14, "proc-zoneinfo", "memory of the machine, in detail", proc::zoneinfo, NOTHING),
    threat(14, "proc-boot-id", "which machine this is", proc::boot_id, HIDDEN),
    threat(14, "proc-mountinfo", "directories of the host", proc::mountinfo, LEAKS).machine(HIDDEN),
    threat(14, "proc-mounts", "the same in the shorter list", proc::mounts, HIDDEN),
    threat(14, "proc-cgroup", "control groups of the host", proc::own_cgroup, HIDDEN),
    threat(14, "proc-uid-map", "which user of the host this is", proc::uid_map, LEAKS),
    threat(14, "proc-needed", "what builds need of /proc is there", proc::needed, ALL_THERE).machine(OR_WITHOUT_QUEUE),
    threat(14, "proc-write-hidden", "what lies before a hidden file", proc::write_hidden, &["denied:EROFS", "denied:EACCES"]),
    threat(14, "device-events", "what happens to devices of the host", sockets::device_events, HIDDEN),
    threat(14, "free-space", "how full the disk is", host::free_space, LEAKS),
    threat(14, "file-system-id", "a number that all builds of the host share", host::file_system_id, &["leaked:*", "denied:ENOTTY"]),
    threat(15, "set-id-openat", "a set-id bit by openat", marks::openat, EPERM),
    threat(15, "set-id-openat2", "by openat2", marks::openat2, ENOSYS),
    threat(15, "set-id-unnamed", "by a file that gets its name later", marks::unnamed, EPERM),
    threat(15, "set-id-mknodat", "by mknodat", marks::mknodat, EPERM),
    threat(15, "set-id-mkdirat", "by mkdirat, which leaves such bits out", marks::mkdirat, &["value:without the bit"]),
    threat(15, "set-id-fchmod", "by fchmod", marks::fchmod, EPERM),
    threat(15, "set-id-fchmodat", "by fchmodat", marks::fchmodat, EPERM),
    threat(15, "set-id-fchmodat2", "by fchmodat2", marks::fchmodat2, EPERM),
    #[cfg(target_arch = "x86_64")]
    threat(15, "set-id-open", "by open", marks::x86::open, EPERM),
    #[cfg(target_arch = "x86_64")]
    threat(15, "set-id-creat", "by creat", marks::x86::creat, EPERM),
    #[cfg(target_arch = "x86_64")]
    threat(15, "set-id-mknod", "by mknod", marks::x86::mknod, EPERM),
    #[cfg(target_arch = "x86_64")]
    threat(15, "set-id-chmod", "by chmod", marks::x86::chmod, EPERM),
    #[cfg(target_arch = "x86_64")]
    threat(15, "set-id-chmod-x32", "by chmod of the x32 door", marks::x86::chmod_x32, EPERM),
    #[cfg(target_arch = "x86_64")]
    threat(15, "set-id-chmod-i386", "by chmod of the 32-bit door", marks::x86::chmod_i386, EPERM),
    #[cfg(target_arch = "x86_64")]
    threat(15, "set-id-open-i386", "by open of the 32-bit door", marks::x86::open_i386, EPERM),
    #[cfg(target_arch = "x86_64")]
    threat(15, "set-id-creat-i386", "by creat of the 32-bit door", marks::x86::creat_i386, EPERM),
    #[cfg(target_arch = "x86_64")]
    threat(15, "set-id-fchmodat2-i386", "by fchmodat2 of the 32-bit door", marks::x86::fchmodat2_i386, EPERM),
    threat(16, "memory-device", "the memory of the machine as a file", files::memory_device, EPERM),
    threat(16, "disk-device", "a disk of the machine as a file", files::disk_device, EPERM),
    threat(16, "whiteout", "what an overlay takes for removed: the collector refuses it", files::whiteout, REMAINS),
    threat(16, "whiteout-in-store", "the same where outputs are made", files::whiteout_in_store, &["reached", "denied:EPERM"]),
    threat(16, "fifo", "a fifo: the collector refuses it", files::fifo, REMAINS),
    threat(16, "give-away", "a file of somebody else's", files::give_away, &["denied:EINVAL", "denied:EPERM"]),
    threat(16, "devices", "devices beyond the usual", host::devices, &["value:none"]),
    threat(20, "setxattr", "extended attributes", marks::setxattr, ENOTSUP),
    threat(20, "acl", "an access control list", marks::acl, ENOTSUP),
    threat(20, "file-capability", "rights for whoever executes a file", marks::file_capability, ENOTSUP),
    threat(20, "fsetxattr", "by an open file", marks::fsetxattr, ENOTSUP),
    threat(20, "setxattrat", "by the newest call", marks::setxattrat, ENOTSUP),
    threat(20, "getxattr", "reading them", marks::getxattr, ENOTSUP),
    threat(20, "listxattr", "listing them", marks::listxattr, ENOTSUP),
    threat(20, "removexattr", "removing them", marks::removexattr, ENOTSUP),
    #[cfg(target_arch = "x86_64")]
    threat(20, "setxattr-i386", "by the 32-bit door", marks::x86::setxattr_i386, ENOTSUP),
    threat(21, "add-key", "the kernel's rings of keys, which builds of one user share", calls::add_key, ENOSYS),
    threat(21, "request-key", "a key that a program of the host makes", calls::request_key, ENOSYS),
    threat(21, "keyctl", "a ring by its name", calls::keyctl, ENOSYS),
    #[cfg(target_arch = "x86_64")]
    threat(21, "keyctl-i386", "by the 32-bit door", calls::keyctl_i386, ENOSYS),
    threat(22, "unshare-user", "a user namespace, the way to most holes", mounts::unshare_user, &["denied:ENOSPC"]),
    threat(22, "clone-user", "by clone", mounts::clone_user, &["denied:ENOSPC"]),
    threat(22, "clone3-user", "by clone3", mounts::clone3_user, &["denied:ENOSPC"]),
    threat(22, "allow-user", "allow user namespaces again", proc::write_user_namespaces, EACCES),
    threat(22, "unshare-mount", "a mount namespace", mounts::unshare_mount, EPERM),
    threat(22, "unshare-network", "a network namespace", mounts::unshare_network, EPERM),
    threat(22, "unshare-process", "a process namespace", mounts::unshare_process, EPERM),
    threat(22, "unshare-control-group", "a control group namespace", mounts::unshare_control_group, EPERM),
    threat(22, "setns", "the builder's mount namespace", mounts::setns, EPERM),
    threat(22, "mount", "a mount", mounts::mount_tmpfs, EPERM),
    threat(22, "mount-proc", "another /proc", mounts::mount_proc, EPERM),
    threat(22, "mount-bind", "a mount of what is there", mounts::mount_bind, EPERM),
    threat(22, "unmount", "what hides a file away", mounts::unmount, EPERM),
    threat(22, "pivot-root", "another root", mounts::pivot_root, EPERM),
    threat(22, "chroot", "another root for oneself", mounts::chroot, EPERM),
    threat(22, "open-tree", "the mount calls since Linux 5.2", mounts::open_tree, ENOSYS),
    threat(22, "open-tree-clone", "likewise", mounts::open_tree_clone, ENOSYS),
    threat(22, "move-mount", "likewise", mounts::move_mount, ENOSYS),
    threat(22, "fsopen", "likewise", mounts::fsopen, ENOSYS),
    threat(22, "fsconfig", "likewise", mounts::fsconfig, ENOSYS),
    threat(22, "fsmount", "likewise", mounts::fsmount, ENOSYS),
    threat(22, "fspick", "likewise", mounts::fspick, ENOSYS),
    threat(22, "mount-setattr", "likewise, for a writable input", mounts::mount_setattr, ENOSYS),
    #[cfg(target_arch = "x86_64")]
    threat(22, "fsopen-i386", "by the 32-bit door", mounts::fsopen_i386, ENOSYS),
    threat(22, "listmount", "all mounts", mounts::listmount, ENOSYS),
    threat(22, "statmount", "where a mount comes from", mounts::statmount, ENOSYS),
    threat(22, "name-to-handle", "a file's number: harmless alone", host::name_to_handle, REMAINS),
    threat(22, "open-by-handle", "any file by its number", host::open_by_handle, EPERM),
    threat(23, "descriptors", "open files of the service", host::descriptors, &["value:0,1,2"]),
    threat(24, "core-limit", "no program of the host for a crash: limits of 1", processes::core_limit, &["value:1,1"]),
    threat(24, "set-core-limit", "another limit", processes::set_core_limit, &["value:unchanged"]),
    threat(24, "write-core-pattern", "another program", proc::write_core_pattern, EACCES),
    threat(25, "push-input", "input for whoever reads the terminal", terminal::push_input, EPERM),
    threat(25, "line-discipline", "a driver of a modem", terminal::line_discipline, EPERM),
    threat(25, "console", "the console", terminal::console, EPERM),
    threat(25, "terminals", "all terminals of the machine", terminal::flood, &["value:256, then denied:ENOSPC"]),
    threat(25, "terminal-number", "the terminal's number on the host, so of builds", terminal::number, LEAKS),
    threat(25, "priority", "more time than others", processes::priority, EACCES),
    threat(25, "real-time", "all time", processes::real_time, EPERM),
    threat(25, "disk-priority", "more of the disk", processes::disk_priority, EPERM),
    threat(25, "oom-score", "that others are killed first", processes::oom_score, EACCES),
    threat(25, "become-root", "user 0", processes::become_root, &["denied:EINVAL", "denied:EPERM"]),
    threat(25, "groups", "other groups", processes::groups, EPERM),
    threat(25, "capabilities", "rights that it was left", processes::capabilities, &["value:none"]),
    threat(25, "regain-capabilities", "rights that it was not left", processes::regain_capabilities, EPERM),
    threat(25, "new-privileges", "no program gives any", processes::new_privileges, &["value:1"]),
    threat(25, "bpf", "a program in the kernel", calls::bpf, EPERM),
    threat(25, "perf", "the counters of the processor", calls::perf_event_open, EPERM),
    threat(25, "userfaultfd", "faults of memory at will", calls::userfaultfd, ENOSYS),
    threat(25, "memfd-secret", "holes in the kernel's map of memory", calls::memfd_secret, ENOSYS),
    threat(25, "kexec", "another kernel", calls::kexec_load, EPERM),
    threat(25, "kexec-file", "likewise", calls::kexec_file_load, EPERM),
    threat(25, "init-module", "a driver", calls::init_module, &["denied:EPERM", "denied:ENOSYS"]),
    threat(25, "finit-module", "likewise", calls::finit_module, &["denied:EPERM", "denied:ENOSYS"]),
    threat(25, "delete-module", "one less", calls::delete_module, &["denied:EPERM", "denied:ENOSYS"]),
    threat(25, "reboot", "a restart", calls::reboot, EPERM),
    threat(25, "swapon", "swap", calls::swapon, EPERM),
    threat(25, "swapoff", "no swap", calls::swapoff, EPERM),
    threat(25, "acct", "accounts of all processes", calls::acct, EPERM),
    threat(25, "set-time", "the clock", calls::set_time, EPERM),
    threat(25, "adjust-time", "its speed", calls::adjust_time, EPERM),
    #[cfg(target_arch = "x86_64")]
    threat(25, "io-ports", "devices by their ports", calls::io_ports, &["denied:EPERM", "denied:ENOSYS"]),
    threat(25, "syslog", "the log of the kernel", calls::syslog, EPERM),
    threat(25, "fanotify", "news of all files", calls::fanotify, EPERM),
    threat(25, "quotactl", "quotas written out, of all file systems", calls::quotactl, ENOSYS),
    threat(25, "quotactl-fd", "quotas", calls::quotactl_fd, ENOSYS),
    #[cfg(target_arch = "x86_64")]
    threat(25, "ustat", "how full any file system is", calls::ustat, ENOSYS),
    threat(25, "lsm-list", "how the host is secured", calls::lsm_list_modules, ENOSYS),
    threat(25, "lsm-self", "likewise", calls::lsm_get_self_attr, ENOSYS),
    threat(25, "hostname", "the name of the machine", calls::set_hostname, EPERM),
    threat(25, "domainname", "likewise", calls::set_domainname, EPERM),
    threat(25, "write-hostname", "by /proc", proc::write_hostname, EACCES),
    threat(25, "write-forwarding", "a setting of the network", proc::write_forwarding, EACCES),
    threat(25, "write-sysrq", "a key of the console", proc::write_sysrq, &["denied:EROFS", "denied:EACCES", "denied:ENOENT"]),
    #[cfg(target_arch = "x86_64")]
    threat(25, "big-number", "a call that is none", calls::big_number, ENOSYS),
    threat(29, "input-links", "names of its file: only its own", inputs::links, &["value:1"]),
    threat(29, "input-owner", "its owner", inputs::owner, &["value:65534"]).user(&["value:1000"]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_there_once() {
        let names: BTreeSet<_> = THREATS.iter().map(|threat| threat.id).collect();
        assert_eq!(names.len(), THREATS.len());
        let deeds: BTreeSet<_> = crate::DEEDS.iter().map(|deed| deed.id).collect();
        assert_eq!(deeds.len(), crate::DEEDS.len());
    }

    #[test]
    fn a_star_stands_for_the_rest() {
        assert!(Answer::Is(&["leaked:*"]).allows("leaked:this or that"));
        assert!(!Answer::Is(&["leaked"]).allows("leaked:this"));
        assert!(Answer::Unseen.allows("reached"));
    }
}
