//! A file system for each build: its size is the limit, whatever the build does with what it has written.
//!
//! An image file, a copy of an empty one that is made once, with all of its blocks allotted before the build starts, mounted through a loop device that vanishes with the mount. The
//! file loses its name as soon as it is mounted; so a killed service leaves nothing but a mount, which the next start removes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::disk::Amount;
use crate::scarcity::Scarcity;

/// Nothing in an image has to survive, so nothing is written in order or checked; tables that are not used are never written.
const OPTIONS: &str = "loop,nosuid,nodev,noatime,nobarrier,noinit_itable";
const FEATURES: &str = "^has_journal,^resize_inode";
/// Smallest number of bytes for each file that ext4 can be made with.
const BYTES_PER_FILE: u64 = 1024;

/// Extensions of files that have their names only for a moment.
const IMAGE: &str = "image";
const PART: &str = "part";

/// Whether a killed service has left this file.
pub(crate) fn is_unfinished(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == IMAGE || extension == PART)
}

/// Where images are made.
#[derive(Debug)]
pub(crate) struct Images {
    dir: PathBuf,
    /// One maker of the empty image at a time.
    making: Mutex<()>,
    scarcity: Arc<Scarcity>,
}

impl Images {
    /// In this directory, which is root's.
    pub(crate) fn new(dir: &Path, scarcity: Arc<Scarcity>) -> Self {
        Self {
            dir: dir.to_owned(),
            making: Mutex::new(()),
            scarcity,
        }
    }

    /// Mounts an empty file system of this size at `point`. Blocks.
    pub(crate) fn mount(&self, size: Amount, point: &Path) -> io::Result<()> {
        let empty = self.empty(size)?;
        let image = point.with_extension(IMAGE);
        let mounted = copy_with_holes(&empty, &image)
            .and_then(|copy| self.allot(&copy, size.bytes))
            .and_then(|()| {
                run(Command::new("mount")
                    .args(["-t", "ext4", "-o", OPTIONS, "--"])
                    .args([image.as_path(), point]))
            });
        let _ = fs::remove_file(&image);
        mounted
    }

    /// Takes all the space of an image: a block that was missing when the kernel wants to write it would be an error that nobody is
    /// told, and another content.
    fn allot(&self, image: &File, bytes: u64) -> io::Result<()> {
        let taken = self.scarcity.allot(bytes, || {
            Ok(rustix::fs::fallocate(image, FallocateFlags::empty(), 0, bytes)?)
        });
        taken.map_err(|e| {
            let text = format!("{bytes} bytes for the file system of a build cannot be set aside: {e}");
            io::Error::new(e.kind(), text)
        })
    }

    /// The empty image of this size.
    fn empty(&self, size: Amount) -> io::Result<PathBuf> {
        let Amount { bytes, entries } = size;
        let image = self.dir.join(format!("empty-{bytes}-{entries}.ext4"));
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if image.exists() {
            return Ok(image);
        }
        let part = image.with_extension(PART);
        let _ = fs::remove_file(&part);
        new_file(&part)?.set_len(bytes)?;
        let files = entries.clamp(16, (bytes / BYTES_PER_FILE).max(16));
        run(Command::new("mke2fs")
            .args([
                "-q",
                "-F",
                "-t",
                "ext4",
                "-m",
                "0",
                "-O",
                FEATURES,
                "-N",
                &files.to_string(),
            ])
            .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", "--"])
            .arg(&part))?;
        fs::rename(&part, &image)?;
        Ok(image)
    }
}

/// Unmounts what is mounted at `point`, and frees the space.
pub(crate) fn discard(point: &Path) -> io::Result<()> {
    Ok(unmount(point, UnmountFlags::empty()).or_else(|_| unmount(point, UnmountFlags::DETACH))?)
}

/// Unmounts everything below `dir` that a killed service has left.
pub(crate) fn discard_all(dir: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    for point in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
        // Names of builds need no escapes, and other directories are none of ours.
        let point = Path::new(point);
        if point.parent() == Some(dir) {
            discard(point)?;
        }
    }
    Ok(())
}

fn new_file(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn copy_with_holes(from: &Path, to: &Path) -> io::Result<File> {
    let (source, copy) = (File::open(from)?, new_file(to)?);
    let size = source.metadata()?.len();
    copy.set_len(size)?;
    let mut at = 0;
    loop {
        let data = match rustix::fs::seek(&source, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(copy),
            Err(errno) => return Err(errno.into()),
        };
        at = rustix::fs::seek(&source, SeekFrom::Hole(data))?;
        let (mut read, mut write) = (data, data);
        while read < at {
            let length = usize::try_from(at - read).unwrap_or(usize::MAX);
            if rustix::fs::copy_file_range(&source, Some(&mut read), &copy, Some(&mut write), length)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let program = command.get_program().display().to_string();
    let said = command
        .output()
        .map_err(|e| io::Error::new(e.kind(), format!("{program}: {e}")))?;
    if said.status.success() {
        return Ok(());
    }
    let text = said.stderr.escape_ascii();
    Err(io::Error::other(format!(
        "{program} ended with {}: {text}",
        said.status
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scarcity::Marks;

    #[test]
    fn a_file_system_has_its_size_and_goes_without_a_trace() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: mounting needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let scarcity = Scarcity::new(dir.path(), Marks::default()).unwrap();
        let images = Images::new(dir.path(), Arc::new(scarcity));
        let size = Amount {
            bytes: 64 << 20,
            entries: 2000,
        };
        for _ in 0..2 {
            let point = dir.path().join("0123");
            fs::create_dir(&point).unwrap();
            if let Err(e) = images.mount(size, &point) {
                println!("skipped: {e}");
                return;
            }
            let stat = rustix::fs::statvfs(&point).unwrap();
            assert!(stat.f_blocks * stat.f_frsize <= size.bytes);
            assert!(stat.f_files <= 2100, "{} files", stat.f_files);
            let full = fs::write(point.join("much"), vec![1; 80 << 20]).unwrap_err();
            assert_eq!(full.kind(), io::ErrorKind::StorageFull);
            discard_all(dir.path()).unwrap();
            assert_eq!(fs::read_dir(&point).unwrap().count(), 0);
            fs::remove_dir(&point).unwrap();
        }
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["empty-67108864-2000.ext4"]);
    }
}
