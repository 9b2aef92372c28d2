//! The directories of a running build.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use firn_core::BuildId;

use crate::disk::Amount;
use crate::disk_image::{self, Images};
use crate::environment::Environment;
use crate::failure::FULL;
use crate::layout::Directories;

/// Tries of one build whose directories may be there at a time.
const TRIES: u32 = 100;

/// One build's directory, named by the build's id. Must be removed by [`Scratch::remove`].
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
    /// Whether the directory is a file system of its own.
    mounted: bool,
    /// The parts.
    pub(crate) dirs: Directories,
}

impl Scratch {
    /// Makes the directories (in a file system of their own, when there are images for that), and the files that the builder finds in its working directory. `owner` is the host user and group of the
    /// builder when they are not this process's.
    pub(crate) fn create(
        parent: &Path,
        id: BuildId,
        disk: Option<(&Images, Amount)>,
        environment: &Environment,
        owner: Option<(u32, u32)>,
    ) -> io::Result<Self> {
        let mut made = Self::empty(parent, id)?;
        if let Some((images, size)) = disk {
            if let Err(e) = images.mount(size, &made.dir) {
                made.remove()?;
                return Err(e);
            }
            made.mounted = true;
        }
        match made.fill(environment, owner) {
            Ok(()) => Ok(made),
            Err(e) => {
                made.remove()?;
                Err(e)
            }
        }
    }

    /// Makes only the directory that they would be in.
    pub(crate) fn empty(parent: &Path, id: BuildId) -> io::Result<Self> {
        let dir = make_own(parent, id)?;
        Ok(Self {
            dirs: Directories::below(&dir),
            mounted: false,
            dir,
        })
    }

    fn fill(&self, environment: &Environment, owner: Option<(u32, u32)>) -> io::Result<()> {
        let Directories {
            scratch,
            store,
            build,
        } = &self.dirs;
        for dir in [scratch, store, build] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)?;
        }
        let own = |path: &Path| match owner {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        };
        for (name, contents) in &environment.files {
            let path = build.join(name);
            std::fs::write(&path, contents)?;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644))?;
            own(&path)?;
        }
        own(build)
    }

    /// All of it.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes in use of the file system, when it is this build's alone.
    pub(crate) fn used(&self) -> Option<u64> {
        let fs = self.mounted.then(|| rustix::fs::statvfs(&self.dir).ok())??;
        Some(fs.f_blocks.saturating_sub(fs.f_bfree).saturating_mul(fs.f_frsize))
    }

    /// Whether there is no room left in the file system that is this build's alone.
    pub(crate) fn is_full(&self) -> bool {
        let fs = self
            .mounted
            .then(|| rustix::fs::statvfs(&self.dir).ok())
            .flatten();
        fs.is_some_and(|fs| fs.f_ffree == 0 || fs.f_bavail.saturating_mul(fs.f_frsize) < FULL)
    }

    pub(crate) fn remove(self) -> io::Result<()> {
        if self.mounted {
            disk_image::discard(&self.dir)?;
        }
        remove_tree(&self.dir)
    }
}

/// Under the build's id, or a number behind it: what an earlier try of the same build has left may still be there.
fn make_own(parent: &Path, id: BuildId) -> io::Result<PathBuf> {
    let mut number = u128::from_be_bytes(id.0);
    for _ in 0..TRIES {
        let dir = parent.join(BuildId(number.to_be_bytes()).to_string());
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number = number.wrapping_add(1),
            made => return made.map(|()| dir),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Whatever its depth and modes.
fn remove_tree(dir: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Ok(firn_content::remove_tree(
        std::fs::File::open(parent)?,
        name.as_encoded_bytes(),
    )?)
}

/// Removes what builds of a process that is gone left behind. Gives their number.
pub(crate) fn sweep(parent: &Path) -> io::Result<usize> {
    disk_image::discard_all(&parent.canonicalize()?)?;
    let mut removed = 0;
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        let is_build = |name: &[u8]| name.len() == 32 && name.iter().all(u8::is_ascii_hexdigit);
        if is_build(entry.file_name().as_encoded_bytes()) && entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
            removed += 1;
        } else if disk_image::is_unfinished(&entry.path()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(removed)
}
