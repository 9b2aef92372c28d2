//! The guest's root: an image, of which a guest reads only what it touches.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::error::{Named as _, PrepareError};
use super::{PrepareOptions, copy, elf, program};
use crate::place;

/// Mount points.
const DIRS: [&str; 6] = ["dev", "inputs", "proc", "scratch", "sys", "tmp"];

pub(super) fn make(options: &PrepareOptions, root: &Path, to: &Path) -> Result<(), PrepareError> {
    let at = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    for dir in DIRS {
        let path = root.join(dir);
        fs::create_dir_all(&path).named("make", &path)?;
    }
    for (place, source) in [
        (place::FIRN, &options.guest),
        (place::SHELL, &options.busybox),
        (place::MKE2FS, &options.mke2fs),
    ] {
        copy(source, &at(Path::new(place)), 0o555)?;
        for library in elf::needed(source)? {
            copy(&library, &at(&library), 0o555)?;
        }
    }
    program(
        Command::new("mkfs.erofs")
            .args(["-T1", "--all-root", "-U", "00000000-0000-4000-8000-000000000000"])
            .arg(to)
            .arg(root),
    )
    .map(drop)
}
