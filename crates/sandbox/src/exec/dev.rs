//! `/dev`: a few devices of the host, a terminal multiplexer and shared memory of its own.

use std::ffi::CString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};

use super::io_ext::Named;
use super::root::{HARMLESS, bind, inside, make_dirs, make_file};

const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

const LINKS: [(&str, &str); 5] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("dev/ptmx", "/dev/pts/ptmx"),
];

/// Furnish `dev` in the root under construction.
pub(super) fn make(more: &[PathBuf], terminals: u32) -> Result<(), String> {
    make_dirs(Path::new("/dev/pts"))?;
    make_dirs(Path::new("/dev/shm"))?;
    let usual = DEVICES.iter().map(|name| Path::new("/dev").join(name));
    for path in usual.chain(more.iter().cloned()) {
        make_file(&inside(&path), 0o666, b"")?;
        bind(&path, &path, HARMLESS)?;
    }
    for (path, target) in LINKS {
        symlink(target, path).named(|| format!("make the link /{path}"))?;
    }
    mount(
        "none",
        "dev/shm",
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"size=50%,mode=1777",
    )
    .named(|| "mount a tmpfs at /dev/shm")?;
    // The number of terminals of the whole machine is limited.
    let options = CString::new(format!("newinstance,mode=0620,ptmxmode=0666,max={terminals}"))
        .named(|| "options of devpts")?;
    mount(
        "none",
        "dev/pts",
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        options.as_c_str(),
    )
    .named(|| "mount a new devpts at /dev/pts")
}
