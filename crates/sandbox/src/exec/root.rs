//! The root that the command sees.
//!
//! A small tmpfs, read-only in the end, with the writable directories and the inputs mounted in it. It lives in the mount namespace
//! of the child alone and vanishes with it.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};

use super::io_ext::Named;
use super::{dev, inputs, proc};
use crate::SandboxSpec;
use crate::sys::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY};

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

    inputs::mount(spec, &host_root)?;
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
    dev::make(&spec.devices, spec.terminals)?;
    proc::make()?;

    make_dirs(Path::new("/etc"))?;
    fs::set_permissions("etc", Permissions::from_mode(0o555)).named(|| "chmod /etc")?;
    rustix::process::pivot_root(".", ".").named(|| "pivot_root")?;
    unmount(".", UnmountFlags::DETACH).named(|| "detach the old root")?;
    rustix::process::chdir("/").named(|| "enter the new root")?;
    attributes(Path::new("/"), false, ATTR_RDONLY, 0)
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

/// The path below the root under construction, which is the working directory.
pub(super) fn inside(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

pub(super) fn make_dirs(path: &Path) -> Result<(), String> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(Path::new(".").join(inside(path)))
        .named(|| format!("make the directory {} in the sandbox", path.display()))
}

pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), String> {
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

pub(super) fn attributes(point: &Path, recursive: bool, set: u64, clear: u64) -> Result<(), String> {
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
