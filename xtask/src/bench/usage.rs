//! What a server costs, as the kernel has counted it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Time between two looks at the memory of processes that come and go.
const INTERVAL: Duration = Duration::from_millis(30);

/// How long the group of a server that was killed may take to be empty.
const PATIENCE: Duration = Duration::from_secs(10);

/// Clock ticks in a second, in what Linux tells programs.
const TICKS: f64 = 100.0;

/// One run of one case.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// From the start of the client to its end.
    pub seconds: f64,
    /// CPU seconds of the server and of all processes below it; not a number where the kernel does not count them.
    pub cpu: f64,
    /// Peak of the server's resident memory, in KiB.
    pub memory: u64,
}

impl Sample {
    /// Peak memory in MB.
    pub fn megabytes(&self) -> f64 {
        self.memory as f64 * 1024.0 / 1e6
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:7.2} s  {:6.2} CPU s  {:4.0} MB",
            self.seconds,
            self.cpu,
            self.megabytes()
        )
    }
}

/// A control group: it counts the CPU time of processes even if nobody waits for them, as it is with those of sshd. Removed when dropped.
pub struct CpuGroup {
    dir: Option<PathBuf>,
}

impl CpuGroup {
    /// A group for a process and those that it starts from now on. Without the right to make one, nothing is counted.
    pub fn new(pid: u32) -> Self {
        Self { dir: Self::make(pid) }
    }

    fn make(pid: u32) -> Option<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let root = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let dir = fields.next()?;
            (fields.next() == Some("cgroup2")).then_some(dir)
        })?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let dir = Path::new(root).join(own).join(format!("firn-bench-{pid}"));
        fs::create_dir(&dir).ok()?;
        if fs::write(dir.join("cgroup.procs"), pid.to_string()).is_err() {
            let _ = fs::remove_dir(&dir);
            return None;
        }
        Some(dir)
    }

    /// CPU seconds so far.
    pub fn seconds(&self) -> f64 {
        let read = |dir: &PathBuf| {
            let text = fs::read_to_string(dir.join("cpu.stat")).ok()?;
            let value = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
            Some(value.parse::<f64>().ok()? / 1e6)
        };
        self.dir.as_ref().and_then(read).unwrap_or(f64::NAN)
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        let Some(dir) = &self.dir else { return };
        let begun = Instant::now();
        while fs::remove_dir(dir).is_err() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// CPU seconds of the programs that this one started and that have ended, with all that they started and waited for.
pub fn children_cpu() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("name of this program")?;
    // Behind the name, proc(5) counts from 3; these are 16 and 17.
    let ticks = fields.split_whitespace().skip(13).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / TICKS)
}

/// Lets the peak begin anew.
pub fn reset_peak(pid: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("cannot reset VmHWM")
}

/// Peak of a process's resident memory since the reset, in KiB.
pub fn peak(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    field(&status, "VmHWM:").context("VmHWM")
}

/// Runs `act`; its result, and the peak of the memory that Nix's processes below `root` had together, in KiB: what is their own,
/// and the files of the largest, since the others share them.
pub fn sampled<T>(root: u32, act: impl FnOnce() -> T) -> (T, u64) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(memory_of_nix(root));
                std::thread::sleep(INTERVAL);
            }
            peak
        });
        let done = act();
        ended.store(true, Ordering::Relaxed);
        (done, watch.join().unwrap_or_default())
    })
}

fn memory_of_nix(root: u32) -> u64 {
    let (mut own, mut files) = (0, 0);
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        open.extend(children(pid));
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
            continue;
        };
        if status.lines().next().is_some_and(|name| name.contains("nix")) {
            own += field(&status, "RssAnon:").unwrap_or(0) + field(&status, "RssShmem:").unwrap_or(0);
            files = files.max(field(&status, "RssFile:").unwrap_or(0));
        }
    }
    own + files
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
