//! Marks that an output must not carry: set-id bits and extended attributes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::{Outcome, raw};

const HERE: usize = libc::AT_FDCWD as usize;
const CREATE: usize = (libc::O_CREAT | libc::O_WRONLY) as usize;
const SET_UID: usize = 0o4755;
const SET_GID: usize = 0o2755;
const FILE: &str = "/build/marked";

/// A call that is to make or change [`FILE`]; does it have a set-id bit then?
fn marked(result: Result<usize, i32>) -> Outcome {
    match (result, fs::symlink_metadata(FILE)) {
        (_, Ok(meta)) if meta.mode() & 0o6000 != 0 => Outcome::Reached,
        (Ok(_), _) => Outcome::value("without the bit"),
        (Err(errno), _) => Outcome::Denied(errno),
    }
}

fn file() -> usize {
    let _ = fs::remove_file(FILE);
    let _ = fs::remove_dir(FILE);
    raw::text(FILE)
}

fn existing() -> usize {
    let path = file();
    fs::write(FILE, "x").expect("write");
    path
}

fn descriptor() -> usize {
    existing();
    std::os::fd::IntoRawFd::into_raw_fd(fs::File::open(FILE).expect("open")) as usize
}

pub(crate) fn openat() -> Outcome {
    marked(raw::call(libc::SYS_openat, &[HERE, file(), CREATE, SET_UID]))
}

pub(crate) fn openat2() -> Outcome {
    let how = [CREATE as u64, SET_UID as u64, 0];
    marked(raw::call(libc::SYS_openat2, &[HERE, file(), raw::at(&how), 24]))
}

/// A file without a name, that gets one later.
pub(crate) fn unnamed() -> Outcome {
    let path = file();
    let flags = (libc::O_TMPFILE | libc::O_WRONLY) as usize;
    match raw::call(libc::SYS_openat, &[HERE, raw::text("/build"), flags, SET_UID]) {
        Ok(fd) => {
            let from = raw::text(&format!("/proc/self/fd/{fd}"));
            marked(raw::call(
                libc::SYS_linkat,
                &[HERE, from, HERE, path, libc::AT_SYMLINK_FOLLOW as usize],
            ))
        }
        Err(errno) => Outcome::Denied(errno),
    }
}

pub(crate) fn mknodat() -> Outcome {
    marked(raw::call(
        libc::SYS_mknodat,
        &[HERE, file(), libc::S_IFREG as usize | SET_UID, 0],
    ))
}

pub(crate) fn mkdirat() -> Outcome {
    marked(raw::call(libc::SYS_mkdirat, &[HERE, file(), SET_GID]))
}

pub(crate) fn fchmod() -> Outcome {
    marked(raw::call(libc::SYS_fchmod, &[descriptor(), SET_UID]))
}

pub(crate) fn fchmodat() -> Outcome {
    marked(raw::call(libc::SYS_fchmodat, &[HERE, existing(), SET_GID]))
}

pub(crate) fn fchmodat2() -> Outcome {
    marked(raw::call(452, &[HERE, existing(), SET_UID, 0]))
}

/// Ways that only x86 has.
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use super::*;

    pub(crate) fn open() -> Outcome {
        marked(raw::call(libc::SYS_open, &[file(), CREATE, SET_UID]))
    }

    pub(crate) fn creat() -> Outcome {
        marked(raw::call(libc::SYS_creat, &[file(), SET_UID]))
    }

    pub(crate) fn mknod() -> Outcome {
        marked(raw::call(
            libc::SYS_mknod,
            &[file(), libc::S_IFREG as usize | SET_UID, 0],
        ))
    }

    pub(crate) fn chmod() -> Outcome {
        marked(raw::call(libc::SYS_chmod, &[existing(), SET_UID]))
    }

    pub(crate) fn chmod_x32() -> Outcome {
        marked(raw::call_x32(libc::SYS_chmod, &[existing(), SET_UID]))
    }

    fn low_name() -> u32 {
        raw::low(format!("{FILE}\0").as_bytes())
    }

    pub(crate) fn chmod_i386() -> Outcome {
        existing();
        marked(raw::call_i386(15, &[low_name(), SET_UID as u32]))
    }

    pub(crate) fn open_i386() -> Outcome {
        file();
        marked(raw::call_i386(5, &[low_name(), CREATE as u32, SET_UID as u32]))
    }

    pub(crate) fn creat_i386() -> Outcome {
        file();
        marked(raw::call_i386(8, &[low_name(), SET_UID as u32]))
    }

    pub(crate) fn fchmodat2_i386() -> Outcome {
        existing();
        marked(raw::call_i386(452, &[HERE as u32, low_name(), SET_UID as u32, 0]))
    }

    pub(crate) fn setxattr_i386() -> Outcome {
        existing();
        let (name, value) = (raw::low(b"user.x\0"), raw::low(b"y"));
        Outcome::of(raw::call_i386(226, &[low_name(), name, value, 1, 0]))
    }
}

fn set_attribute(name: &str, value: &[u8]) -> Outcome {
    Outcome::of(raw::call(
        libc::SYS_setxattr,
        &[
            existing(),
            raw::text(name),
            value.as_ptr() as usize,
            value.len(),
            0,
        ],
    ))
}

pub(crate) fn setxattr() -> Outcome {
    set_attribute("user.x", b"y")
}

/// Give everybody all rights, by an access control list.
pub(crate) fn acl() -> Outcome {
    let mut list = vec![2, 0, 0, 0];
    for (tag, bits) in [(1u16, 7u16), (4, 7), (32, 7)] {
        list.extend(tag.to_le_bytes());
        list.extend(bits.to_le_bytes());
        list.extend(u32::MAX.to_le_bytes());
    }
    set_attribute("system.posix_acl_access", &list)
}

/// CAP_SYS_ADMIN for whoever executes it.
pub(crate) fn file_capability() -> Outcome {
    let mut value = Vec::new();
    [0x0200_0001u32, 1 << 21, 0, 0, 0]
        .iter()
        .for_each(|word| value.extend(word.to_le_bytes()));
    set_attribute("security.capability", &value)
}

pub(crate) fn fsetxattr() -> Outcome {
    let (name, value) = (raw::text("user.x"), raw::text("y"));
    Outcome::of(raw::call(libc::SYS_fsetxattr, &[descriptor(), name, value, 1, 0]))
}

pub(crate) fn setxattrat() -> Outcome {
    let value = [raw::text("y") as u64, 1];
    Outcome::of(raw::call(
        463,
        &[HERE, existing(), 0, raw::text("user.x"), raw::at(&value), 16],
    ))
}

pub(crate) fn getxattr() -> Outcome {
    Outcome::of(raw::call(
        libc::SYS_getxattr,
        &[existing(), raw::text("user.x"), 0, 0],
    ))
}

pub(crate) fn listxattr() -> Outcome {
    Outcome::of(raw::call(libc::SYS_listxattr, &[existing(), 0, 0]))
}

pub(crate) fn removexattr() -> Outcome {
    Outcome::of(raw::call(
        libc::SYS_removexattr,
        &[existing(), raw::text("user.x")],
    ))
}
