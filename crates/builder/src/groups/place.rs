//! Where the kernel shows control groups, and in which one this process is.

use std::path::{Path, PathBuf};

/// A hierarchy that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The group of this process.
    pub(super) dir: PathBuf,
    /// Names of version 1 controllers; none: it is version 2.
    pub(super) controllers: Option<Vec<String>>,
}

/// All of this machine.
pub(super) fn places() -> Vec<Place> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// proc(5), `mountinfo`; cgroups(7), `/proc/[pid]/cgroup`.
fn parse(mounts: &str, groups: &str) -> Vec<Place> {
    let groups: Vec<(Vec<&str>, &str)> = groups
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            Some((controllers.split(',').filter(|c| !c.is_empty()).collect(), path))
        })
        .collect();
    mounts
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut before = before.split(' ').skip(3);
            let (root, point) = (before.next()?, before.next()?);
            let mut after = after.split(' ');
            let (kind, options) = (after.next()?, after.nth(1)?);
            let options: Vec<&str> = options.split(',').collect();
            let (controllers, path) = match kind {
                "cgroup2" => (None, groups.iter().find(|(c, _)| c.is_empty())?.1),
                "cgroup" => {
                    let (controllers, path) = groups
                        .iter()
                        .find(|(c, _)| !c.is_empty() && c.iter().all(|c| options.contains(c)))?;
                    (Some(controllers.iter().map(ToString::to_string).collect()), *path)
                }
                _ => return None,
            };
            // What lies above the root of the mount cannot be seen here.
            let below = Path::new(path).strip_prefix(root).ok()?;
            Some(Place {
                dir: Path::new(point).join(below),
                controllers,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_side_by_side() {
        let mounts = "\
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
";
        let groups = "4:memory:/service/a\n2:cpu,cpuacct:/\n1:name=systemd:/init.scope\n0::/service\n";
        let place = |dir: &str, controllers: Option<&[&str]>| Place {
            dir: dir.into(),
            controllers: controllers.map(|c| c.iter().map(ToString::to_string).collect()),
        };
        assert_eq!(
            parse(mounts, groups),
            [
                place("/sys/fs/cgroup/memory/service/a", Some(&["memory"])),
                place("/sys/fs/cgroup/cpu,cpuacct", Some(&["cpu", "cpuacct"])),
                place("/sys/fs/cgroup/unified/service", None),
                place("/sys/fs/cgroup/systemd/init.scope", Some(&["name=systemd"])),
            ]
        );
    }

    #[test]
    fn a_container_sees_only_its_part() {
        let mounts = "31 30 0:27 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw,nsdelegate\n";
        let dirs = |groups: &str| -> Vec<PathBuf> {
            parse(mounts, groups).into_iter().map(|place| place.dir).collect()
        };
        assert_eq!(dirs("0::/docker/x/firn\n"), [Path::new("/sys/fs/cgroup/firn")]);
        assert!(dirs("0::/elsewhere\n").is_empty());
        assert!(dirs("nonsense").is_empty());
    }
}
