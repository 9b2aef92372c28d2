//! Which system call has which rule, per way into the kernel.
//!
//! Numbers above 402 are the same everywhere. Sources: arch/x86/entry/syscalls/syscall_{64,32}.tbl and
//! include/uapi/asm-generic/unistd.h of Linux.

use libc::{ENOSYS, EOPNOTSUPP, EPERM};

use super::{Arch, Rule};

#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

/// `openat2` hides its mode behind a pointer, so it looks like a kernel before 5.6 and programs fall back to `openat`.
/// io_uring would do all of this without any system call. The rings of keys are shared by all processes of a host uid.
const EVERYWHERE: [(u32, Rule); 9] = [
    (425, Rule::Deny(ENOSYS)),     // io_uring_setup
    (426, Rule::Deny(ENOSYS)),     // io_uring_enter
    (427, Rule::Deny(ENOSYS)),     // io_uring_register
    (437, Rule::Deny(ENOSYS)),     // openat2
    (452, Rule::SetIdMode(2)),     // fchmodat2
    (463, Rule::Deny(EOPNOTSUPP)), // setxattrat
    (464, Rule::Deny(EOPNOTSUPP)), // getxattrat
    (465, Rule::Deny(EOPNOTSUPP)), // listxattrat
    (466, Rule::Deny(EOPNOTSUPP)), // removexattrat
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
    ];
    // setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
    rules.extend((188..=196).map(|number| (number, Rule::Deny(EOPNOTSUPP))));
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
    ];
    rules.extend((226..=234).map(|number| (number, Rule::Deny(EOPNOTSUPP))));
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
    ];
    rules.extend((5..=13).map(|number| (number, Rule::Deny(EOPNOTSUPP))));
    rules.extend(EVERYWHERE);
    vec![Arch {
        audit: 0xc000_00b7,
        mask: u32::MAX,
        rules,
    }]
}
