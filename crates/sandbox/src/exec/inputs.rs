//! The store directory and the inputs in it and elsewhere.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Metadata};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::mount_bind;

use super::io_ext::Named;
use super::root::{attributes, inside, make_dir, make_dirs, make_file};
use super::store;
use crate::sys::{ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY};
use crate::{Input, SandboxSpec};

/// An input and what is at its source.
pub(super) type Known<'a> = (&'a Input, Metadata);

/// Mount the store directory and all inputs in the root under construction, which is the working directory.
pub(super) fn mount(spec: &SandboxSpec, host_root: &Path) -> Result<(), String> {
    let inputs = spec.inputs.iter().chain(&spec.extra);
    let known = inputs
        .map(|input| Ok((input, look(&input.source)?)))
        .collect::<Result<Vec<_>, String>>()?;
    let (stored, others): (Vec<_>, Vec<_>) = known
        .into_iter()
        .partition(|(input, _)| input.target.starts_with(&spec.store_dir));

    make_dirs(&spec.store_dir)?;
    let stored = store::mount(spec, host_root, stored)?;
    // All mount points exist before anything is mounted: so nothing is ever made through an input.
    make_points(&others, inside)?;
    for (Input { source, target }, meta) in stored.iter().chain(&others) {
        if !meta.is_symlink() {
            mount_bind(source, inside(target))
                .named(|| format!("mount {} at {}", source.display(), target.display()))?;
        }
    }
    // One recursive call; one for each mount would double the time.
    attributes(Path::new("."), true, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, 0)?;
    attributes(Path::new("."), false, 0, ATTR_RDONLY)?;
    attributes(&inside(&spec.store_dir), false, 0, ATTR_RDONLY)
}

/// Make an empty file or directory for each input to be mounted on, or the link itself.
pub(super) fn make_points(inputs: &[Known<'_>], place: impl Fn(&Path) -> PathBuf) -> Result<(), String> {
    let mut parents = BTreeSet::new();
    for (Input { source, target }, meta) in inputs {
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
        if meta.is_symlink() {
            let text = fs::read_link(source).named(|| format!("read the link {}", source.display()))?;
            symlink(text, &point).named(|| format!("make the link {}", target.display()))?;
        } else if meta.is_dir() {
            make_dir(&point, 0o755)?;
        } else if meta.is_file() {
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

fn look(path: &Path) -> Result<Metadata, String> {
    fs::symlink_metadata(path).named(|| format!("look at {}", path.display()))
}
