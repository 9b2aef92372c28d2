//! The directory that holds everything Firn keeps: what `firn serve` wants of it, and `firn doctor` says beforehand.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::fs::{Access, access};

/// Makes the directory where it is missing, and checks it.
pub fn open(dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the data directory {}", dir.display()))?;
    check(dir)
}

/// Why a service would refuse the directory, which is there or can be made.
pub fn check(dir: &Path) -> anyhow::Result<()> {
    let there = match std::fs::metadata(dir) {
        Ok(there) => there,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let above = dir.ancestors().skip(1).find(|above| above.exists());
            return writable(above.unwrap_or(Path::new("/")))
                .with_context(|| format!("cannot make the data directory {}", dir.display()));
        }
        Err(e) => return Err(e).with_context(|| format!("cannot use the data directory {}", dir.display())),
    };
    if !there.is_dir() {
        bail!("the data directory {} is not a directory", dir.display());
    }
    let mode = there.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "the data directory {dir} has mode {mode:o}: others can reach what is in it; run: chmod 700 {dir}",
            dir = dir.display()
        );
    }
    writable(dir)
}

fn writable(dir: &Path) -> anyhow::Result<()> {
    access(dir, Access::WRITE_OK | Access::EXEC_OK)
        .with_context(|| format!("cannot write to {}", dir.display()))
}

/// Whether a service uses the directory now.
pub fn in_use(dir: &Path) -> bool {
    let file = File::open(dir.join("lock"));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Takes the directory for this process, as long as the file is open.
pub fn lock(dir: &Path) -> anyhow::Result<File> {
    let file =
        File::create(dir.join("lock")).with_context(|| format!("cannot write to {}", dir.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "the data directory {} is in use by another `firn serve`",
                dir.display()
            )
        }
        Err(TryLockError::Error(e)) => Err(e).context("cannot lock the data directory"),
    }
}
