use std::sync::Arc;

use firn_nix::NarHash;
use rustix::fs::{AtFlags, Mode, RenameFlags};
use rustix::io::Errno;

use crate::blocking::blocking;
use crate::error::ContentError;
use crate::staged::Staged;
use crate::store::{ContentStore, Inner};
use crate::sync::SyncError;
use crate::tree_writer::RootKind;

impl ContentStore {
    /// Moves staged contents to their places. A content that is there already stays as it is. On an error some may be
    /// published; those are contents that nobody refers to, which is what collecting garbage is for.
    ///
    /// Published is not yet on the disk: see [`ContentStore::sync`].
    ///
    /// # Errors
    /// What the file system said.
    pub async fn publish<S>(&self, staged: S) -> Result<(), ContentError>
    where
        S: IntoIterator<Item = Staged>,
    {
        let staged: Vec<Staged> = staged.into_iter().collect();
        let store = Arc::clone(&self.inner);
        blocking(move || {
            let result = staged.iter().try_for_each(|content| store.publish(content));
            staged.into_iter().for_each(Staged::discard);
            result
        })
        .await?
    }

    /// Returns when these contents, which were published before this call, are on the disk. Many callers at a time share the work.
    ///
    /// # Errors
    /// [`ContentError::Io`] when data could not be written, and [`ContentError::Lost`] when that happened between publishing and this
    /// call. A later sync may succeed, of contents that were written anew.
    pub async fn sync<C>(&self, contents: C) -> Result<(), ContentError>
    where
        C: IntoIterator<Item = NarHash>,
    {
        let contents: Arc<[NarHash]> = contents.into_iter().collect();
        loop {
            let (store, asked) = (Arc::clone(&self.inner), Arc::clone(&contents));
            let before = blocking(move || store.there(&asked))
                .await?
                .map_err(ContentError::Lost)?;
            self.sync_all().await?;
            let (store, asked) = (Arc::clone(&self.inner), Arc::clone(&contents));
            // What was there all the time was synced, whoever has published it again meanwhile.
            if blocking(move || store.there(&asked))
                .await?
                .map_err(ContentError::Lost)?
                == before
            {
                return Ok(());
            }
        }
    }

    async fn sync_all(&self) -> Result<(), ContentError> {
        let store = Arc::clone(&self.inner);
        let run = move || {
            let noted = store.session.noted();
            store.settle_doubt()?;
            let synced = store
                .sync
                .run(&store.trees)
                .inspect_err(|_| store.lost_writes())?;
            store
                .session
                .forget_unsynced(|hash, count| count <= noted && synced.covers(hash));
            Ok(())
        };
        self.inner.sync.sync(run).await.map_err(|error| match error {
            SyncError::Failed(errno) => ContentError::at(&self.inner.dir)(errno),
            SyncError::Interrupted => ContentError::Interrupted,
        })
    }
}

impl Inner {
    fn publish(self: &Arc<Self>, content: &Staged) -> Result<(), ContentError> {
        let place = Self::place(&content.hash());
        let error = || ContentError::at(self.tree(&content.hash()));
        let doubt = self.doubt.read();
        let lost = |losses| !doubt.allows(losses, &content.hash());
        if content.losses().is_none_or(lost) {
            return Err(ContentError::Lost(content.hash()));
        }
        let there = rustix::fs::statat(&self.trees, place.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if !there {
            self.session.note_unsynced(&content.hash())?;
            let renamed = match self.rename(content, &place) {
                // The first content with these two digits.
                Err(Errno::NOENT) => self
                    .make_prefix(&place)
                    .and_then(|()| self.rename(content, &place)),
                renamed => renamed,
            };
            match renamed {
                // Somebody else was faster, or the same content was staged twice in one batch.
                Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => {}
                Err(errno) => return Err(error()(errno)),
            }
        }
        if content.shape().root == RootKind::Directory {
            self.seal(&place).map_err(error())?;
        }
        self.sync.published(&content.hash(), content.shape().nodes);
        Ok(())
    }

    fn make_prefix(&self, place: &str) -> Result<(), Errno> {
        let (prefix, _) = place.split_once('/').unwrap_or_default();
        match rustix::fs::mkdirat(&self.trees, prefix, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn rename(&self, content: &Staged, place: &str) -> Result<(), Errno> {
        let (from, name) = content.place().ok_or(Errno::NOENT)?;
        let to = &self.trees;
        match rustix::fs::renameat_with(from, name, to, place, RenameFlags::NOREPLACE) {
            // File systems without that flag. What is replaced has the same bytes.
            Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(from, name, to, place),
            result => result,
        }
    }
}
