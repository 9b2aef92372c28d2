//! Build logs that an account's own clients bring (`nix store copy-log`). They prove nothing, and serve that account only.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use firn_core::AccountId;
use firn_nix::StorePath;
use firn_protocol::StoreError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::log::{self, Log};
use crate::ports::Ports;
use crate::{AccountStore, House};

/// Bytes of the largest log that is taken.
const MAX_LOG: u64 = 64 << 20;

/// Bytes of one account's logs together; beyond it the oldest make room.
const MAX_LOGS: u64 = 1 << 30;

/// One account's logs together.
const MAX_COUNT: usize = 10_000;

/// Where an account's logs are.
fn folder(log_dir: &Path, account: AccountId) -> PathBuf {
    log_dir.join("brought").join(account.0.to_string())
}

/// The log that an account brought for a derivation.
pub(crate) fn open(log_dir: &Path, account: AccountId, drv_path: &StorePath) -> io::Result<Log> {
    log::whole(&folder(log_dir, account).join(drv_path.base_name()))
}

/// The derivations that an account brought logs for, the latest first.
pub(crate) fn names(log_dir: &Path, account: AccountId) -> Vec<StorePath> {
    let mut files = files(&folder(log_dir, account)).unwrap_or_default();
    files.sort_by_key(|file| std::cmp::Reverse(file.changed));
    let name = |file: &Kept| StorePath::from_base_name(file.path.file_name()?.as_encoded_bytes()).ok();
    files.iter().filter_map(name).collect()
}

struct Kept {
    path: PathBuf,
    len: u64,
    changed: SystemTime,
}

fn files(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // One that another session has just replaced is no file of ours any more.
        if let Ok(meta) = entry.metadata() {
            files.push(Kept {
                path: entry.path(),
                len: meta.len(),
                changed: meta.modified()?,
            });
        }
    }
    Ok(files)
}

/// Removes the oldest until so many files with so many bytes are left.
fn make_room(folder: &Path, bytes: u64, count: usize) -> io::Result<()> {
    let mut files = files(folder)?;
    files.sort_by_key(|file| file.changed);
    let mut all: u64 = files.iter().map(|file| file.len).sum();
    let mut left = files.len();
    for file in files {
        if all <= bytes && left <= count {
            break;
        }
        match std::fs::remove_file(&file.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        all -= file.len;
        left -= 1;
    }
    Ok(())
}

impl<P: Ports> AccountStore<P> {
    /// Keeps a log that a client of the account brings; an earlier one of the same derivation is replaced.
    pub(crate) async fn bring_log(
        &self,
        drv_path: &StorePath,
        body: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<(), StoreError> {
        let folder = folder(&self.house.settings.log_dir, self.account.id);
        let shown = drv_path.to_string();
        let broken = move |error: io::Error| {
            tracing::error!(%error, drv = %shown, "cannot keep a log that a client brings");
            StoreError::new(
                "internal error: the service cannot write to its disk; the operator's log has the details",
            )
        };
        // No derivation's name begins with a dot.
        let partial = folder.join(format!(".{}", uuid::Uuid::now_v7()));
        let create = async {
            tokio::fs::create_dir_all(&folder).await?;
            tokio::fs::File::create_new(&partial).await
        };
        let mut file = create.await.map_err(&broken)?;
        let partial = Partial(partial);
        let mut left = MAX_LOG;
        let mut chunk = vec![0; 64 << 10];
        loop {
            let read = body
                .read(&mut chunk)
                .await
                .map_err(|e| StoreError::new(format!("cannot read the log of '{drv_path}': {e}")))?;
            if read == 0 {
                break;
            }
            left = left.checked_sub(read as u64).ok_or_else(|| {
                StoreError::new(format!(
                    "cannot keep the log of '{drv_path}': it has more than {MAX_LOG} bytes"
                ))
            })?;
            let bytes = chunk.get(..read).unwrap_or_default();
            file.write_all(bytes).await.map_err(&broken)?;
        }
        file.flush().await.map_err(&broken)?;
        let name = folder.join(drv_path.base_name());
        let kept = tokio::task::spawn_blocking(move || {
            make_room(&folder, MAX_LOGS, MAX_COUNT)?;
            std::fs::rename(&partial.0, &name)
        });
        match kept.await {
            Ok(kept) => kept.map_err(broken),
            Err(e) => Err(broken(io::Error::other(e))),
        }
    }
}

/// A file that is not whole yet: gone when it is dropped, unless it has got its name.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl<P: Ports> House<P> {
    /// Removes the logs that an account brought: the account is gone.
    pub(crate) fn forget_brought_logs(&self, account: AccountId) {
        match std::fs::remove_dir_all(folder(&self.settings.log_dir, account)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(error = %e, "cannot remove the logs of an account");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let file = |n: u64| dir.path().join(n.to_string());
        for n in 0..10 {
            let new = std::fs::File::create(file(n)).unwrap();
            new.set_len(100).unwrap();
            new.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n))
                .unwrap();
        }
        make_room(dir.path(), 1000, 10).unwrap();
        assert!(file(0).exists());
        make_room(dir.path(), 1000, 8).unwrap();
        assert!(!file(1).exists() && file(2).exists());
        make_room(dir.path(), 350, 8).unwrap();
        assert!(!file(6).exists() && file(7).exists() && file(9).exists());
    }
}
