//! The database's file and its lock.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// Locks `<path>.lock` as long as the file is open; the kernel unlocks it when the process dies.
pub fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name: OsString = path.into();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = private().open(&name).map_err(at(&name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(OpenError::File { path: name, source }),
    }
}

/// Makes the file when it is missing, durably and for this user only; SQLite gives its log the same mode.
pub fn create(path: &Path) -> Result<(), OpenError> {
    match private().create_new(true).open(path) {
        Ok(file) => file.sync_all().map_err(at(path))?,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(source) => return Err(at(path)(source)),
    }
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(at(directory))
}

/// That the file is there.
pub fn check(path: &Path) -> Result<(), OpenError> {
    path.metadata().map(|_| ()).map_err(at(path))
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options
}

fn at(path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::File {
        path: path.to_owned(),
        source,
    }
}
