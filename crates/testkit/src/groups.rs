//! Control groups that a killed server leaves behind. Its next start would remove them; a test has none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

/// How long something in a group may take to be gone after it was killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes the groups of the server whose builds are in this directory; it must have ended. What cannot be removed stays.
pub(crate) fn remove(builds: &Path) {
    let begun = Instant::now();
    for group in find(builds) {
        while group.exists() && begun.elapsed() < PATIENCE {
            for build in fs::read_dir(&group).into_iter().flatten().flatten() {
                // Of the files in there, none can be removed.
                let _ = fs::remove_dir(build.path());
            }
            if fs::remove_dir(&group).is_err() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// A server's groups lie below its own, which is that of the test, and are named after the directory of its builds.
pub(crate) fn find(builds: &Path) -> BTreeSet<PathBuf> {
    let Ok(builds) = builds.canonicalize() else {
        return BTreeSet::new();
    };
    let digest = Sha256::digest(builds.as_os_str().as_encoded_bytes());
    let tag: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (mounts, groups) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
    let points = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after
            .starts_with("cgroup")
            .then(|| before.split(' ').nth(4))
            .flatten()
    });
    let own: BTreeSet<&str> = groups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .collect();
    points
        .flat_map(|point| own.iter().map(move |path| format!("{point}{path}")))
        .map(|dir| Path::new(&dir).join(format!("firn-{tag}")))
        .filter(|group| group.is_dir())
        .collect()
}
