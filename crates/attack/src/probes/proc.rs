//! What `/proc` tells.

use std::fs;

use crate::{Outcome, host};

/// What a file says: nothing, or something.
pub(crate) fn file(name: &str) -> Outcome {
    let path = format!("/proc/{name}");
    match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Outcome::Absent,
        Ok(meta) if meta.is_dir() => {
            return match fs::read_dir(&path).map(Iterator::count) {
                Ok(0) => Outcome::Empty,
                Ok(_) => Outcome::Leaked("entries".to_owned()),
                Err(error) => Outcome::of_io::<()>(Err(error)),
            };
        }
        _ => {}
    }
    // Some of them do not end.
    let mut text = vec![0; 4096];
    match fs::File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut text)) {
        Ok(length) if text[..length].iter().all(u8::is_ascii_whitespace) => Outcome::Empty,
        Ok(_) => Outcome::Leaked("text".to_owned()),
        Err(error) => Outcome::of_io::<()>(Err(error)),
    }
}

/// Files whose names are looked up when the probe runs; a probe is a function without arguments.
macro_rules! files {
    ($($name:ident => $path:literal,)*) => {
        $(pub(crate) fn $name() -> Outcome { file($path) })*
    };
}

files! {
    buddyinfo => "buddyinfo",
    bus => "bus",
    cgroups => "cgroups",
    cmdline => "cmdline",
    crypto => "crypto",
    diskstats => "diskstats",
    fs_dir => "fs",
    file_nr => "sys/fs/file-nr",
    interrupts => "interrupts",
    iomem => "iomem",
    kallsyms => "kallsyms",
    kcore => "kcore",
    key_users => "key-users",
    keys => "keys",
    kmsg => "kmsg",
    kpageflags => "kpageflags",
    locks => "locks",
    modules => "modules",
    partitions => "partitions",
    pressure => "pressure",
    pty_nr => "sys/kernel/pty/nr",
    sched_debug => "sched_debug",
    schedstat => "schedstat",
    slabinfo => "slabinfo",
    softirqs => "softirqs",
    swaps => "swaps",
    timer_list => "timer_list",
    vmallocinfo => "vmallocinfo",
    zoneinfo => "zoneinfo",
}

/// What builds read must be there.
pub(crate) fn needed() -> Outcome {
    let names = [
        "cpuinfo",
        "filesystems",
        "loadavg",
        "meminfo",
        "stat",
        "uptime",
        "version",
        "vmstat",
        "self/status",
        "self/maps",
        "self/mountinfo",
        "sys/kernel/osrelease",
        "sys/kernel/ostype",
        "sys/kernel/version",
        "sys/kernel/pid_max",
        "sys/kernel/ngroups_max",
        "sys/kernel/cap_last_cap",
        "sys/kernel/random/uuid",
        "sys/vm/overcommit_memory",
        "sys/vm/max_map_count",
        "sys/fs/file-max",
        "sys/fs/pipe-max-size",
        "sys/net/core/somaxconn",
        "net/dev",
    ];
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| fs::read(format!("/proc/{name}")).map_or(true, |text| text.is_empty()))
        .collect();
    if missing.is_empty() {
        Outcome::value("all there")
    } else {
        Outcome::value(missing.join(","))
    }
}

/// The same on a machine until it restarts: tells that two builds ran on one machine.
pub(crate) fn boot_id() -> Outcome {
    match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) if text == "6669726e-0000-4000-8000-000000000000\n" => Outcome::Hidden,
        Ok(_) => Outcome::Leaked("which machine".to_owned()),
        Err(error) => Outcome::of_io::<()>(Err(error)),
    }
}

pub(crate) fn mountinfo() -> Outcome {
    host_paths("/proc/self/mountinfo")
}

pub(crate) fn mounts() -> Outcome {
    host_paths("/proc/self/mounts")
}

fn host_paths(file: &str) -> Outcome {
    // As few as two last components are shown where a file system is mounted above them.
    let dir = host::var(host::DIR);
    let mut parts = dir.rsplitn(3, '/');
    let (last, before) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match fs::read_to_string(file) {
        Ok(text) if text.contains(&format!("{before}/{last}")) => {
            Outcome::Leaked("directories of the host".to_owned())
        }
        Ok(_) => Outcome::Hidden,
        Err(error) => Outcome::of_io::<()>(Err(error)),
    }
}

pub(crate) fn own_cgroup() -> Outcome {
    match fs::read_to_string("/proc/self/cgroup") {
        Ok(text) if text.lines().all(|line| line.ends_with(":/")) => Outcome::Hidden,
        Ok(_) => Outcome::Leaked("control groups of the host".to_owned()),
        Err(error) => Outcome::of_io::<()>(Err(error)),
    }
}

/// Which user of the host this is.
pub(crate) fn uid_map() -> Outcome {
    let text = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        [inside, outside, "1"] if inside != outside => Outcome::Leaked("user of the host".to_owned()),
        [_, _, "1"] => Outcome::Hidden,
        _ => Outcome::Leaked(text.split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}

fn writable(path: &str) -> Outcome {
    // Opening is enough; nothing is written.
    Outcome::of_io(fs::OpenOptions::new().write(true).open(path))
}

pub(crate) fn write_sysrq() -> Outcome {
    writable("/proc/sysrq-trigger")
}

pub(crate) fn write_core_pattern() -> Outcome {
    writable("/proc/sys/kernel/core_pattern")
}

pub(crate) fn write_hostname() -> Outcome {
    writable("/proc/sys/kernel/hostname")
}

pub(crate) fn write_forwarding() -> Outcome {
    writable("/proc/sys/net/ipv4/ip_forward")
}

/// Allow user namespaces again.
pub(crate) fn write_user_namespaces() -> Outcome {
    writable("/proc/sys/user/max_user_namespaces")
}

/// Through what hides it.
pub(crate) fn write_hidden() -> Outcome {
    writable("/proc/keys")
}
