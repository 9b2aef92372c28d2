//! Where the machine says how much there is, and how much is free. Files are opened once and read without allocating, many times a second.
//!
//! Sources: statvfs(3); proc(5), `/proc/meminfo`, `/proc/loadavg`, `/proc/sys/fs/file-nr`, `/proc/sys/kernel/pty`; `/proc/net/sockstat` (net/ipv4/proc.c:
//! the memory of TCP and UDP is that of all network namespaces); cgroup-v2.rst and cgroup-v1/pids.rst.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use firn_service::ports::Scarce;
use rustix::fs::{Mode, OFlags};

use super::tally::Amounts;
use crate::groups;

/// Longest part of a file that is looked at.
const PART: usize = 4096;

/// Limits of the number of processes of this machine.
const TASKS: [&str; 2] = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
/// Terminals that are kept for the host itself.
const PTY_RESERVE: &str = "/proc/sys/kernel/pty/reserve";

#[derive(Debug)]
pub(super) struct Gauges {
    disk: Option<OwnedFd>,
    memory: Option<File>,
    tasks: Option<File>,
    tasks_max: u64,
    /// Groups that builds' groups are in: processes in them, and how many may be.
    groups: Vec<(File, u64)>,
    files: Option<File>,
    terminals: Option<File>,
    terminals_max: u64,
    sockets: Option<File>,
    /// Pages of memory of TCP above which the kernel begins to take it away.
    sockets_max: u64,
}

impl Gauges {
    /// With builds in `dir`, or where that is to be made.
    pub(super) fn new(dir: &Path) -> Self {
        let dir = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let sockets_max = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").ok();
        let sockets_max = sockets_max.and_then(|text| text.split_whitespace().nth(1)?.parse().ok());
        let terminals_max = number("/proc/sys/kernel/pty/max").unwrap_or(0);
        let groups = groups::process_limits_above().into_iter();
        Self {
            disk: rustix::fs::open(dir, flags, Mode::empty()).ok(),
            memory: File::open("/proc/meminfo").ok(),
            tasks: File::open("/proc/loadavg").ok(),
            tasks_max: TASKS.into_iter().filter_map(number).min().unwrap_or(u64::MAX),
            groups: groups
                .filter_map(|(file, max)| Some((File::open(file).ok()?, max)))
                .collect(),
            files: File::open("/proc/sys/fs/file-nr").ok(),
            terminals: File::open("/proc/sys/kernel/pty/nr").ok(),
            terminals_max: terminals_max.saturating_sub(number(PTY_RESERVE).unwrap_or(0)),
            sockets: File::open("/proc/net/sockstat").ok(),
            sockets_max: sockets_max.unwrap_or(0),
        }
    }

    /// How much there is in all.
    pub(super) fn total(&self) -> Amounts {
        let mut part = [0; PART];
        let disk = self.disk();
        let mut total: Amounts = [None; Scarce::ALL.len()];
        let mut set = |kind: Scarce, amount: Option<u64>| {
            if let Some(place) = total.get_mut(kind as usize) {
                *place = amount.filter(|amount| *amount > 0);
            }
        };
        set(Scarce::DiskSpace, disk.map(|disk| disk.0.0));
        set(Scarce::DiskEntries, disk.map(|disk| disk.1.0));
        set(
            Scarce::Memory,
            read(self.memory.as_ref(), &mut part).and_then(|text| kib(text, b"MemTotal:")),
        );
        let tasks = self
            .groups
            .iter()
            .map(|(_, max)| *max)
            .chain([self.tasks_max])
            .min();
        set(Scarce::Processes, tasks.filter(|max| *max < u64::MAX));
        set(
            Scarce::OpenFiles,
            read(self.files.as_ref(), &mut part).and_then(|text| word(text, 2)),
        );
        set(
            Scarce::Terminals,
            self.terminals.as_ref().map(|_| self.terminals_max),
        );
        let sockets = self.sockets.as_ref().map(|_| self.sockets_max);
        set(Scarce::Sockets, sockets);
        total
    }

    /// How much of each is free now.
    pub(super) fn free(&self) -> Amounts {
        let mut part = [0; PART];
        let disk = self.disk();
        let mut free: Amounts = [None; Scarce::ALL.len()];
        let mut set = |kind: Scarce, amount: Option<u64>| {
            if let Some(place) = free.get_mut(kind as usize) {
                *place = amount;
            }
        };
        set(Scarce::DiskSpace, disk.map(|disk| disk.0.1));
        set(Scarce::DiskEntries, disk.map(|disk| disk.1.1));
        let memory = read(self.memory.as_ref(), &mut part);
        let memory =
            memory.and_then(|text| Some(kib(text, b"MemAvailable:")? + kib(text, b"SwapFree:").unwrap_or(0)));
        set(Scarce::Memory, memory);
        set(Scarce::Processes, self.tasks(&mut part));
        let files = read(self.files.as_ref(), &mut part);
        let files = files.and_then(|text| Some(word(text, 2)?.saturating_sub(word(text, 0)?)));
        set(Scarce::OpenFiles, files);
        let terminals = read(self.terminals.as_ref(), &mut part).and_then(|text| word(text, 0));
        set(
            Scarce::Terminals,
            terminals.map(|used| self.terminals_max.saturating_sub(used)),
        );
        let sockets = read(self.sockets.as_ref(), &mut part).and_then(socket_pages);
        let sockets = sockets.map(|used| self.sockets_max.saturating_sub(used));
        set(Scarce::Sockets, sockets);
        free
    }

    /// Bytes and files: how many there are, and how many of them an ordinary user can have. A file system that says it has no files
    /// makes as many as fit.
    fn disk(&self) -> Option<((u64, u64), (u64, u64))> {
        let fs = rustix::fs::fstatvfs(self.disk.as_ref()?).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
        let entries = if fs.f_files == 0 {
            (0, u64::MAX)
        } else {
            (fs.f_files, fs.f_favail)
        };
        Some(((bytes(fs.f_blocks), bytes(fs.f_bavail)), entries))
    }

    fn tasks(&self, part: &mut [u8; PART]) -> Option<u64> {
        // `0.00 0.01 0.05 1/123 4567`
        let text = read(self.tasks.as_ref(), part)?;
        let mut both = words(text).nth(3)?.split(|byte| *byte == b'/');
        let mut free = self.tasks_max.saturating_sub(parse(both.nth(1)?)?);
        for (current, max) in &self.groups {
            let used = word(read(Some(current), part)?, 0)?;
            free = free.min(max.saturating_sub(used));
        }
        Some(free)
    }
}

/// Memory of TCP and UDP, in pages.
fn socket_pages(text: &[u8]) -> Option<u64> {
    let of = |line: &[u8]| {
        let mut words = words(line);
        words.find(|word| *word == b"mem")?;
        parse(words.next()?)
    };
    let lines = text.split(|byte| *byte == b'\n');
    Some(lines.filter_map(of).sum())
}

fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn read<'a>(file: Option<&File>, part: &'a mut [u8; PART]) -> Option<&'a [u8]> {
    let length = rustix::io::pread(file?, &mut part[..], 0).ok()?;
    part.get(..length)
}

fn kib(text: &[u8], name: &[u8]) -> Option<u64> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let rest = lines.find_map(|line| line.strip_prefix(name))?;
    word(rest, 0)?.checked_mul(1024)
}

fn word(text: &[u8], number: usize) -> Option<u64> {
    parse(words(text).nth(number)?)
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// What is too large for the type is more than anybody has.
fn parse(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let gauges = Gauges::new(&dir.path().join("not/yet/there"));
        let (total, free) = (gauges.total(), gauges.free());
        for kind in [
            Scarce::DiskSpace,
            Scarce::Memory,
            Scarce::Processes,
            Scarce::OpenFiles,
        ] {
            let (total, free) = (total[kind as usize].unwrap(), free[kind as usize].unwrap());
            assert!(free > 0 && free <= total, "{kind}: {free} of {total}");
        }
    }

    #[test]
    fn numbers_in_texts() {
        assert_eq!(
            kib(b"MemTotal:  24 kB\nMemAvailable:\t 7 kB\n", b"MemAvailable:"),
            Some(7 << 10)
        );
        assert_eq!(kib(b"MemTotal:  24 kB\n", b"MemFree:"), None);
        assert_eq!(word(b"12\t0\t9223372036854775807\n", 2), Some(i64::MAX as u64));
        assert_eq!(parse(b"99999999999999999999999999"), Some(u64::MAX));
        assert_eq!((parse(b"-1"), word(b"", 0)), (None, None));
        let sockets = b"sockets: used 83\nTCP: inuse 2 orphan 0 tw 0 alloc 5 mem 7\nUDP: inuse 0 mem 3\nFRAG: inuse 0 memory 0\n";
        assert_eq!(socket_pages(sockets), Some(10));
    }
}
