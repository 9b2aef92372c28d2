//! The store directory: outputs are made in it, inputs appear in it.
//!
//! An overlay joins a disk directory that takes the outputs with a tmpfs that has a name for each input. Root can let a name stand for
//! a tree elsewhere (overlayfs: "redirect_dir" and "metacopy"), so that thousands of inputs cost one mount. Where that cannot be, the
//! names are mount points; where there can be no overlay at all (on top of another overlay, across file systems) the mount points are
//! made on the disk.
//!
//! What a redirect leads to must lie below the root of a layer, and everything in that root would be seen in the root of the overlay. So
//! the store directory is one level below, and only that is shown.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::fs::{self, Metadata, Permissions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, unmount};

use super::inputs::{Known, make_points};
use super::io_ext::Named;
use super::root::{inside, make_dir};
use super::spawn::privileged;
use crate::SandboxSpec;

/// Mount the store directory in the root under construction. The inputs that are still to be mounted on the points that they have now.
pub(super) fn mount<'a>(
    spec: &SandboxSpec,
    host_root: &Path,
    stored: Vec<Known<'a>>,
) -> Result<Vec<Known<'a>>, String> {
    own(spec)?;
    let enter = |path: &Path| rustix::process::chdir(path).named(|| format!("enter {}", path.display()));
    let point = inside(&spec.store_dir);
    enter(&spec.scratch)?;
    if !stored.is_empty() && alone(&spec.store_scratch) {
        for dir in ["lower", "merged"] {
            make_dir(Path::new(dir), 0o755)?;
        }
        make_dir(Path::new("work"), 0o700)?;
        let contents = spec.content_dir.as_deref().filter(|_| privileged());
        for contents in contents.map(Some).into_iter().chain([None]) {
            if overlay(spec, &stored, contents)? {
                let store = Path::new("merged").join(name(spec));
                mount_bind(&store, host_root.join(&point)).named(|| "mount the store directory")?;
                enter(host_root)?;
                let rest = |known: &Known<'_>| !known.1.is_symlink() && redirect(known, contents).is_none();
                return Ok(stored.into_iter().filter(rest).collect());
            }
        }
    }
    enter(host_root)?;
    mount_bind(&spec.store_scratch, &point).named(|| format!("mount {}", spec.store_scratch.display()))?;
    make_points(&stored, inside)?;
    Ok(stored)
}

/// As root: `root:<group of the command> 01775`. Otherwise it is the user's own directory anyway.
fn own(spec: &SandboxSpec) -> Result<(), String> {
    let path = &spec.store_scratch;
    if let Some((_, gid)) = spec.host_ids {
        chown(path, Some(0), Some(gid)).named(|| format!("chown {}", path.display()))?;
    }
    fs::set_permissions(path, Permissions::from_mode(0o1775)).named(|| format!("chmod {}", path.display()))
}

/// Of the store directory, in the overlay.
fn name(spec: &SandboxSpec) -> &OsStr {
    spec.store_scratch.file_name().unwrap_or_default()
}

/// Whether nothing else is in the directory that it is in.
fn alone(dir: &Path) -> bool {
    let count = |parent| fs::read_dir(parent).map(Iterator::count);
    dir.parent().is_some_and(|parent| matches!(count(parent), Ok(1)))
}

/// Mount the overlay at `merged`. `false`: not possible here, nothing is mounted.
///
/// The command sees the options in /proc/mounts, so no host path is in them. `xino` gives all of it one
/// device number; `volatile` saves a sync of the whole disk at the end (whoever keeps an output makes it durable).
fn overlay(spec: &SandboxSpec, stored: &[Known<'_>], contents: Option<&Path>) -> Result<bool, String> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("none", "lower", "tmpfs", plain, c"mode=0755")
        .named(|| "mount a tmpfs for inputs")?;
    let names = Path::new("lower").join(name(spec));
    make_dir(&names, 0o755)?;
    let place = |target: &Path| names.join(target.strip_prefix(&spec.store_dir).unwrap_or(target));
    let mut points = Vec::new();
    for known @ (input, meta) in stored {
        match redirect(known, contents) {
            None => points.push((*input, meta.clone())),
            Some(to) if stand_for(&place(&input.target), meta, &to).is_ok() => {}
            Some(_) => {
                unmount("lower", UnmountFlags::DETACH).named(|| "unmount a tmpfs")?;
                return Ok(false);
            }
        }
    }
    make_points(&points, place)?;

    let upper = open(spec.store_scratch.parent().unwrap_or(&spec.store_scratch))?;
    let upper = upper.as_raw_fd();
    let lower = contents.map(open).transpose()?;
    let lowers = lower
        .as_ref()
        .map_or_else(String::new, |fd| format!(":/proc/self/fd/{}", fd.as_raw_fd()));
    let how = match (contents, privileged()) {
        (Some(_), _) => ",redirect_dir=on,metacopy=on",
        (None, true) => "",
        (None, false) => ",userxattr",
    };
    let options = format!(
        "lowerdir=lower{lowers},upperdir=/proc/self/fd/{upper},workdir=work,index=off,xino=on,volatile{how}"
    );
    let options = CString::new(options).named(|| "NUL in mount options")?;
    let mounted = rustix::mount::mount("store", "merged", "overlay", plain, options.as_c_str()).is_ok();
    if !mounted {
        unmount("lower", UnmountFlags::DETACH).named(|| "unmount a tmpfs")?;
    }
    Ok(mounted)
}

fn open(dir: &Path) -> Result<OwnedFd, String> {
    rustix::fs::open(
        dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .named(|| format!("open {}", dir.display()))
}

/// Where the source is in the layer of contents, when it is there and can be redirected to.
fn redirect((input, meta): &Known<'_>, contents: Option<&Path>) -> Option<Vec<u8>> {
    let below = input.source.strip_prefix(contents?).ok()?;
    let path = || [b"/", below.as_os_str().as_bytes()].concat();
    (meta.is_dir() || meta.is_file()).then(path)
}

/// Make an entry that stands for a directory or a file: with its attributes, its contents are those at `to`.
fn stand_for(point: &Path, meta: &Metadata, to: &[u8]) -> std::io::Result<()> {
    if meta.is_dir() {
        fs::DirBuilder::new().create(point)?;
    } else {
        fs::File::create_new(point)?.set_len(meta.len())?;
        rustix::fs::setxattr(point, "trusted.overlay.metacopy", b"", XattrFlags::empty())?;
    }
    rustix::fs::setxattr(point, "trusted.overlay.redirect", to, XattrFlags::empty())?;
    fs::set_permissions(point, Permissions::from_mode(meta.mode() & 0o777))?;
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(
        CWD,
        point,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
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
    let points: HashSet<_> = spec
        .inputs
        .iter()
        .filter_map(|input| input.target.strip_prefix(&spec.store_dir).ok())
        .map(Path::as_os_str)
        .collect();
    for entry in fs::read_dir(&spec.store_scratch).into_iter().flatten().flatten() {
        if points.contains(entry.file_name().as_os_str()) && fs::remove_dir(entry.path()).is_err() {
            let _ = fs::remove_file(entry.path());
        }
    }
}
