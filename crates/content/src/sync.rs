//! Bringing what was published to the disk, once for many.
//!
//! A few files are brought there one by one, many with one syncfs. The latter writes all that any process has written to the
//! file system, which for a small upload beside large builds can be a thousand times too much.
//!
//! The kernel reports a failed write-back once, and takes the pages to be written from then on. So whatever was begun before a run
//! ended with an error may be lost, whatever a later run says: see [`doubt`](crate::doubt).

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firn_nix::NarHash;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::session::DIRECTORY;
use crate::store::Inner;
use crate::walk::Listing;

/// Files and directories that are brought to the disk one by one.
const FEW: u64 = 64;

/// One run serves everybody who asked before it started.
#[derive(Debug, Default)]
pub(crate) struct GroupSync {
    asked: AtomicU64,
    /// How many of those who asked have been served. Held by who runs it.
    served: tokio::sync::Mutex<u64>,
    published: Mutex<Published>,
    /// Held by a run until what it says is noted; whoever asked for it may be gone.
    running: Arc<Mutex<()>>,
    #[cfg(test)]
    pub(crate) fault: Mutex<Option<Errno>>,
}

/// What was published and is perhaps not on the disk.
#[derive(Debug, Default)]
struct Published {
    /// How often anything was published.
    count: u64,
    /// At most [`FEW`] nodes in all.
    few: Vec<Content>,
    /// The last one that did not fit.
    more: Option<u64>,
}

#[derive(Clone, Debug)]
struct Content {
    /// [`Published::count`] then.
    count: u64,
    hash: NarHash,
    nodes: u64,
}

/// What a run has brought to the disk.
#[derive(Debug)]
pub(crate) enum Synced {
    All,
    Contents(Vec<NarHash>),
}

impl Synced {
    pub(crate) fn covers(&self, hash: &NarHash) -> bool {
        match self {
            Self::All => true,
            Self::Contents(contents) => contents.contains(hash),
        }
    }
}

/// Why a sync did not happen.
#[derive(Debug)]
pub(crate) enum SyncError {
    Failed(Errno),
    Interrupted,
}

impl GroupSync {
    /// Notes a content that the next run must cover, also when it was there before: who published it, perhaps another
    /// process, may not have synced it yet.
    pub(crate) fn published(&self, hash: &NarHash, nodes: u64) {
        let mut published = self.lock();
        published.count += 1;
        let count = published.count;
        let before: u64 = published.few.iter().map(|content| content.nodes).sum();
        if before.saturating_add(nodes) <= FEW {
            let hash = *hash;
            published.few.push(Content { count, hash, nodes });
        } else {
            published.more = Some(count);
        }
    }

    /// Returns once a `run` that began after this call has succeeded.
    pub(crate) async fn sync(
        &self,
        run: impl FnOnce() -> Result<(), Errno> + Send + 'static,
    ) -> Result<(), SyncError> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut served = self.served.lock().await;
        if *served >= ticket {
            return Ok(());
        }
        let asked = self.asked.load(Ordering::SeqCst);
        let running = Arc::clone(&self.running);
        let run = move || {
            let _one = running.lock().unwrap_or_else(PoisonError::into_inner);
            run()
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

    /// Brings everything to the disk that was published before this call. Blocks.
    pub(crate) fn run(&self, trees: &OwnedFd) -> Result<Synced, Errno> {
        #[cfg(test)]
        if let Some(errno) = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(errno);
        }
        let (count, few) = {
            let published = self.lock();
            let few = published.more.is_none().then(|| published.few.clone());
            (published.count, few)
        };
        let synced = match few {
            Some(few) => one_by_one(trees, few.into_iter().map(|content| content.hash).collect())?,
            None => None,
        };
        let synced = match synced {
            Some(contents) => Synced::Contents(contents),
            None => {
                rustix::fs::syncfs(trees)?;
                Synced::All
            }
        };
        let mut published = self.lock();
        published.few.retain(|content| content.count > count);
        published.more = published.more.filter(|last| *last > count);
        Ok(synced)
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings the trees to the disk, then the directories that name them. `None` when one cannot be opened, as without free
/// descriptors; an error only when data could not be written.
fn one_by_one(trees: &OwnedFd, contents: Vec<NarHash>) -> Result<Option<Vec<NarHash>>, Errno> {
    let places: Vec<String> = contents.iter().map(Inner::place).collect();
    let mut prefixes: Vec<&str> = places
        .iter()
        .filter_map(|place| place.split('/').next())
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    for place in &places {
        if !sync_tree(trees, place.as_bytes())? {
            return Ok(None);
        }
    }
    for prefix in &prefixes {
        match rustix::fs::openat(trees, *prefix, DIRECTORY, Mode::empty()) {
            Ok(dir) => rustix::fs::fsync(dir)?,
            Err(_) => return Ok(None),
        }
    }
    if !prefixes.is_empty() {
        rustix::fs::fsync(trees)?;
    }
    Ok(Some(contents))
}

/// Brings a tree to the disk, no deeper than it has nodes; false when it cannot be opened. One that is gone is nobody's any more.
fn sync_tree(dir: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let node = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(node) => node,
        // A symbolic link is part of its directory.
        Err(Errno::LOOP | Errno::NOENT) => return Ok(true),
        Err(_) => return Ok(false),
    };
    if is_directory(&node) {
        let Ok(mut listing) = Listing::some(&node, u64::MAX) else {
            return Ok(false);
        };
        while let Some((name, _)) = listing.next() {
            if !sync_tree(&node, name)? {
                return Ok(false);
            }
        }
    }
    rustix::fs::fsync(node).map(|()| true)
}

fn is_directory(node: &OwnedFd) -> bool {
    rustix::fs::fstat(node).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> NarHash {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_le_bytes());
        NarHash::new(digest)
    }

    /// An empty `trees/` but for the directory with the first two digits of every hash above.
    fn trees(dir: &tempfile::TempDir) -> OwnedFd {
        std::fs::create_dir(dir.path().join("00")).unwrap();
        std::fs::File::open(dir.path()).unwrap().into()
    }

    fn low(n: u64) -> NarHash {
        hash(n << 8)
    }

    #[test]
    fn what_was_published_since_the_last_run_is_covered() {
        let dir = tempfile::tempdir().unwrap();
        let trees = trees(&dir);
        let sync = GroupSync::default();
        for n in 1..4 {
            sync.published(&low(n), 20);
            let synced = sync.run(&trees).unwrap();
            assert!(
                matches!(&synced, Synced::Contents(contents) if contents == &[low(n)]),
                "{synced:?}"
            );
        }
        assert!(!sync.run(&trees).unwrap().covers(&low(3)), "nothing is left");
    }

    #[test]
    fn many_are_covered_by_a_run_for_all() {
        let dir = tempfile::tempdir().unwrap();
        let trees = trees(&dir);
        let sync = GroupSync::default();
        for n in 0..=FEW {
            sync.published(&low(n), 1);
        }
        assert!(matches!(sync.run(&trees).unwrap(), Synced::All));
        sync.published(&low(1), 1);
        let synced = sync.run(&trees).unwrap();
        assert!(synced.covers(&low(1)) && !synced.covers(&low(2)), "{synced:?}");
    }

    #[test]
    fn a_tree_that_cannot_be_opened_is_covered_by_a_run_for_all() {
        let dir = tempfile::tempdir().unwrap();
        let trees = trees(&dir);
        std::fs::write(dir.path().join("01"), "not a directory").unwrap();
        let sync = GroupSync::default();
        sync.published(&hash(1), 1);
        assert!(matches!(sync.run(&trees).unwrap(), Synced::All));
    }
}
