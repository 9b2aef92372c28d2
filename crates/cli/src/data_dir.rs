//! The directory that holds everything Firn keeps: what `firn serve` wants of it, and `firn doctor` says beforehand.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use firn_db::Occupant;
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

/// Takes the directory for this process, as long as the file is open, and says there who that is.
pub fn lock(dir: &Path, me: &Occupant) -> anyhow::Result<File> {
    let name = dir.join("lock");
    let context = || format!("cannot write to {}", dir.display());
    let mut options = File::options();
    // Who does not get the lock leaves in the file what it says.
    options.create(true).truncate(false).read(true).write(true);
    let mut file = options.open(&name).with_context(context)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).with_context(context)?;
            file.write_all(format!("{me}\n").as_bytes())
                .with_context(context)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let other = std::fs::read_to_string(&name).unwrap_or_default();
            let other = match other.trim_end() {
                "" => String::new(),
                other => format!(" {other}"),
            };
            bail!(
                "the data directory {} is in use by another `firn serve`{other}; stop that one first, or choose another with --data-dir",
                dir.display()
            )
        }
        Err(TryLockError::Error(e)) => Err(e).context("cannot lock the data directory"),
    }
}
