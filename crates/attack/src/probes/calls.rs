//! Single system calls that a build has no business with.

use crate::{Outcome, raw};

fn call(number: libc::c_long, args: &[usize]) -> Outcome {
    Outcome::of(raw::call(number, args))
}

pub(crate) fn io_uring() -> Outcome {
    let parameters = [0u8; 120];
    call(425, &[1, raw::at(&parameters)])
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn io_uring_i386() -> Outcome {
    Outcome::of(raw::call_i386(425, &[1, raw::low(&[0; 120])]))
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn io_uring_x32() -> Outcome {
    let parameters = [0u8; 120];
    Outcome::of(raw::call_x32(425, &[1, raw::at(&parameters)]))
}

const SESSION_KEYRING: usize = -3isize as usize;

pub(crate) fn add_key() -> Outcome {
    call(
        libc::SYS_add_key,
        &[
            raw::text("user"),
            raw::text("firn-attack"),
            raw::text("x"),
            1,
            SESSION_KEYRING,
        ],
    )
}

pub(crate) fn request_key() -> Outcome {
    call(
        libc::SYS_request_key,
        &[raw::text("user"), raw::text("firn-attack-none"), 0, 0],
    )
}

/// Join a session's ring of keys by name.
pub(crate) fn keyctl() -> Outcome {
    call(libc::SYS_keyctl, &[1, 0])
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn keyctl_i386() -> Outcome {
    Outcome::of(raw::call_i386(288, &[1, 0]))
}

pub(crate) fn bpf() -> Outcome {
    // An array of one entry.
    let attributes = [2u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    call(libc::SYS_bpf, &[0, raw::at(&attributes), 72])
}

pub(crate) fn perf_event_open() -> Outcome {
    // Count the instructions of this process.
    let mut attributes = [0u32; 28];
    attributes[1] = 112;
    attributes[2] = 1;
    call(
        libc::SYS_perf_event_open,
        &[raw::at(&attributes), 0, usize::MAX, usize::MAX, 0],
    )
}

pub(crate) fn userfaultfd() -> Outcome {
    call(libc::SYS_userfaultfd, &[0])
}

pub(crate) fn memfd_secret() -> Outcome {
    call(447, &[0])
}

pub(crate) fn kexec_load() -> Outcome {
    call(libc::SYS_kexec_load, &[0, 0, 0, 0])
}

pub(crate) fn kexec_file_load() -> Outcome {
    call(libc::SYS_kexec_file_load, &[usize::MAX, usize::MAX, 0, 0, 0])
}

pub(crate) fn init_module() -> Outcome {
    call(libc::SYS_init_module, &[0, 0, raw::text("")])
}

pub(crate) fn finit_module() -> Outcome {
    call(libc::SYS_finit_module, &[usize::MAX, raw::text(""), 0])
}

pub(crate) fn delete_module() -> Outcome {
    call(libc::SYS_delete_module, &[raw::text("firn-attack-none"), 0])
}

/// With a magic number that is none, so that nothing happens where it is allowed.
pub(crate) fn reboot() -> Outcome {
    call(libc::SYS_reboot, &[0, 0, 0, 0])
}

pub(crate) fn swapon() -> Outcome {
    call(libc::SYS_swapon, &[raw::text("/build/none"), 0])
}

pub(crate) fn swapoff() -> Outcome {
    call(libc::SYS_swapoff, &[raw::text("/build/none")])
}

pub(crate) fn acct() -> Outcome {
    call(libc::SYS_acct, &[raw::text("/build/none")])
}

/// Neither a time nor a zone: asks for the right alone.
pub(crate) fn set_time() -> Outcome {
    let zone = [0u32; 2];
    call(libc::SYS_settimeofday, &[0, raw::at(&zone)])
}

pub(crate) fn adjust_time() -> Outcome {
    // Modes: the time constant, set to what is usual.
    let mut request = [0u64; 26];
    request[0] = 0x20;
    call(libc::SYS_adjtimex, &[raw::at(&request)])
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn io_ports() -> Outcome {
    call(libc::SYS_iopl, &[3])
}

/// The log of the kernel.
pub(crate) fn syslog() -> Outcome {
    let buffer = [0u8; 4096];
    match raw::call(libc::SYS_syslog, &[3, raw::at(&buffer), buffer.len()]) {
        Ok(_) => Outcome::Leaked("the log of the kernel".to_owned()),
        Err(errno) => Outcome::Denied(errno),
    }
}

/// Be told of everybody's accesses.
pub(crate) fn fanotify() -> Outcome {
    // FAN_REPORT_FID, which ordinary users may since Linux 5.13.
    call(libc::SYS_fanotify_init, &[0x200, 0])
}

pub(crate) fn quotactl() -> Outcome {
    // Q_SYNC of every file system.
    const Q_SYNC: u32 = 0x80_0001;
    call(libc::SYS_quotactl, &[(Q_SYNC << 8) as usize, 0, 0, 0])
}

pub(crate) fn quotactl_fd() -> Outcome {
    const Q_GETFMT: u32 = 0x80_0004;
    let dir = std::fs::File::open("/build").expect("/build");
    let format = 0u32;
    call(
        443,
        &[
            std::os::fd::AsRawFd::as_raw_fd(&dir) as usize,
            (Q_GETFMT << 8) as usize,
            0,
            raw::at(&format),
        ],
    )
}

/// How full a file system is, by its number.
#[cfg(target_arch = "x86_64")]
pub(crate) fn ustat() -> Outcome {
    use std::os::unix::fs::MetadataExt as _;
    let device = std::fs::metadata("/build").expect("/build").dev();
    let buffer = [0u64; 4];
    call(libc::SYS_ustat, &[device as usize, raw::at(&buffer)])
}

pub(crate) fn lsm_list_modules() -> Outcome {
    let (ids, size) = ([0u64; 16], 128u32);
    call(461, &[raw::at(&ids), raw::at(&size), 0])
}

pub(crate) fn lsm_get_self_attr() -> Outcome {
    let (buffer, size) = ([0u64; 64], 512u32);
    call(459, &[100, raw::at(&buffer), raw::at(&size), 0])
}

pub(crate) fn set_hostname() -> Outcome {
    call(libc::SYS_sethostname, &[raw::text("attack"), 6])
}

pub(crate) fn set_domainname() -> Outcome {
    call(libc::SYS_setdomainname, &[raw::text("attack"), 6])
}

/// An architecture that is none. There the filter must not be silent.
#[cfg(target_arch = "x86_64")]
pub(crate) fn big_number() -> Outcome {
    call(0x3fff_ffff, &[])
}
