//! `/proc`: that of the sandbox's own processes, without what tells about the host and its other users.
//!
//! What programs read to adapt to the machine stays (cpuinfo, filesystems, loadavg, meminfo, stat, uptime, version, vmstat). Hidden files read as
//! empty, hidden directories have no entries: as on a machine that lacks the thing.

use std::path::Path;
use std::{fs, io};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use super::io_ext::Named;
use super::root::{attributes, make_dir, make_dirs, make_file};
use crate::sys::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY};

/// Counters of the whole machine, its devices, its memory layout, its other users. Those that this kernel does not have are passed over.
const HIDDEN: [&str; 52] = [
    "acpi",
    "allocinfo",
    "asound",
    "buddyinfo",
    "bus",
    "cgroups",
    "consoles",
    "crypto",
    "diskstats",
    "driver",
    "fs",
    "interrupts",
    "iomem",
    "ioports",
    "irq",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "lock_stat",
    "lockdep",
    "lockdep_chains",
    "lockdep_stats",
    "locks",
    "mdstat",
    "modules",
    "mtrr",
    "pagetypeinfo",
    "partitions",
    "pressure",
    "sched_debug",
    "schedstat",
    "scsi",
    "slabinfo",
    "softirqs",
    "swaps",
    "sys/fs/aio-nr",
    "sys/fs/dentry-state",
    "sys/fs/file-nr",
    "sys/fs/inode-nr",
    "sys/fs/inode-state",
    "sys/kernel/pty/nr",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
    "vmallocinfo",
    "zoneinfo",
];

/// What the same file says in every sandbox.
const CONSTANT: [(&str, &str, &[u8]); 2] = [
    ("cmdline", "cmdline", b"\n"),
    (
        "sys/kernel/random/boot_id",
        "boot_id",
        b"6669726e-0000-4000-8000-000000000000\n",
    ),
];

/// Furnish `proc` in the root under construction.
pub(super) fn make() -> Result<(), String> {
    make_dirs(Path::new("/proc"))?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "proc", "proc", plain, None).named(|| {
        "mount a new /proc (an ordinary user may do so only where nothing hides parts of the present /proc)"
    })?;
    hide()
}

/// The things to hide behind lie in a read-only file system of their own, out of sight in the end. What is mounted from it is
/// read-only too.
fn hide() -> Result<(), String> {
    let masks = Path::new("masks");
    make_dir(masks, 0o755)?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("none", masks, "tmpfs", plain, c"mode=0755")
        .named(|| "mount a tmpfs for what hides parts of /proc")?;
    let (file, dir) = (masks.join("file"), masks.join("dir"));
    make_file(&file, 0o444, b"")?;
    make_dir(&dir, 0o555)?;
    for (_, name, contents) in CONSTANT {
        make_file(&masks.join(name), 0o444, contents)?;
    }
    attributes(
        masks,
        false,
        ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC,
        0,
    )?;
    let proc = Path::new("proc");
    for name in HIDDEN {
        let at = proc.join(name);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => cover(&at, &dir)?,
            Ok(_) => cover(&at, &file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("look at /{}: {error}", at.display())),
        }
    }
    for (at, name, _) in CONSTANT {
        let at = proc.join(at);
        if at.exists() {
            cover(&at, &masks.join(name))?;
        }
    }
    unmount(masks, UnmountFlags::DETACH).named(|| "unmount what hides parts of /proc")?;
    fs::remove_dir(masks).named(|| "remove its directory")
}

fn cover(at: &Path, with: &Path) -> Result<(), String> {
    mount_bind(with, at).named(|| format!("hide /{}", at.display()))
}
