//! The root that the command sees.
//!
//! A small tmpfs, read-only in the end, with the writable directories and the inputs mounted in it. It lives in the mount namespace
//! of the child alone and vanishes with it.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, FileType, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    move_mount, open_tree, unmount,
};

use super::dev;
use super::io_ext::Named;
use crate::sys::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY};
use crate::{Input, SandboxSpec};

/// Make the root and move into it. Nothing of the old one is left.
pub(super) fn enter(spec: &SandboxSpec) -> Result<(), String> {
    let host_root = spec.scratch.join("root");
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .named(|| "make all mounts private")?;
    make_dir(&host_root, 0o755)?;
    mount(
        "root",
        &host_root,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"mode=0755",
    )
    .named(|| format!("mount a tmpfs at {}", host_root.display()))?;
    rustix::process::chdir(&host_root).named(|| format!("enter {}", host_root.display()))?;

    make_dirs(&spec.store_dir)?;
    own_store(spec)?;
    bind(&spec.store_scratch, &spec.store_dir, 0)?;
    mount_inputs(spec)?;
    make_files(spec)?;

    let tmp = spec.scratch.join("tmp");
    make_dir(&tmp, 0o1777)?;
    for (source, target) in [
        (tmp.as_path(), Path::new("/tmp")),
        (&spec.build_scratch, &spec.build_dir),
    ] {
        make_dirs(target)?;
        bind(source, target, ATTR_NOSUID | ATTR_NODEV)?;
    }
    dev::make()?;
    make_dirs(Path::new("/proc"))?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "proc", "proc", plain, None).named(|| {
        "mount a new /proc (an ordinary user may do so only where nothing hides parts of the present /proc)"
    })?;

    make_dirs(Path::new("/etc"))?;
    fs::set_permissions("etc", Permissions::from_mode(0o555)).named(|| "chmod /etc")?;
    rustix::process::pivot_root(".", ".").named(|| "pivot_root")?;
    unmount(".", UnmountFlags::DETACH).named(|| "detach the old root")?;
    rustix::process::chdir("/").named(|| "enter the new root")?;
    attributes(Path::new("/"), false, ATTR_RDONLY, 0)
}

/// As root: `root:<group of the command> 01775`. Otherwise it is the user's own directory anyway.
fn own_store(spec: &SandboxSpec) -> Result<(), String> {
    let path = &spec.store_scratch;
    if let Some((_, gid)) = spec.host_ids {
        chown(path, Some(0), Some(gid)).named(|| format!("chown {}", path.display()))?;
    }
    fs::set_permissions(path, Permissions::from_mode(0o1775)).named(|| format!("chmod {}", path.display()))
}

/// All mount points are made before anything is mounted, and links only after: so nothing is ever made through an input.
/// One recursive call then makes all mounts read-only; one for each would double the time.
fn mount_inputs(spec: &SandboxSpec) -> Result<(), String> {
    let mut parents = BTreeSet::new();
    let mut mounts = Vec::new();
    let mut links = Vec::new();
    for input in spec.inputs.iter().chain(&spec.extra) {
        let kind = kind(&input.source)?;
        if let Some(parent) = input.target.parent()
            && parents.insert(parent)
        {
            make_dirs(parent)?;
        }
        if kind.is_symlink() {
            links.push(input);
            continue;
        }
        let point = inside(&input.target);
        if kind.is_dir() {
            make_dir(&point, 0o755)?;
        } else if kind.is_file() {
            make_file(&point, 0o644, b"")?;
        } else {
            return Err(format!(
                "{} is no file, directory or symbolic link",
                input.source.display()
            ));
        }
        mounts.push((input, point));
    }
    for (Input { source, target }, point) in &mounts {
        mount_bind(source, point).named(|| format!("mount {} at {}", source.display(), target.display()))?;
    }
    attributes(Path::new("."), true, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, 0)?;
    attributes(Path::new("."), false, 0, ATTR_RDONLY)?;
    attributes(&inside(&spec.store_dir), false, 0, ATTR_RDONLY)?;
    for Input { source, target } in links {
        let text = fs::read_link(source).named(|| format!("read the link {}", source.display()))?;
        symlink(text, inside(target)).named(|| format!("make the link {}", target.display()))?;
    }
    Ok(())
}

fn make_files(spec: &SandboxSpec) -> Result<(), String> {
    for file in &spec.files {
        if let Some(parent) = file.path.parent() {
            make_dirs(parent)?;
        }
        make_file(&inside(&file.path), file.mode & 0o777, &file.contents)?;
    }
    Ok(())
}

/// Remove what was put into the store directory to mount inputs on, so that only outputs are left in it. Best effort: a caller looks for
/// outputs by name.
pub(super) fn clear_mount_points(spec: &SandboxSpec) {
    for input in &spec.inputs {
        let Ok(name) = input.target.strip_prefix(&spec.store_dir) else {
            continue;
        };
        let Some(top) = name.components().next() else {
            continue;
        };
        let point = spec.store_scratch.join(top);
        if top.as_os_str() == name.as_os_str() && fs::remove_dir(&point).is_err() {
            let _ = fs::remove_file(&point);
        }
    }
}

fn kind(path: &Path) -> Result<FileType, String> {
    Ok(fs::symlink_metadata(path)
        .named(|| format!("look at {}", path.display()))?
        .file_type())
}

/// The path below the root under construction, which is the working directory.
fn inside(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

pub(super) fn make_dirs(path: &Path) -> Result<(), String> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(Path::new(".").join(inside(path)))
        .named(|| format!("make the directory {} in the sandbox", path.display()))
}

fn make_dir(path: &Path, mode: u32) -> Result<(), String> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .named(|| format!("make the directory {}", path.display()))
}

pub(super) fn make_file(path: &Path, mode: u32, contents: &[u8]) -> Result<(), String> {
    let write = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?
            .write_all(contents)
    };
    write().named(|| format!("make the file {}", path.display()))
}

/// Mount one file or directory, without the mounts below it, at a place in the root under construction.
pub(super) fn bind(source: &Path, target: &Path, attrs: u64) -> Result<(), String> {
    let what = || format!("mount {} at {}", source.display(), target.display());
    let point = inside(target);
    mount_bind(source, &point).named(what)?;
    if attrs == 0 {
        Ok(())
    } else {
        attributes(&point, false, attrs, 0)
    }
}

fn mount_bind(source: &Path, point: &Path) -> rustix::io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = open_tree(CWD, source, flags)?;
    move_mount(&tree, c"", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn attributes(point: &Path, recursive: bool, set: u64, clear: u64) -> Result<(), String> {
    let what = || format!("mount_setattr (Linux 5.12) on {}", point.display());
    let dir = rustix::fs::open(
        point,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .named(what)?;
    let fd: BorrowedFd<'_> = dir.as_fd();
    sys::mount_setattr(fd, c"", recursive, set, clear).named(what)
}

/// For device nodes and the like.
pub(super) const HARMLESS: u64 = ATTR_NOSUID | ATTR_NOEXEC;
