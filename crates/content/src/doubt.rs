//! What may be lost after a write-back that failed.
//!
//! Contents that were being written or were published, but not yet brought to the disk, when a sync ended with an error are in doubt:
//! their pages may count as written without being on the disk, and no later sync tells. They are taken out of the store before anything
//! else is synced, and what is still in the staging area is refused when it is to be published. Whoever waits for one of them is told that it was
//! lost, and sends or builds it again. What was on the disk before is not in doubt.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use firn_nix::NarHash;
use rustix::io::Errno;

use crate::store::Inner;

/// How often writes were lost, and which contents have to go because of that.
#[derive(Debug, Default)]
pub(crate) struct Doubt(RwLock<State>);

#[derive(Debug, Default)]
pub(crate) struct State {
    losses: u64,
    contents: BTreeSet<NarHash>,
}

impl State {
    /// Whether something that was begun after so many losses may be published under that hash.
    pub(crate) fn allows(&self, losses: u64, hash: &NarHash) -> bool {
        self.losses == losses && !self.contents.contains(hash)
    }
}

impl Doubt {
    /// How often writes were lost so far.
    pub(crate) fn losses(&self) -> u64 {
        self.read().losses
    }

    /// Keeps writes from being noted as lost meanwhile.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Notes that a sync failed, and takes out what may be lost.
    pub(crate) fn lost_writes(&self) {
        // What the file system has still to report of these writes is not to spoil the next sync.
        let _ = rustix::fs::syncfs(&self.trees);
        let mut doubt = self.doubt.write();
        doubt.losses += 1;
        let unsynced = self.session.unsynced();
        tracing::error!(
            contents = unsynced.len(),
            "writes to the disk were lost; the contents that they may belong to are removed"
        );
        doubt.contents.extend(unsynced);
        if let Err(errno) = self.remove_doubtful(&mut doubt) {
            tracing::error!(%errno, "contents that may be lost cannot be removed; nothing is synced before they are");
        }
    }

    /// Removes what could not be removed before. Nothing may be synced while some is there: it would be taken for whole.
    pub(crate) fn settle_doubt(&self) -> Result<(), Errno> {
        if self.doubt.read().contents.is_empty() {
            return Ok(());
        }
        self.remove_doubtful(&mut self.doubt.write())
    }

    fn remove_doubtful(&self, doubt: &mut State) -> Result<(), Errno> {
        while let Some(hash) = doubt.contents.first().copied() {
            match self.take_out(&hash) {
                Ok(name) => self.sweep(name),
                Err(Errno::NOENT) => self.session.forget_unsynced(|noted, _| *noted == hash),
                Err(errno) => return Err(errno),
            }
            doubt.contents.remove(&hash);
        }
        Ok(())
    }

    /// How often writes were lost so far, if all of these contents are there; else the first that is not.
    pub(crate) fn there(&self, contents: &[NarHash]) -> Result<u64, NarHash> {
        let doubt = self.doubt.read();
        let lost = |hash: &&NarHash| doubt.contents.contains(hash) || !self.contains(hash);
        match contents.iter().find(lost) {
            Some(lost) => Err(*lost),
            None => Ok(doubt.losses),
        }
    }

    fn sweep(&self, name: String) {
        if let Err(errno) = crate::remove::remove_tree(self.session.dir(), name.as_bytes()) {
            tracing::warn!(name, %errno, "a content that was taken out of the store could not be deleted");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use firn_nix::nar::{NarVisitor as _, NarWriter};

    use super::*;
    use crate::error::ContentError;
    use crate::{ContentStore, IngestOptions, Staged};

    const OPTIONS: IngestOptions = IngestOptions {
        expected_size: None,
        expected_hash: None,
        max_size: 1 << 20,
    };

    async fn staged(store: &ContentStore, text: &str) -> Staged {
        let mut nar = NarWriter::new(Vec::new());
        nar.regular(false, text.len() as u64).unwrap();
        nar.data(text.as_bytes()).unwrap();
        nar.end_regular().unwrap();
        store
            .ingest(&mut &nar.into_inner()[..], OPTIONS, None)
            .await
            .unwrap()
    }

    async fn published(store: &ContentStore, text: &str) -> NarHash {
        let content = staged(store, text).await;
        let hash = content.hash();
        store.publish([content]).await.unwrap();
        hash
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_many_publish_at_once_is_lost_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let store = store.clone();
            tasks.spawn(async move {
                for _ in 0..20 {
                    let hash = published(&store, "the same").await;
                    store.sync([hash]).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }

    fn fail(store: &ContentStore) {
        *store.inner.sync.fault.lock().unwrap() = Some(Errno::IO);
    }

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[tokio::test]
    async fn a_store_goes_on_after_a_sync_that_failed() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        let first = published(&store, "first").await;
        store.sync([first]).await.unwrap();
        let second = published(&store, "second").await;
        fail(&store);
        assert!(matches!(store.sync([second]).await, Err(ContentError::Io { .. })));
        assert!(store.contains(&first), "what was on the disk stays");
        assert!(
            !store.contains(&second),
            "what may be lost is not taken for whole"
        );
        let again = published(&store, "second").await;
        store.sync([again]).await.unwrap();
        assert!(store.contains(&second));
    }

    #[tokio::test]
    async fn nobody_is_told_that_what_was_lost_is_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        let old = published(&store, "old").await;
        store.sync([old]).await.unwrap();
        let lost = published(&store, "lost").await;
        let half = staged(&store, "half").await;
        let known = staged(&store, "old").await;
        fail(&store);
        store.sync([]).await.unwrap_err();
        // Who published before the failure and asks after it.
        assert!(matches!(store.sync([lost]).await, Err(ContentError::Lost(hash)) if hash == lost));
        // Who had it half written.
        for begun in [half, known] {
            let hash = begun.hash();
            assert!(matches!(store.publish([begun]).await, Err(ContentError::Lost(of)) if of == hash));
        }
        store.sync([old]).await.unwrap();
    }

    #[tokio::test]
    async fn a_content_that_cannot_be_removed_keeps_others_from_being_synced() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        let lost = published(&store, "lost").await;
        // Nothing can be moved into what is no directory any more.
        let place = dir.path().join("trees").join(Inner::place(&lost));
        let aside = dir.path().join("aside");
        let prefix = place.parent().unwrap().to_owned();
        std::fs::rename(&prefix, &aside).unwrap();
        std::fs::write(&prefix, "in the way").unwrap();
        fail(&store);
        store.sync([lost]).await.unwrap_err();
        store.sync([]).await.unwrap_err();
        std::fs::remove_file(&prefix).unwrap();
        std::fs::rename(&aside, &prefix).unwrap();
        let content = staged(&store, "lost").await;
        assert!(matches!(
            store.publish([content]).await,
            Err(ContentError::Lost(_))
        ));
        store.sync([]).await.unwrap();
        assert!(!store.contains(&lost));
        let again = published(&store, "lost").await;
        store.sync([again]).await.unwrap();
        drop(store);
        assert_eq!(files(&dir.path().join("staging")), 0, "nothing is left behind");
    }
}
