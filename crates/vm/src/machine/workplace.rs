//! The directory of one running machine: QEMU's own sandbox, the disk and the socket.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::error::VmError;

/// Of the disk, in the directory that QEMU can write to.
pub(super) const DISK: &str = "disk";
/// Of the socket, likewise.
pub(super) const PORT: &str = "port";

/// Made of an empty directory; the caller removes that.
#[derive(Debug)]
pub(super) struct Workplace {
    pub(super) scratch: PathBuf,
    pub(super) store: PathBuf,
    /// What QEMU can write to.
    pub(super) machine: PathBuf,
    listener: UnixListener,
}

impl Workplace {
    pub(super) fn make(
        dir: &Path,
        given: Option<&Path>,
        disk_bytes: u64,
        owner: Option<(u32, u32)>,
    ) -> Result<Self, VmError> {
        let [scratch, store, machine] = ["sandbox", "store", "machine"].map(|name| dir.join(name));
        for path in [&scratch, &store, &machine] {
            let made = DirBuilder::new().mode(0o700).create(path);
            made.map_err(failed("make", path))?;
        }
        let disk = machine.join(DISK);
        let made = match given {
            Some(given) => fs::rename(given, &disk),
            None => OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&disk)
                .and_then(|file| file.set_len(disk_bytes)),
        };
        made.map_err(failed("make", &disk))?;
        let port = machine.join(PORT);
        let listener = listen(&machine).map_err(failed("listen at", &port))?;
        if let Some((uid, gid)) = owner {
            for path in [&disk, &port, &machine] {
                chown(path, Some(uid), Some(gid)).map_err(failed("give away", path))?;
            }
        }
        Ok(Self {
            scratch,
            store,
            machine,
            listener,
        })
    }

    /// QEMU's end of the serial port. There is one connection.
    pub(super) async fn connection(&self) -> Result<UnixStream, VmError> {
        let (stream, _) = self.listener.accept().await.map_err(VmError::Port)?;
        let _ = fs::remove_file(self.machine.join(PORT));
        Ok(stream)
    }

    /// Takes the name of the disk away.
    pub(super) fn forget_disk(&self) {
        let _ = fs::remove_file(self.machine.join(DISK));
    }
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> VmError + use<'a> {
    move |source| VmError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

/// By way of the directory's descriptor, because the address of a socket has room for 107 bytes only.
fn listen(dir: &Path) -> io::Result<UnixListener> {
    let dir = File::open(dir)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{PORT}", dir.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn deep_directories_have_sockets_too() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a".repeat(100)).join("b".repeat(100));
        fs::create_dir_all(&deep).unwrap();
        let it = Workplace::make(&deep, None, 1 << 40, None).unwrap();
        assert!(it.machine.join(PORT).exists());
        assert_eq!(fs::metadata(it.machine.join(DISK)).unwrap().len(), 1 << 40);
        it.forget_disk();
        assert!(!it.machine.join(DISK).exists());
    }

    #[tokio::test]
    async fn a_disk_that_is_given_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let given = dir.path().join("disk");
        fs::write(&given, "disk").unwrap();
        let it = Workplace::make(dir.path(), Some(&given), 4, None).unwrap();
        assert_eq!(fs::read(it.machine.join(DISK)).unwrap(), b"disk");
        assert!(!given.exists());
    }
}
