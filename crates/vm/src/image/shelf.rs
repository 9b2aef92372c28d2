//! The files of a cache of images.
//!
//! `<64 hex digits>.erofs` is an image, `.tmp` instead one that is being written. `boot` names the run of the kernel in
//! which they were written: nothing is forced to the disk, so that after another start their data may be missing.
//! `lock` is locked by the one cache that uses the folder.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::cache::CacheError;

const IMAGE: &str = "erofs";
const UNFINISHED: &str = "tmp";

/// The files of a cache of images.
#[derive(Debug)]
pub(super) struct Shelf {
    dir: PathBuf,
    _lock: File,
}

/// An image that was there already.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) key: String,
    pub(super) size: u64,
    written: SystemTime,
}

impl Shelf {
    /// Takes the folder, and removes what a crash left in it. Returns the images, the oldest first.
    pub(super) fn open(dir: &Path) -> Result<(Self, Vec<Found>), CacheError> {
        let io = |source| CacheError::at(dir, source);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(io)?;
        let dir = fs::canonicalize(dir).map_err(io)?;
        let lock = dir.join("lock");
        let lock = File::create(&lock).map_err(|source| CacheError::at(&lock, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CacheError::InUse(dir)),
            Err(TryLockError::Error(source)) => return Err(CacheError::at(&dir, source)),
        }
        let shelf = Self { dir, _lock: lock };
        let found = shelf
            .sort_out()
            .map_err(|source| CacheError::at(&shelf.dir, source))?;
        Ok((shelf, found))
    }

    fn sort_out(&self) -> io::Result<Vec<Found>> {
        let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let record = self.dir.join("boot");
        let intact = !boot.is_empty() && fs::read(&record).is_ok_and(|recorded| recorded == boot);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let extension = path.extension().and_then(|e| e.to_str());
            let key = path
                .file_stem()
                .and_then(|name| name.to_str())
                .filter(|key| is_key(key));
            match (key, extension) {
                (Some(key), Some(IMAGE)) if intact => {
                    let stat = path.metadata()?;
                    found.push(Found {
                        key: key.to_owned(),
                        size: stat.len(),
                        written: stat.modified()?,
                    });
                }
                (Some(_), Some(IMAGE | UNFINISHED)) => fs::remove_file(&path)?,
                _ => {}
            }
        }
        if !intact {
            fs::write(record, boot)?;
        }
        found.sort_by(|a, b| (a.written, &a.key).cmp(&(b.written, &b.key)));
        Ok(found)
    }

    pub(super) fn image(&self, key: &str) -> PathBuf {
        self.dir.join(key).with_extension(IMAGE)
    }

    pub(super) fn unfinished(&self, key: &str) -> PathBuf {
        self.dir.join(key).with_extension(UNFINISHED)
    }

    /// A file that nobody else may read, because an image shows what is in its trees.
    pub(super) fn create(&self, key: &str) -> io::Result<File> {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            // QEMU runs as a user of its own, who cannot enter this directory by himself.
            .mode(0o444)
            .open(self.unfinished(key))
    }

    pub(super) fn publish(&self, key: &str) -> io::Result<()> {
        fs::rename(self.unfinished(key), self.image(key))
    }

    /// Whether the image is gone now.
    pub(super) fn remove(&self, key: &str) -> bool {
        match fs::remove_file(self.image(key)) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

fn is_key(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
