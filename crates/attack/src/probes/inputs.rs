//! Inputs: shared with other builds, so nobody may change them.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::{Outcome, host, raw};

pub(crate) fn write() -> Outcome {
    Outcome::of_io(fs::OpenOptions::new().write(true).open(host::data()))
}

pub(crate) fn truncate() -> Outcome {
    let path = CString::new(host::data()).expect("a path");
    Outcome::of(raw::call(libc::SYS_truncate, &[path.as_ptr() as usize, 0]))
}

pub(crate) fn chmod() -> Outcome {
    Outcome::of_io(fs::set_permissions(
        host::data(),
        fs::Permissions::from_mode(0o777),
    ))
}

pub(crate) fn chown() -> Outcome {
    Outcome::of_io(std::os::unix::fs::chown(host::data(), Some(1000), None))
}

pub(crate) fn set_times() -> Outcome {
    let now = fs::FileTimes::new().set_modified(std::time::SystemTime::now());
    Outcome::of_io(fs::File::open(host::data()).and_then(|file| file.set_times(now)))
}

pub(crate) fn rename_file() -> Outcome {
    Outcome::of_io(fs::rename(
        host::data(),
        format!("{}/share/other", host::var(host::INPUT)),
    ))
}

/// Put something else in its place.
pub(crate) fn rename_input() -> Outcome {
    Outcome::of_io(fs::rename(host::var(host::INPUT), "/nix/store/moved-away"))
}

pub(crate) fn remove_input() -> Outcome {
    Outcome::of_io(fs::remove_dir(host::var(host::INPUT)))
}

pub(crate) fn unlink() -> Outcome {
    Outcome::of_io(fs::remove_file(host::data()))
}

pub(crate) fn create() -> Outcome {
    Outcome::of_io(fs::write(format!("{}/share/new", host::var(host::INPUT)), "x"))
}

/// Take an input into an output, so that the output's owner owns it.
pub(crate) fn link() -> Outcome {
    Outcome::of_io(fs::hard_link(host::data(), "/nix/store/linked"))
}

pub(crate) fn map_writable() -> Outcome {
    let file = fs::File::open(host::data()).expect("the input");
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    Outcome::of(raw::call(
        libc::SYS_mmap,
        &[
            0,
            1,
            protection,
            libc::MAP_SHARED as usize,
            file.as_raw_fd() as usize,
            0,
        ],
    ))
}

/// Make it immutable for everybody.
pub(crate) fn set_flags() -> Outcome {
    const FS_IOC_SETFLAGS: usize = 0x4008_6602;
    let file = fs::File::open(host::data()).expect("the input");
    let no_dump = 0x40u64;
    Outcome::of(raw::call(
        libc::SYS_ioctl,
        &[file.as_raw_fd() as usize, FS_IOC_SETFLAGS, raw::at(&no_dump)],
    ))
}

/// Hold up everybody who locks it.
pub(crate) fn lock() -> Outcome {
    let file = fs::File::open(host::data()).expect("the input");
    Outcome::of(raw::call(
        libc::SYS_flock,
        &[
            file.as_raw_fd() as usize,
            (libc::LOCK_EX | libc::LOCK_NB) as usize,
        ],
    ))
}

/// Hold up everybody who opens it.
pub(crate) fn lease() -> Outcome {
    let file = fs::File::open(host::data()).expect("the input");
    Outcome::of(raw::call(
        libc::SYS_fcntl,
        &[
            file.as_raw_fd() as usize,
            libc::F_SETLEASE as usize,
            libc::F_RDLCK as usize,
        ],
    ))
}

/// Be told when somebody opens it.
pub(crate) fn watch() -> Outcome {
    let Ok(group) = raw::call(libc::SYS_inotify_init1, &[0]) else {
        return Outcome::Absent;
    };
    let path = raw::text(&host::data());
    Outcome::of(raw::call(
        libc::SYS_inotify_add_watch,
        &[group, path, libc::IN_OPEN as usize],
    ))
}

/// Was it read lately?
pub(crate) fn cachestat() -> Outcome {
    let file = fs::File::open(host::data()).expect("the input");
    let (range, result) = ([0u64; 2], [0u64; 5]);
    Outcome::of(raw::call(
        451,
        &[file.as_raw_fd() as usize, raw::at(&range), raw::at(&result), 0],
    ))
}

/// Links between equal files tell who else has them.
pub(crate) fn links() -> Outcome {
    match fs::metadata(host::data()) {
        Ok(meta) => Outcome::value(meta.nlink()),
        Err(error) => Outcome::of_io::<()>(Err(error)),
    }
}

/// Whose it is, as the build sees it.
pub(crate) fn owner() -> Outcome {
    match fs::metadata(host::data()) {
        Ok(meta) => Outcome::value(meta.uid()),
        Err(error) => Outcome::of_io::<()>(Err(error)),
    }
}
