//! The files of the host, by every path that might lead there.

use std::fs;
use std::sync::OnceLock;

use crate::{Outcome, host, raw};

fn open(path: &str) -> Outcome {
    Outcome::of_io(fs::read(path))
}

pub(crate) fn file() -> Outcome {
    open(&host::var(host::FILE))
}

pub(crate) fn file_above() -> Outcome {
    open(&format!("/../../../../../../..{}", host::var(host::FILE)))
}

pub(crate) fn file_of_builder() -> Outcome {
    open(&format!("/proc/1/root{}", host::var(host::FILE)))
}

pub(crate) fn file_of_cwd() -> Outcome {
    open(&format!("/proc/1/cwd/../../../../../..{}", host::var(host::FILE)))
}

/// Where all builds live.
pub(crate) fn builds() -> Outcome {
    Outcome::of_io(fs::read_dir(host::var(host::DIR)))
}

static FIRST: OnceLock<Vec<u32>> = OnceLock::new();

/// To be called first of all: remembers what is open.
pub(crate) fn remember_descriptors() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let mut numbers: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    // The highest is of the list itself.
    numbers.pop();
    let _ = FIRST.set(numbers);
}

/// Open descriptors that the builder got.
pub(crate) fn descriptors() -> Outcome {
    let numbers: Vec<_> = FIRST
        .get()
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    Outcome::value(numbers.join(","))
}

/// Devices beyond the usual.
pub(crate) fn devices() -> Outcome {
    const USUAL: &str = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero";
    let entries = fs::read_dir("/dev").expect("/dev").flatten();
    let mut more: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy_for_people())
        .filter(|name| !USUAL.split(' ').any(|usual| usual == name))
        .collect();
    more.sort();
    if more.is_empty() {
        Outcome::value("none")
    } else {
        Outcome::Leaked(more.join(","))
    }
}

trait ForPeople {
    fn to_string_lossy_for_people(&self) -> String;
}

impl ForPeople for std::ffi::OsString {
    fn to_string_lossy_for_people(&self) -> String {
        self.as_encoded_bytes().escape_ascii().to_string()
    }
}

/// Places that are nobody's to write.
pub(crate) fn write_root() -> Outcome {
    let done: Vec<_> = ["/x", "/etc/x", "/bin/x", "/nix/x", "/dev/x", "/proc/x"]
        .into_iter()
        .filter(|path| fs::write(path, "x").is_ok())
        .collect();
    if done.is_empty() {
        Outcome::value("none")
    } else {
        Outcome::value(done.join(","))
    }
}

/// What earlier builds left.
pub(crate) fn leftovers() -> Outcome {
    let left: usize = ["/tmp", "/dev/shm"]
        .into_iter()
        .map(|dir| fs::read_dir(dir).map_or(0, Iterator::count))
        .sum();
    Outcome::value(left)
}

/// Find a file by its number, around every directory: name first, then open.
pub(crate) fn name_to_handle() -> Outcome {
    let (handle, _) = handle();
    Outcome::of(handle)
}

pub(crate) fn open_by_handle() -> Outcome {
    let (handle, buffer) = handle();
    if let Err(errno) = handle {
        return Outcome::Denied(errno);
    }
    let dir = fs::File::open("/build").expect("/build");
    let dir = std::os::fd::AsRawFd::as_raw_fd(&dir) as usize;
    Outcome::of(raw::call(
        libc::SYS_open_by_handle_at,
        &[dir, buffer.as_ptr() as usize, 0],
    ))
}

fn handle() -> (Result<usize, i32>, Box<[u32; 40]>) {
    let mut buffer = Box::new([0u32; 40]);
    buffer[0] = 128;
    let mount = 0u32;
    let here = libc::AT_FDCWD as usize;
    let result = raw::call(
        libc::SYS_name_to_handle_at,
        &[
            here,
            raw::text("/build"),
            buffer.as_mut_ptr() as usize,
            raw::at(&mount),
            0,
        ],
    );
    (result, buffer)
}

/// A number that is the same for every build on one file system of the host.
pub(crate) fn file_system_id() -> Outcome {
    const FS_IOC_GETFSUUID: usize = 0x8011_1500;
    let dir = fs::File::open("/build").expect("/build");
    let buffer = [0u8; 17];
    let dir = std::os::fd::AsRawFd::as_raw_fd(&dir) as usize;
    match raw::call(libc::SYS_ioctl, &[dir, FS_IOC_GETFSUUID, raw::at(&buffer)]) {
        Ok(_) => Outcome::Leaked("number of the file system".to_owned()),
        Err(errno) => Outcome::Denied(errno),
    }
}

/// How full the disk of the host is.
pub(crate) fn free_space() -> Outcome {
    let buffer = [0u64; 32];
    match raw::call(libc::SYS_statfs, &[raw::text("/build"), raw::at(&buffer)]) {
        Ok(_) => Outcome::Leaked("free space of the disk".to_owned()),
        Err(errno) => Outcome::Denied(errno),
    }
}
