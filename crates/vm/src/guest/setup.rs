//! What the guest's kernel does not do by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::mount::{MountFlags, mount};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::place;

/// Memory that the command does not get: for Firn's own processes and the kernel.
const RESERVE: u64 = 64 << 20;
/// Most processes of the command. A few less than the kernel numbers.
const PROCESSES: &str = "30000";
/// As of a service with Firn's unit file.
const FILES: u64 = 65_536;

/// What has to be there for disks and ports to be found.
pub(super) fn mount_devices() -> Result<(), String> {
    for (what, target, data) in [
        ("proc", "/proc", None),
        ("sysfs", "/sys", None),
        ("devtmpfs", "/dev", None),
    ] {
        attach(what, Path::new(target), what, MountFlags::empty(), data)?;
    }
    Ok(())
}

/// Everything else.
pub(super) fn furnish() -> Result<(), String> {
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    make_dir("/dev/pts")?;
    attach(
        "devpts",
        Path::new("/dev/pts"),
        "devpts",
        quiet,
        Some(c"mode=0620,ptmxmode=0666"),
    )?;
    attach("cgroup2", Path::new(place::GROUPS), "cgroup2", quiet, None)?;
    attach(
        "tmpfs",
        Path::new("/tmp"),
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        None,
    )?;

    let inputs = disk(place::INPUTS_SERIAL)?;
    let frozen = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    attach(inputs, Path::new(place::INPUTS), "erofs", frozen, None)?;
    let scratch = disk(place::DISK_SERIAL)?;
    format(&scratch)?;
    // Its tables are zero already: the file on the host is new.
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    attach(
        scratch,
        Path::new(place::DISK),
        "ext4",
        flags,
        Some(c"noinit_itable"),
    )?;
    for dir in [place::SCRATCH, place::STORE, place::BUILD] {
        make_dir(dir)?;
    }
    limit_group()?;
    let files = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    setrlimit(Resource::Nofile, files).map_err(|e| format!("limit the number of open files: {e}"))
}

fn attach(
    source: impl AsRef<Path>,
    target: &Path,
    kind: &str,
    flags: MountFlags,
    data: Option<&std::ffi::CStr>,
) -> Result<(), String> {
    mount(source.as_ref(), target, kind, flags, data)
        .map_err(|e| format!("mount {} at {}: {e}", source.as_ref().display(), target.display()))
}

fn make_dir(path: &str) -> Result<(), String> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(format!("make {path}: {e}")),
        _ => Ok(()),
    }
}

/// The order in which disks appear is nobody's promise, so each has a serial number.
fn disk(serial: &str) -> Result<PathBuf, String> {
    let listed = fs::read_dir("/sys/block").map_err(|e| format!("read /sys/block: {e}"))?;
    for entry in listed.flatten() {
        let found = fs::read(entry.path().join("serial")).unwrap_or_default();
        if found.trim_ascii() == serial.as_bytes() {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    Err(format!("there is no disk with the serial number {serial}"))
}

/// Without a journal and with nothing written that need not be: the disk is new, empty and does not outlive the machine.
fn format(disk: &Path) -> Result<(), String> {
    let features = "none,extent,filetype,sparse_super,large_file,huge_file,flex_bg,dir_index,dir_nlink,extra_isize,64bit,\
        metadata_csum";
    let output = Command::new(place::MKE2FS)
        .args(["-q", "-F", "-t", "ext4", "-I", "256", "-m", "0", "-O", features])
        .args([
            "-E",
            "lazy_itable_init=1,nodiscard,assume_storage_prezeroed=1,root_owner=0:0",
        ])
        .arg(disk)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("start {}: {e}", place::MKE2FS))?;
    if output.status.success() {
        return Ok(());
    }
    let said = output.stderr.trim_ascii().escape_ascii();
    Err(format!("{}: {}: {said}", place::MKE2FS, output.status))
}

/// The command's own control group, so that its processes are killed for lack of memory and not Firn's.
fn limit_group() -> Result<(), String> {
    let root = Path::new(place::GROUPS);
    let group = group();
    write(root.join("cgroup.subtree_control"), "+memory +pids")?;
    fs::create_dir(&group).map_err(|e| format!("make {}: {e}", group.display()))?;
    write(group.join("pids.max"), PROCESSES)?;
    let least = RESERVE;
    let memory = memory_total()
        .ok_or("read /proc/meminfo")?
        .saturating_sub(RESERVE)
        .max(least);
    write(group.join("memory.max"), &memory.to_string())
}

fn write(path: PathBuf, text: &str) -> Result<(), String> {
    fs::write(&path, text).map_err(|e| format!("write \"{text}\" to {}: {e}", path.display()))
}

/// Fewer than the guest's own limit.
pub(super) fn limit_processes(most: u64) -> Result<(), String> {
    if PROCESSES.parse().is_ok_and(|own: u64| own <= most) {
        return Ok(());
    }
    write(group().join("pids.max"), &most.to_string())
}

/// Where the command runs.
pub(super) fn group() -> PathBuf {
    Path::new(place::GROUPS).join("build")
}

fn memory_total() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// Best effort: a build does not depend on the time.
pub(super) fn set_clock(now: Duration) {
    let time = Timespec {
        tv_sec: now.as_secs().try_into().unwrap_or_default(),
        tv_nsec: now.subsec_nanos().into(),
    };
    if let Err(e) = clock_settime(ClockId::Realtime, time) {
        eprintln!("firn: set the clock: {e}");
    }
}
