//! The store directory and the inputs in it and elsewhere.
//!
//! A directory can only be mounted on a directory, and making thousands of them on a disk (and removing them again) takes
//! seconds. So the mount points are made in a tmpfs, and an overlay joins it with the disk directory that takes the outputs.
//! Where there can be no overlay (on top of another overlay, across file systems) the mount points are made on
//! the disk after all.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, FileType, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount_bind};

use super::io_ext::Named;
use super::root::{attributes, inside, make_dir, make_dirs, make_file};
use super::spawn::privileged;
use crate::sys::{ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY};
use crate::{Input, SandboxSpec};

/// Mount the store directory and all inputs in the root under construction, which is the working directory.
pub(super) fn mount(spec: &SandboxSpec, host_root: &Path) -> Result<(), String> {
    let inputs = spec.inputs.iter().chain(&spec.extra);
    let known = inputs
        .map(|input| Ok((input, kind(&input.source)?)))
        .collect::<Result<Vec<_>, String>>()?;
    let (stored, others): (Vec<_>, Vec<_>) = known
        .into_iter()
        .partition(|(input, _)| input.target.starts_with(&spec.store_dir));

    make_dirs(&spec.store_dir)?;
    own_store(spec)?;
    if stored.is_empty() || !overlay(spec, host_root, &stored)? {
        mount_bind(&spec.store_scratch, inside(&spec.store_dir))
            .named(|| format!("mount {}", spec.store_scratch.display()))?;
        make_points(&stored, inside)?;
    }
    // All mount points exist before anything is mounted: so nothing is ever made through an input.
    make_points(&others, inside)?;
    for (Input { source, target }, kind) in stored.iter().chain(&others) {
        if !kind.is_symlink() {
            mount_bind(source, inside(target))
                .named(|| format!("mount {} at {}", source.display(), target.display()))?;
        }
    }
    // One recursive call; one for each mount would double the time.
    attributes(Path::new("."), true, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, 0)?;
    attributes(Path::new("."), false, 0, ATTR_RDONLY)?;
    attributes(&inside(&spec.store_dir), false, 0, ATTR_RDONLY)
}

/// As root: `root:<group of the command> 01775`. Otherwise it is the user's own directory anyway.
fn own_store(spec: &SandboxSpec) -> Result<(), String> {
    let path = &spec.store_scratch;
    if let Some((_, gid)) = spec.host_ids {
        chown(path, Some(0), Some(gid)).named(|| format!("chown {}", path.display()))?;
    }
    fs::set_permissions(path, Permissions::from_mode(0o1775)).named(|| format!("chmod {}", path.display()))
}

/// Mount the store directory as an overlay of mount points over the disk. `false`: not possible here, nothing is mounted.
///
/// The command sees the options in /proc/mounts, so no host path is in them. `xino` gives all of it one
/// device number; `volatile` saves a sync of the whole disk at the end (whoever keeps an output makes it durable).
fn overlay(spec: &SandboxSpec, host_root: &Path, stored: &[(&Input, FileType)]) -> Result<bool, String> {
    let store = host_root.join(inside(&spec.store_dir));
    let enter = |path: &Path| rustix::process::chdir(path).named(|| format!("enter {}", path.display()));
    enter(&spec.scratch)?;
    let (lower, work) = (Path::new("lower"), Path::new("work"));
    make_dir(lower, 0o755)?;
    make_dir(work, 0o700)?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("none", lower, "tmpfs", plain, c"mode=0755")
        .named(|| "mount a tmpfs for mount points")?;
    make_points(stored, |target| {
        lower.join(target.strip_prefix(&spec.store_dir).unwrap_or(target))
    })?;

    let upper = rustix::fs::open(
        &spec.store_scratch,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .named(|| format!("open {}", spec.store_scratch.display()))?;
    let mut options = format!(
        "lowerdir=lower,upperdir=/proc/self/fd/{},workdir=work,index=off,xino=on,volatile",
        upper.as_raw_fd()
    );
    if !privileged() {
        options.push_str(",userxattr");
    }
    let options = std::ffi::CString::new(options).named(|| "NUL in mount options")?;
    let mounted = rustix::mount::mount("store", &store, "overlay", plain, options.as_c_str()).is_ok();
    enter(host_root)?;
    Ok(mounted)
}

/// Make an empty file or directory for each input to be mounted on, or the link itself.
fn make_points(inputs: &[(&Input, FileType)], place: impl Fn(&Path) -> PathBuf) -> Result<(), String> {
    let mut parents = BTreeSet::new();
    for (Input { source, target }, kind) in inputs {
        let point = place(target);
        if let Some(parent) = point.parent()
            && !parents.contains(parent)
        {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(Path::new(".").join(parent))
                .named(|| format!("make the directory of {}", target.display()))?;
            parents.insert(parent.to_owned());
        }
        if kind.is_symlink() {
            let text = fs::read_link(source).named(|| format!("read the link {}", source.display()))?;
            symlink(text, &point).named(|| format!("make the link {}", target.display()))?;
        } else if kind.is_dir() {
            make_dir(&point, 0o755)?;
        } else if kind.is_file() {
            make_file(&point, 0o644, b"")?;
        } else {
            return Err(format!(
                "{} is no file, directory or symbolic link",
                source.display()
            ));
        }
    }
    Ok(())
}

/// Remove what this module left on the disk, so that only outputs are in the store directory. Best effort: a caller looks for outputs
/// by name, and removes `scratch`.
pub(super) fn clear(spec: &SandboxSpec) {
    if !privileged() {
        // The kernel makes a directory with mode 0 in it, which the caller could not remove recursively.
        let work = spec.scratch.join("work");
        let _ = fs::set_permissions(work.join("work"), Permissions::from_mode(0o700));
        let _ = fs::remove_dir_all(work);
    }
    let points: BTreeSet<_> = spec
        .inputs
        .iter()
        .filter_map(|input| input.target.strip_prefix(&spec.store_dir).ok())
        .collect();
    for entry in fs::read_dir(&spec.store_scratch).into_iter().flatten().flatten() {
        if points.contains(Path::new(&entry.file_name())) && fs::remove_dir(entry.path()).is_err() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn kind(path: &Path) -> Result<FileType, String> {
    Ok(fs::symlink_metadata(path)
        .named(|| format!("look at {}", path.display()))?
        .file_type())
}
