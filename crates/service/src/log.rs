//! The log of one run: a file that grows while the build runs, and any number of readers that each get the whole of it.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use firn_core::BuildId;
use tokio::sync::watch;

/// Bytes read from the file at once.
const CHUNK: usize = 64 * 1024;

/// Length of the log so far, and whether it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extent {
    len: u64,
    ended: bool,
}

/// Where the log of a run is kept.
pub(crate) fn log_path(dir: &Path, id: BuildId) -> PathBuf {
    let name = id.to_string();
    // The last digits of a time-ordered id are random: they spread the files over folders.
    dir.join(name.get(30..).unwrap_or("00")).join(name)
}

/// The writing end.
pub(crate) struct LogWriter {
    file: File,
    extent: watch::Sender<Extent>,
}

/// A handle from which readers start.
#[derive(Clone)]
pub(crate) struct Log {
    file: Arc<File>,
    extent: watch::Receiver<Extent>,
}

/// Starts the log of a run.
pub(crate) fn create(dir: &Path, id: BuildId) -> std::io::Result<(LogWriter, Log)> {
    let path = log_path(dir, id);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let file = File::options().write(true).create_new(true).open(&path)?;
    let reader = File::open(&path)?;
    let (send, receive) = watch::channel(Extent::default());
    Ok((
        LogWriter { file, extent: send },
        Log {
            file: Arc::new(reader),
            extent: receive,
        },
    ))
}

impl LogWriter {
    /// Appends; readers see it at once.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.extent.send_modify(|e| e.len += bytes.len() as u64);
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.extent.send_modify(|e| e.ended = true);
    }
}

impl Log {
    /// A reader from the first byte.
    pub(crate) fn reader(&self) -> LogReader {
        LogReader {
            log: self.clone(),
            at: 0,
        }
    }
}

/// One reader's position.
pub(crate) struct LogReader {
    log: Log,
    at: u64,
}

impl LogReader {
    /// The next bytes, as soon as there are some; `None` at the end of a log that has ended.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let at = self.at;
        let Ok(extent) = self
            .log
            .extent
            .wait_for(|e| e.len > at || e.ended)
            .await
            .map(|e| *e)
        else {
            return Ok(None);
        };
        if extent.len <= at {
            return Ok(None);
        }
        let wanted = usize::try_from(extent.len - at).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; wanted];
        // The page cache has what was written a moment ago; this does not wait for a disk.
        self.log.file.read_exact_at(&mut chunk, at)?;
        self.at += wanted as u64;
        Ok(Some(chunk.into()))
    }
}
