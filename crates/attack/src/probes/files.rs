//! Files of odd kinds, where a build can write.

use std::ffi::CString;

use crate::{Outcome, raw};

fn make(path: &str, mode: u32, device: u64) -> Outcome {
    let path = CString::new(path).expect("a path");
    Outcome::of(raw::call(
        libc::SYS_mknodat,
        &[
            libc::AT_FDCWD as usize,
            path.as_ptr() as usize,
            mode as usize,
            device as usize,
        ],
    ))
}

pub(crate) fn memory_device() -> Outcome {
    make("/build/mem", libc::S_IFCHR | 0o666, libc::makedev(1, 1))
}

pub(crate) fn disk_device() -> Outcome {
    make("/build/disk", libc::S_IFBLK | 0o666, libc::makedev(254, 0))
}

/// What an overlay takes for "removed".
pub(crate) fn whiteout() -> Outcome {
    make("/build/whiteout", libc::S_IFCHR, 0)
}

pub(crate) fn whiteout_in_store() -> Outcome {
    make("/nix/store/whiteout", libc::S_IFCHR, 0)
}

pub(crate) fn fifo() -> Outcome {
    make("/build/fifo", libc::S_IFIFO | 0o644, 0)
}

pub(crate) fn give_away() -> Outcome {
    std::fs::write("/build/mine", "x").expect("write");
    Outcome::of_io(std::os::unix::fs::chown("/build/mine", Some(0), Some(0)))
}
