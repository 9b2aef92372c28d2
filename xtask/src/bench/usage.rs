//! What a server costs, from `/proc`.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Clock ticks of `/proc/PID/stat` in a second: fixed for programs, whatever the kernel's own is.
const TICKS: f64 = 100.0;

/// Time between two looks at the memory of processes that come and go.
const INTERVAL: Duration = Duration::from_millis(30);

/// How long the processes of a connection may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// One run of one case.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// From the start of the client to its end.
    pub seconds: f64,
    /// CPU seconds of the server, and of its processes that ended meanwhile.
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

/// User and system time of a process and of its ended, waited-for descendants.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name, which may have blanks, stands in parentheses; field 3 follows.
    let fields = stat
        .rsplit_once(')')
        .context("/proc/PID/stat")?
        .1
        .split_whitespace();
    let times = fields.skip(11).take(4);
    Ok(times.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / TICKS)
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

/// Waits until a process has no children.
pub fn childless(pid: u32) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !children(pid).is_empty() {
        if begun.elapsed() > PATIENCE {
            bail!("a process of the server does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
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
