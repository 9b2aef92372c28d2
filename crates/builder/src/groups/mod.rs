//! Control groups: how much of the machine one build may use, and how much it did.
//!
//! Each build gets a group of its own, in one hierarchy (version 2) or in several (version 1, or both side by side). The groups lie below
//! one that is named after the directory of this service's builds, so that the next start finds what a killed one left behind.

mod hierarchy;
mod place;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firn_core::BuildId;
use sha2::{Digest as _, Sha256};

use hierarchy::{Controller, Hierarchy};

/// Longest wait until everything in a group is gone that was killed.
const DEATH: Duration = Duration::from_secs(10);

/// What one build may use. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupLimits {
    /// Bytes, those of `/dev/shm` and of the page cache that cannot be dropped included.
    pub memory: Option<u64>,
    /// Processes and threads at a time.
    pub processes: Option<u64>,
    /// Processors' worth of time.
    pub processors: Option<u32>,
}

/// What a build has used, as far as there is somebody who counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Most bytes at a time.
    pub memory_peak: Option<u64>,
    /// Time of all processes, whether anybody waited for them or not.
    pub cpu_user: Option<Duration>,
    /// Likewise, in the kernel.
    pub cpu_system: Option<Duration>,
    /// Processes killed for going over the limit of memory.
    pub killed_for_memory: u64,
    /// Times that a process could not be made because of the limit.
    pub refused_processes: u64,
}

/// What the groups of a build hold, as long as they are there.
#[derive(Clone, Debug)]
pub(crate) struct Gauge {
    members: Vec<(Hierarchy, PathBuf)>,
}

/// The place of this service's groups.
#[derive(Debug)]
pub struct Groups {
    hierarchies: Vec<Hierarchy>,
}

/// The groups of one build; to be ended with [`Group::end`].
#[derive(Debug)]
pub struct Group {
    members: Vec<(Hierarchy, PathBuf)>,
}

impl Groups {
    /// Finds where groups can be made, and makes the one that all are in. `builds`: the directory of the service's builds.
    #[must_use]
    pub fn find(builds: &Path) -> Self {
        let digest = Sha256::digest(builds.as_os_str().as_encoded_bytes());
        let tag: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let hierarchies = place::places()
            .into_iter()
            .filter_map(|place| Hierarchy::enter(&place, &format!("firn-{tag}")))
            .collect();
        Self { hierarchies }
    }

    /// What cannot be limited here, in words.
    #[must_use]
    pub fn lacking(&self) -> Vec<&'static str> {
        let have: BTreeSet<Controller> = self.hierarchies.iter().flat_map(|h| h.controllers()).collect();
        [Controller::Memory, Controller::Processes, Controller::Processors]
            .into_iter()
            .filter(|controller| !have.contains(controller))
            .map(Controller::what)
            .collect()
    }

    /// Whether the number of processes can be limited.
    pub(crate) fn limits_processes(&self) -> bool {
        let mut controllers = self.hierarchies.iter().flat_map(|h| h.controllers());
        controllers.any(|controller| controller == Controller::Processes)
    }

    /// Ends what groups of an earlier process hold. Gives their number.
    ///
    /// # Errors
    /// The first that cannot be emptied or removed, named.
    pub fn sweep(&self) -> io::Result<usize> {
        let mut removed = 0;
        for hierarchy in &self.hierarchies {
            for group in hierarchy.groups()? {
                hierarchy.end(&group, DEATH)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Makes the groups of a build, with its limits.
    ///
    /// # Errors
    /// The first that cannot be made; nothing is left then.
    pub fn create(&self, id: BuildId, limits: &GroupLimits) -> io::Result<Group> {
        let mut group = Group { members: Vec::new() };
        for hierarchy in &self.hierarchies {
            match hierarchy.create(&id.to_string(), limits) {
                Ok(dir) => group.members.push((hierarchy.clone(), dir)),
                Err(error) => {
                    let _ = group.end();
                    return Err(error);
                }
            }
        }
        Ok(group)
    }
}

impl Drop for Groups {
    /// The group of an orderly service goes with it; one with groups in it stays for the next start.
    fn drop(&mut self) {
        self.hierarchies.iter().for_each(Hierarchy::leave);
    }
}

impl Group {
    /// The directories that the first process of the build is to join.
    #[must_use]
    pub fn dirs(&self) -> Vec<PathBuf> {
        self.members.iter().map(|(_, dir)| dir.clone()).collect()
    }

    /// What it has used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for (hierarchy, dir) in &self.members {
            hierarchy.add_usage(dir, &mut usage);
        }
        usage
    }

    /// What it holds, for as long as it is there.
    pub(crate) fn gauge(&self) -> Gauge {
        Gauge {
            members: self.members.clone(),
        }
    }

    /// Kills whatever is left in it, waits until it is gone, and removes the groups. Blocks.
    ///
    /// # Errors
    /// When something does not die.
    pub fn end(self) -> io::Result<()> {
        let mut outcome = Ok(());
        for (hierarchy, dir) in &self.members {
            outcome = outcome.and(hierarchy.end(dir, DEATH));
        }
        outcome
    }
}

impl Gauge {
    /// Bytes of memory that would be free without it.
    pub(crate) fn memory(&self) -> u64 {
        let of = |(hierarchy, dir): &(Hierarchy, PathBuf)| hierarchy.memory(dir);
        self.members.iter().find_map(of).unwrap_or(0)
    }

    /// Processes that were killed for lack of memory.
    pub(crate) fn killed(&self) -> u64 {
        let mut usage = Usage::default();
        for (hierarchy, dir) in &self.members {
            hierarchy.add_usage(dir, &mut usage);
        }
        usage.killed_for_memory
    }
}

/// The limits on the number of processes of the groups that builds' groups are made in: the file that tells how many there are, and
/// how many there may be.
pub(crate) fn process_limits_above() -> Vec<(PathBuf, u64)> {
    let counts = |place: &place::Place| {
        let controllers = place.controllers.as_ref();
        controllers.is_none_or(|names| names.iter().any(|name| name == "pids"))
    };
    let limit = |dir: &Path| {
        let max = std::fs::read_to_string(dir.join("pids.max")).ok()?;
        Some((dir.join("pids.current"), max.trim().parse().ok()?))
    };
    let places = place::places();
    let dirs = places
        .iter()
        .filter(|place| counts(place))
        .flat_map(|place| place.dir.ancestors());
    dirs.filter_map(limit).collect()
}
