//! One hierarchy: which files set limits and which ones tell use.
//!
//! Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,pids,cpuacct}.rst, scheduler/sched-bwc.rst of Linux.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::place::Place;
use super::{GroupLimits, Usage};

/// Microseconds in which a group may use its share of the processors.
const PERIOD: u64 = 100_000;

/// What a hierarchy can limit or count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Memory,
    Processes,
    Processors,
    /// Version 1 counts time apart from limiting it.
    Time,
}

impl Controller {
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "number of processes",
            Self::Processors | Self::Time => "processor time",
        }
    }

    /// Of version 1.
    fn named(name: &str) -> Option<Self> {
        match name {
            "memory" => Some(Self::Memory),
            "pids" => Some(Self::Processes),
            "cpu" => Some(Self::Processors),
            "cpuacct" => Some(Self::Time),
            _ => None,
        }
    }
}

/// The part of a hierarchy that is this service's.
#[derive(Clone, Debug)]
pub(super) struct Hierarchy {
    /// The group that all groups of builds are in.
    dir: PathBuf,
    unified: bool,
    controllers: Vec<Controller>,
}

impl Hierarchy {
    /// Makes the service's group; `None` where that cannot be, or would be of no use.
    pub(super) fn enter(place: &Place, name: &str) -> Option<Self> {
        let dir = place.dir.join(name);
        match &place.controllers {
            Some(names) => {
                let controllers: Vec<_> = names.iter().filter_map(|name| Controller::named(name)).collect();
                (!controllers.is_empty() && make(&dir).is_ok()).then_some(Self {
                    dir,
                    unified: false,
                    controllers,
                })
            }
            None => {
                make(&dir).ok()?;
                let controllers = [
                    ("memory", Controller::Memory),
                    ("pids", Controller::Processes),
                    ("cpu", Controller::Processors),
                ];
                let controllers = controllers
                    .into_iter()
                    .filter(|(name, _)| enable(&place.dir, name) && enable(&dir, name))
                    .map(|(_, controller)| controller)
                    .collect();
                // Without any, it is still a way to find and kill what a build has left.
                Some(Self {
                    dir,
                    unified: true,
                    controllers,
                })
            }
        }
    }

    pub(super) fn leave(&self) {
        let _ = fs::remove_dir(&self.dir);
    }

    pub(super) fn controllers(&self) -> impl Iterator<Item = Controller> + '_ {
        self.controllers.iter().copied()
    }

    /// Groups that are there already.
    pub(super) fn groups(&self) -> io::Result<Vec<PathBuf>> {
        let mut groups = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                groups.push(entry.path());
            }
        }
        Ok(groups)
    }

    pub(super) fn create(&self, name: &str, limits: &GroupLimits) -> io::Result<PathBuf> {
        let dir = self.dir.join(name);
        make(&dir)?;
        match self.limit(&dir, limits) {
            Ok(()) => Ok(dir),
            Err(error) => {
                let _ = fs::remove_dir(&dir);
                Err(error)
            }
        }
    }

    fn limit(&self, dir: &Path, limits: &GroupLimits) -> io::Result<()> {
        for controller in self.controllers() {
            match (controller, self.unified) {
                (Controller::Memory, true) => {
                    if let Some(bytes) = limits.memory {
                        set(dir, "memory.max", bytes)?;
                        // Absent without swap.
                        let _ = set(dir, "memory.swap.max", 0);
                        set(dir, "memory.oom.group", 1)?;
                    }
                }
                (Controller::Memory, false) => {
                    if let Some(bytes) = limits.memory {
                        set(dir, "memory.limit_in_bytes", bytes)?;
                        let _ = set(dir, "memory.memsw.limit_in_bytes", bytes);
                    }
                }
                (Controller::Processes, _) => {
                    if let Some(count) = limits.processes {
                        set(dir, "pids.max", count)?;
                    }
                }
                (Controller::Processors, true) => {
                    if let Some(count) = limits.processors {
                        set(
                            dir,
                            "cpu.max",
                            format_args!("{} {PERIOD}", u64::from(count) * PERIOD),
                        )?;
                    }
                }
                (Controller::Processors, false) => {
                    if let Some(count) = limits.processors {
                        set(dir, "cpu.cfs_period_us", PERIOD)?;
                        set(dir, "cpu.cfs_quota_us", u64::from(count) * PERIOD)?;
                    }
                }
                (Controller::Time, _) => {}
            }
        }
        Ok(())
    }

    pub(super) fn add_usage(&self, dir: &Path, usage: &mut Usage) {
        for controller in self.controllers() {
            match (controller, self.unified) {
                (Controller::Memory, true) => {
                    usage.memory_peak = number(dir, "memory.peak");
                    usage.killed_for_memory += keyed(dir, "memory.events", "oom_kill").unwrap_or(0);
                }
                (Controller::Memory, false) => {
                    usage.memory_peak = number(dir, "memory.max_usage_in_bytes");
                    usage.killed_for_memory += keyed(dir, "memory.oom_control", "oom_kill").unwrap_or(0);
                }
                (Controller::Processes, _) => {
                    usage.refused_processes += keyed(dir, "pids.events", "max").unwrap_or(0);
                }
                (Controller::Processors, true) => {
                    let time = |key| keyed(dir, "cpu.stat", key).map(Duration::from_micros);
                    usage.cpu_user = time("user_usec");
                    usage.cpu_system = time("system_usec");
                }
                (Controller::Processors, false) => {}
                (Controller::Time, _) => {
                    let time = |file| number(dir, file).map(Duration::from_nanos);
                    usage.cpu_user = time("cpuacct.usage_user");
                    usage.cpu_system = time("cpuacct.usage_sys");
                }
            }
        }
    }

    /// Bytes of memory of a group, but for what the kernel could drop at once.
    pub(super) fn memory(&self, dir: &Path) -> Option<u64> {
        if !self.controllers.contains(&Controller::Memory) {
            return None;
        }
        let (current, cache) = if self.unified {
            ("memory.current", "inactive_file")
        } else {
            ("memory.usage_in_bytes", "total_inactive_file")
        };
        let cached = keyed(dir, "memory.stat", cache).unwrap_or(0);
        Some(number(dir, current)?.saturating_sub(cached))
    }

    /// Kills what is in a group, waits until it is gone, removes the group.
    pub(super) fn end(&self, dir: &Path, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_micros(100);
        loop {
            match fs::remove_dir(dir) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("control group {}: {error}", dir.display()),
                    ));
                }
                Err(_) => self.kill(dir),
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn kill(&self, dir: &Path) {
        if self.unified && set(dir, "cgroup.kill", 1).is_ok() {
            return;
        }
        for pid in members(dir) {
            // A number may be another process's by now: it is looked for once more when nobody else can get it.
            if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
                && members(dir).contains(&pid)
            {
                // Gone already, or about to be.
                let _ = pidfd_send_signal(process, Signal::KILL);
            }
        }
    }
}

fn members(dir: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let pids = text.lines().filter_map(|line| line.parse().ok());
    pids.filter_map(Pid::from_raw).collect()
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

/// Lets the groups in `dir` have a controller. Version 2 wants no processes in a group that does so (but in the root): then this process,
/// when it is alone there, moves to a group of its own.
fn enable(dir: &Path, controller: &str) -> bool {
    let ask = || fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    if ask().is_ok() {
        return true;
    }
    let offered = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    if !offered.split_whitespace().any(|name| name == controller) {
        return false;
    }
    let own = dir.join("service");
    make(&own).is_ok() && fs::write(own.join("cgroup.procs"), "0").is_ok() && ask().is_ok()
}

fn set(dir: &Path, file: &str, value: impl ToString) -> io::Result<()> {
    let path = dir.join(file);
    fs::write(&path, value.to_string())
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn number(dir: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}

/// From lines of a key and a number.
fn keyed(dir: &Path, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(dir.join(file)).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key)?.1.trim().parse().ok()
}
