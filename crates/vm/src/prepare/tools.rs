//! The guest's root: an image, of which a guest reads only what it touches.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use firn_content::WalkLimits;

use super::error::{Named as _, PrepareError, unsuitable};
use super::{PrepareOptions, copy, elf};
use crate::image::{Entry, write};
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
    let mut names = Vec::new();
    for entry in fs::read_dir(root).named("read", root)? {
        names.push(entry.named("read", root)?.path());
    }
    let entries: Vec<Entry<'_>> = names
        .iter()
        .map(|path| Entry {
            name: path.file_name().unwrap_or_default().as_bytes(),
            path,
        })
        .collect();
    let out = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(to);
    let out = out.named("make", to)?;
    write(&entries, &out, WalkLimits::default())
        .map(drop)
        .map_err(|e| unsuitable(root, e.to_string()))
}
