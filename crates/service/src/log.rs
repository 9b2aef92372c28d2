//! The log of one run: a file that grows while the build runs, and any number of readers that each get the whole of it.

use std::fs::File;
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
    /// The run that writes it; `None` for one that came from elsewhere.
    id: Option<BuildId>,
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
            id: Some(id),
            file: Arc::new(reader),
            extent: receive,
        },
    ))
}

/// The whole log of a run that has ended.
pub(crate) fn reopen(dir: &Path, id: BuildId) -> std::io::Result<Log> {
    Ok(Log {
        id: Some(id),
        ..whole(&log_path(dir, id))?
    })
}

/// A log that stands whole in a file.
pub(crate) fn whole(path: &Path) -> std::io::Result<Log> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let (_, extent) = watch::channel(Extent { len, ended: true });
    Ok(Log {
        id: None,
        file: Arc::new(file),
        extent,
    })
}

/// Deletes the log of a run that came to nothing. Who reads it reads on.
pub(crate) fn remove(dir: &Path, id: BuildId) {
    if let Err(e) = std::fs::remove_file(log_path(dir, id)) {
        tracing::warn!(error = %e, build = %id, "cannot delete a build log");
    }
}

impl LogWriter {
    /// Appends; readers see it at once. What an error left behind is written over by the next one.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let at = self.extent.borrow().len;
        self.file.write_all_at(bytes, at)?;
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
    /// The run that writes it.
    pub(crate) fn id(&self) -> Option<BuildId> {
        self.id
    }

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
        self.read(extent)
    }

    /// The next bytes of those that are there; `None` where it ends for now.
    pub(crate) fn next_now(&mut self) -> std::io::Result<Option<Bytes>> {
        let extent = *self.log.extent.borrow();
        self.read(extent)
    }

    fn read(&mut self, extent: Extent) -> std::io::Result<Option<Bytes>> {
        let at = self.at;
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

#[cfg(test)]
mod tests {
    use super::*;

    const ID: BuildId = BuildId([0xab; 16]);

    async fn read(log: &Log) -> Vec<u8> {
        let mut reader = log.reader();
        let mut all = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            all.extend_from_slice(&chunk);
        }
        all
    }

    #[tokio::test]
    async fn every_reader_gets_the_whole_of_it_whenever_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, log) = create(dir.path(), ID).unwrap();
        let mut early = log.reader();
        writer.append(b"one ").unwrap();
        assert_eq!(early.next().await.unwrap().unwrap(), "one ");
        let long = vec![b'x'; 3 * CHUNK];
        let readers = async {
            let whole = tokio::join!(read(&log), read(&log));
            assert_eq!(whole.0.len(), 4 + long.len() + 4);
            assert_eq!(whole.0, whole.1);
        };
        let writing = async {
            writer.append(&long).unwrap();
            tokio::task::yield_now().await;
            writer.append(b" two").unwrap();
            drop(writer);
        };
        tokio::join!(readers, writing);
        let late = read(&log).await;
        assert!(late.starts_with(b"one x") && late.ends_with(b"x two"));
        assert_eq!(std::fs::read(log_path(dir.path(), ID)).unwrap(), late);
    }

    #[tokio::test]
    async fn an_empty_log_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, log) = create(dir.path(), ID).unwrap();
        let mut reader = log.reader();
        drop(writer);
        assert_eq!(reader.next().await.unwrap(), None);
        assert_eq!(read(&log).await, b"");
    }

    #[tokio::test]
    async fn a_log_that_was_cut_from_outside_is_an_error_and_not_a_wait() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, log) = create(dir.path(), ID).unwrap();
        writer.append(b"one").unwrap();
        File::create(log_path(dir.path(), ID)).unwrap();
        assert!(log.reader().next().await.is_err());
    }

    #[test]
    fn no_log_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), ID).unwrap();
        assert!(create(dir.path(), ID).is_err());
    }
}
