//! Bringing what was published to the disk, once for many.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

/// One syncfs serves everybody who asked before it started.
#[derive(Debug)]
pub(crate) struct GroupSync {
    fs: Arc<OwnedFd>,
    asked: AtomicU64,
    /// How many of those who asked have been served. Held by who runs the syncfs.
    served: tokio::sync::Mutex<u64>,
    /// The kernel reports a failed write-back once; afterwards a syncfs succeeds although data is lost.
    failed: Arc<AtomicBool>,
}

/// Why a sync did not happen.
#[derive(Debug)]
pub(crate) enum SyncError {
    Failed(Errno),
    FailedBefore,
    Interrupted,
}

impl GroupSync {
    pub(crate) fn new(fs: OwnedFd) -> Self {
        Self {
            fs: Arc::new(fs),
            asked: AtomicU64::new(0),
            served: tokio::sync::Mutex::new(0),
            failed: Arc::default(),
        }
    }

    /// Returns once a syncfs that began after this call has succeeded.
    pub(crate) async fn sync(&self) -> Result<(), SyncError> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut served = self.served.lock().await;
        if self.failed.load(Ordering::SeqCst) {
            return Err(SyncError::FailedBefore);
        }
        if *served >= ticket {
            return Ok(());
        }
        let asked = self.asked.load(Ordering::SeqCst);
        let (fs, failed) = (Arc::clone(&self.fs), Arc::clone(&self.failed));
        let run = move || {
            let result = rustix::fs::syncfs(&*fs);
            // Noted here, because whoever waits may be gone.
            failed.fetch_or(result.is_err(), Ordering::SeqCst);
            result
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(Ok(())) => {
                *served = asked;
                Ok(())
            }
            Ok(Err(errno)) => Err(SyncError::Failed(errno)),
            Err(_) => Err(SyncError::Interrupted),
        }
    }
}
