//! The serial port to the host.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::guest::setup;
use crate::job::Job;
use crate::place;
use crate::record::{GuestRecord, HEAD, Pieces};

/// Longest wait for the port.
const APPEAR: Duration = Duration::from_secs(30);
/// Longest wait for the job.
const JOB: Duration = Duration::from_secs(120);

/// Writes wait while the host does not read.
#[derive(Debug)]
pub(super) struct Port(File);

impl Port {
    /// Mounts what has to be there for it to exist.
    pub(super) fn open() -> Result<Self, String> {
        setup::mount_devices()?;
        let since = Instant::now();
        loop {
            if let Some(path) = find() {
                let open = File::options().read(true).write(true).open(&path);
                return open
                    .map(Self)
                    .map_err(|e| format!("open {}: {e}", path.display()));
            }
            if since.elapsed() > APPEAR {
                return Err("there is no serial port to the host".to_owned());
            }
            // The host adds ports one by one, after the device.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[cfg(test)]
    pub(super) fn of(file: File) -> Self {
        Self(file)
    }

    pub(super) fn send(&self, record: &GuestRecord) -> io::Result<()> {
        (&self.0).write_all(&record.encode())
    }

    /// Log or archive.
    pub(super) fn send_pieces(&self, pieces: Pieces, bytes: &[u8]) -> io::Result<()> {
        for (head, body) in pieces.of(bytes) {
            (&self.0).write_all(&head)?;
            (&self.0).write_all(body)?;
        }
        Ok(())
    }

    /// The job, and then nothing more comes.
    pub(super) fn job(&self) -> Result<Job, String> {
        let timeout = Timespec {
            tv_sec: JOB.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(1..) => {}
            Ok(0) => return Err("no job came".to_owned()),
            Err(e) => return Err(format!("wait for the job: {e}")),
        }
        let failed = |e: io::Error| format!("read the job: {e}");
        let mut head = [0; HEAD];
        (&self.0).read_exact(&mut head).map_err(failed)?;
        let length = Job::length(head).ok_or("what came is no job")?;
        let mut body = Vec::new();
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        (&self.0).take(length).read_to_end(&mut body).map_err(failed)?;
        if body.len() as u64 != length {
            return Err("the job is incomplete".to_owned());
        }
        Job::decode(&body).map_err(|e| format!("the job: {e}"))
    }
}

/// Ports are numbered by the order in which devices were found, so this one has a name.
fn find() -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    let mut ours = ports.flatten().filter(|port| {
        fs::read(port.path().join("name")).is_ok_and(|name| name.trim_ascii() == place::PORT.as_bytes())
    });
    ours.next().map(|port| Path::new("/dev").join(port.file_name()))
}
