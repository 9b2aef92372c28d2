//! Which system call has which rule, per way into the kernel.
//!
//! The numbers above 402 are the same everywhere. The rings of keys are shared by all processes of a host uid; `syslog` shows the kernel's
//! log where the host does not forbid it; `ustat` tells the free space of any file system; a group of `fanotify` sees who else opens an
//! input. `fallocate` takes any amount of the disk in no time, and the contexts of `io_setup` are counted for the whole machine: nobody could
//! see in time that a neighbour runs short. Left alone on purpose: `name_to_handle_at` (opening by handle is what is denied), `clone3` (its flags are behind a pointer, and the C
//! library uses it), `kcmp`, `ptrace` and their like (they end at the process id namespace). Sources: arch/x86/entry/syscalls/syscall_{64,32}.tbl and
//! include/uapi/asm-generic/unistd.h of Linux.

use libc::{ENOSYS, EOPNOTSUPP, EPERM};

use super::{Arch, Rule};

#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

/// The same numbers on every machine.
///
/// - `openat2` hides its mode behind a pointer, so it looks like a kernel before 5.6 and programs fall back to `openat`.
/// - io_uring would do all of this without any system call.
/// - The mount calls of Linux 5.2 and later need rights that nobody inside has, all but `open_tree`, `statmount` and `listmount`, which
///   tell about mounts what /proc/self/mountinfo does not. Programs fall back to the older calls.
/// - `memfd_secret` tears holes into the kernel's map of all memory, `cachestat` shows whether others read a file lately, `quotactl_fd`
///   makes the whole file system write its quotas, `lsm_*` tell how the host is secured.
/// - `file_setattr` sets extent sizes: then one byte takes gigabytes of the disk.
const EVERYWHERE: [(u32, Rule); 27] = [
    (425, Rule::Deny(ENOSYS)),     // io_uring_setup
    (426, Rule::Deny(ENOSYS)),     // io_uring_enter
    (427, Rule::Deny(ENOSYS)),     // io_uring_register
    (428, Rule::Deny(ENOSYS)),     // open_tree
    (429, Rule::Deny(ENOSYS)),     // move_mount
    (430, Rule::Deny(ENOSYS)),     // fsopen
    (431, Rule::Deny(ENOSYS)),     // fsconfig
    (432, Rule::Deny(ENOSYS)),     // fsmount
    (433, Rule::Deny(ENOSYS)),     // fspick
    (437, Rule::Deny(ENOSYS)),     // openat2
    (442, Rule::Deny(ENOSYS)),     // mount_setattr
    (443, Rule::Deny(ENOSYS)),     // quotactl_fd
    (447, Rule::Deny(ENOSYS)),     // memfd_secret
    (451, Rule::Deny(ENOSYS)),     // cachestat
    (452, Rule::SetIdMode(2)),     // fchmodat2
    (457, Rule::Deny(ENOSYS)),     // statmount
    (458, Rule::Deny(ENOSYS)),     // listmount
    (459, Rule::Deny(ENOSYS)),     // lsm_get_self_attr
    (460, Rule::Deny(ENOSYS)),     // lsm_set_self_attr
    (461, Rule::Deny(ENOSYS)),     // lsm_list_modules
    (463, Rule::Deny(EOPNOTSUPP)), // setxattrat
    (464, Rule::Deny(EOPNOTSUPP)), // getxattrat
    (465, Rule::Deny(EOPNOTSUPP)), // listxattrat
    (466, Rule::Deny(EOPNOTSUPP)), // removexattrat
    (467, Rule::Deny(ENOSYS)),     // open_tree_attr
    (469, Rule::Deny(ENOSYS)),     // file_setattr
    (470, Rule::Deny(ENOSYS)),     // listns
];

#[cfg(target_arch = "x86_64")]
pub(super) fn arches() -> Vec<Arch> {
    vec![
        Arch {
            audit: 0xc000_003e,
            mask: !X32_BIT,
            rules: x86_64(),
        },
        Arch {
            audit: 0x4000_0003,
            mask: u32::MAX,
            rules: i386(),
        },
    ]
}

#[cfg(target_arch = "x86_64")]
fn x86_64() -> Vec<(u32, Rule)> {
    let mut rules = vec![
        (2, Rule::SetIdOpen { flags: 1, mode: 2 }),   // open
        (257, Rule::SetIdOpen { flags: 2, mode: 3 }), // openat
        (85, Rule::SetIdMode(1)),                     // creat
        (90, Rule::SetIdMode(1)),                     // chmod
        (91, Rule::SetIdMode(1)),                     // fchmod
        (268, Rule::SetIdMode(2)),                    // fchmodat
        (133, Rule::SetIdMode(1)),                    // mknod
        (259, Rule::SetIdMode(2)),                    // mknodat
        (41, Rule::SocketFamily),                     // socket
        (53, Rule::SocketFamily),                     // socketpair
        (248, Rule::Deny(ENOSYS)),                    // add_key
        (249, Rule::Deny(ENOSYS)),                    // request_key
        (250, Rule::Deny(ENOSYS)),                    // keyctl
        (246, Rule::Deny(EPERM)),                     // kexec_load
        (528, Rule::Deny(EPERM)),                     // kexec_load of x32
        (320, Rule::Deny(EPERM)),                     // kexec_file_load
        (298, Rule::Deny(EPERM)),                     // perf_event_open
        (304, Rule::Deny(EPERM)),                     // open_by_handle_at
        (321, Rule::Deny(EPERM)),                     // bpf
        (323, Rule::Deny(ENOSYS)),                    // userfaultfd
        (103, Rule::Deny(EPERM)),                     // syslog
        (300, Rule::Deny(EPERM)),                     // fanotify_init
        (136, Rule::Deny(ENOSYS)),                    // ustat
        (179, Rule::Deny(ENOSYS)),                    // quotactl
        (16, Rule::Ioctl),                            // ioctl
        (514, Rule::Ioctl),                           // ioctl of x32
        (285, Rule::TakeSpace(1)),                    // fallocate
        (206, Rule::Deny(ENOSYS)),                    // io_setup
        (543, Rule::Deny(ENOSYS)),                    // io_setup of x32
        (160, Rule::CoreLimit),                       // setrlimit
        (302, Rule::CoreLimitOf),                     // prlimit64
    ];
    // setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr
    rules.extend((188..=199).map(|number| (number, Rule::Deny(EOPNOTSUPP))));
    rules.extend(EVERYWHERE);
    rules
}

#[cfg(target_arch = "x86_64")]
fn i386() -> Vec<(u32, Rule)> {
    let mut rules = vec![
        (5, Rule::SetIdOpen { flags: 1, mode: 2 }),   // open
        (295, Rule::SetIdOpen { flags: 2, mode: 3 }), // openat
        (8, Rule::SetIdMode(1)),                      // creat
        (15, Rule::SetIdMode(1)),                     // chmod
        (94, Rule::SetIdMode(1)),                     // fchmod
        (306, Rule::SetIdMode(2)),                    // fchmodat
        (14, Rule::SetIdMode(1)),                     // mknod
        (297, Rule::SetIdMode(2)),                    // mknodat
        (359, Rule::SocketFamily),                    // socket
        (360, Rule::SocketFamily),                    // socketpair
        (102, Rule::Deny(ENOSYS)),                    // socketcall: hides the family behind a pointer
        (286, Rule::Deny(ENOSYS)),                    // add_key
        (287, Rule::Deny(ENOSYS)),                    // request_key
        (288, Rule::Deny(ENOSYS)),                    // keyctl
        (283, Rule::Deny(EPERM)),                     // kexec_load
        (336, Rule::Deny(EPERM)),                     // perf_event_open
        (342, Rule::Deny(EPERM)),                     // open_by_handle_at
        (357, Rule::Deny(EPERM)),                     // bpf
        (374, Rule::Deny(ENOSYS)),                    // userfaultfd
        (103, Rule::Deny(EPERM)),                     // syslog
        (338, Rule::Deny(EPERM)),                     // fanotify_init
        (62, Rule::Deny(ENOSYS)),                     // ustat
        (131, Rule::Deny(ENOSYS)),                    // quotactl
        (54, Rule::Ioctl),                            // ioctl
        (324, Rule::TakeSpace(1)),                    // fallocate
        (245, Rule::Deny(ENOSYS)),                    // io_setup
        (75, Rule::CoreLimit),                        // setrlimit
        (340, Rule::CoreLimitOf),                     // prlimit64
    ];
    rules.extend((226..=237).map(|number| (number, Rule::Deny(EOPNOTSUPP))));
    rules.extend(EVERYWHERE);
    rules
}

#[cfg(target_arch = "aarch64")]
pub(super) fn arches() -> Vec<Arch> {
    let mut rules = vec![
        (56, Rule::SetIdOpen { flags: 2, mode: 3 }), // openat
        (52, Rule::SetIdMode(1)),                    // fchmod
        (53, Rule::SetIdMode(2)),                    // fchmodat
        (33, Rule::SetIdMode(2)),                    // mknodat
        (198, Rule::SocketFamily),                   // socket
        (199, Rule::SocketFamily),                   // socketpair
        (217, Rule::Deny(ENOSYS)),                   // add_key
        (218, Rule::Deny(ENOSYS)),                   // request_key
        (219, Rule::Deny(ENOSYS)),                   // keyctl
        (104, Rule::Deny(EPERM)),                    // kexec_load
        (294, Rule::Deny(EPERM)),                    // kexec_file_load
        (241, Rule::Deny(EPERM)),                    // perf_event_open
        (265, Rule::Deny(EPERM)),                    // open_by_handle_at
        (280, Rule::Deny(EPERM)),                    // bpf
        (282, Rule::Deny(ENOSYS)),                   // userfaultfd
        (116, Rule::Deny(EPERM)),                    // syslog
        (262, Rule::Deny(EPERM)),                    // fanotify_init
        (60, Rule::Deny(ENOSYS)),                    // quotactl
        (29, Rule::Ioctl),                           // ioctl
        (47, Rule::TakeSpace(1)),                    // fallocate
        (0, Rule::Deny(ENOSYS)),                     // io_setup
        (164, Rule::CoreLimit),                      // setrlimit
        (261, Rule::CoreLimitOf),                    // prlimit64
    ];
    rules.extend((5..=16).map(|number| (number, Rule::Deny(EOPNOTSUPP))));
    rules.extend(EVERYWHERE);
    vec![Arch {
        audit: 0xc000_00b7,
        mask: u32::MAX,
        rules,
    }]
}
