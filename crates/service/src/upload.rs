//! Uploads: bytes are checked as they come, and become valid together or not at all; of a long one, what has come whole at a checkpoint.

use firn_content::{Arriving, IngestOptions, Staged};
use firn_core::{Claim, Object, Origin};
use firn_nix::rewrite::SelfReferences;
use firn_nix::{PathInfo, StorePath};
use firn_protocol::{StoreError, Upload};
use std::collections::{BTreeSet, VecDeque};
use tokio::io::AsyncRead;

use crate::content_address::check;
use crate::ports::Ports;
use crate::{AccountStore, signatures, untrusted};

/// Most paths of one upload.
const MAX_PATHS: usize = 100_000;

/// Most references of all paths of one upload together; each costs about 100 bytes of memory.
pub(crate) const MAX_REFERENCES: usize = 1 << 20;

/// Contents of one upload that are being written while the next is read; each costs up to 1 MiB.
const MAX_ARRIVING: usize = 8;

/// One account's upload.
pub struct AccountUpload<P: Ports> {
    store: AccountStore<P>,
    staged: Vec<Staged>,
    claims: Vec<Claim>,
    references: usize,
    /// Read but not yet written: the next path is read meanwhile.
    arriving: VecDeque<(PathInfo, Arriving)>,
}

impl<P: Ports> AccountUpload<P> {
    pub(crate) fn new(store: AccountStore<P>) -> Self {
        Self {
            store,
            staged: Vec::new(),
            claims: Vec::new(),
            references: 0,
            arriving: VecDeque::new(),
        }
    }

    /// Notes a staged content; it becomes valid with the rest. `form`: that of its content address, where there is more than one.
    pub(crate) fn push(&mut self, staged: Staged, info: PathInfo, form: Option<SelfReferences>) {
        let object = Object {
            path: info.path,
            content: staged.hash(),
            nar_size: staged.size(),
            references: info.references,
            ca: info.ca,
            self_references: form,
        };
        self.claims.push(Claim {
            object,
            origin: Origin::Uploaded,
            deriver: info.deriver,
            signatures: info.signatures,
            registered: self.store.house.now(),
            cache: None,
            shareable: true,
        });
        self.staged.push(staged);
    }

    /// Waits for contents to be written and checks them, until at most `open` are still on their way.
    async fn settle(&mut self, open: usize) -> Result<(), StoreError> {
        while self.arriving.len() > open {
            let Some((info, arriving)) = self.arriving.pop_front() else {
                break;
            };
            let staged = arriving.staged().await.map_err(|e| cannot_add(&info.path, &e))?;
            let form = check(&info, &staged)?;
            if form == Some(SelfReferences::Unplaced) {
                untrusted::admit_unplaced(&self.store.terms().await?.settings, &info)?;
            }
            if let Some(form) = form {
                self.store.session.client.learn(form);
            }
            self.push(staged, info, form);
        }
        Ok(())
    }

    fn room(&mut self, info: &PathInfo) -> Result<(), StoreError> {
        if self.claims.len() + self.arriving.len() >= MAX_PATHS {
            return Err(StoreError::new(format!(
                "an upload takes at most {MAX_PATHS} paths; send the rest in another"
            )));
        }
        self.references = more_references(self.references, info)?;
        signatures::check(&info.path, &info.signatures)?;
        let max = self.store.house.settings.max_nar_size;
        if info.nar_size > max {
            return Err(StoreError::new(format!(
                "path '{}' has {} bytes, the largest that is taken here has {max}",
                info.path, info.nar_size
            )));
        }
        Ok(())
    }

    /// Closed: what the batch refers to is in the view or in the batch. Else a missing path and what refers to it.
    async fn missing_reference(&self) -> Result<Option<(StorePath, StorePath)>, StoreError> {
        let batch: BTreeSet<&StorePath> = self.claims.iter().map(|c| &c.object.path).collect();
        let outside: BTreeSet<&StorePath> = self
            .claims
            .iter()
            .flat_map(|c| &c.object.references)
            .filter(|r| !batch.contains(r))
            .collect();
        let outside: Vec<StorePath> = outside.into_iter().cloned().collect();
        let known = self.store.view(&outside).await?;
        let missing = outside.into_iter().find(|r| known.get(r).is_none());
        Ok(missing.and_then(|missing| {
            let by = self
                .claims
                .iter()
                .find(|c| c.object.references.contains(&missing))?;
            Some((missing, by.object.path.clone()))
        }))
    }

    async fn keep(&mut self) -> Result<(), StoreError> {
        let (staged, claims) = (std::mem::take(&mut self.staged), std::mem::take(&mut self.claims));
        self.references = 0;
        self.store.keep(staged, &claims).await
    }
}

/// The number of references of an upload with one more path.
fn more_references(before: usize, info: &PathInfo) -> Result<usize, StoreError> {
    match before.saturating_add(info.references.len()) {
        all if all <= MAX_REFERENCES => Ok(all),
        _ => Err(StoreError::new(format!(
            "cannot add '{}': an upload takes at most {MAX_REFERENCES} references; send the rest in another",
            info.path
        ))),
    }
}

fn cannot_add(path: &StorePath, error: &firn_content::IngestError) -> StoreError {
    StoreError::new(format!("cannot add '{path}': {error}"))
}

impl<P: Ports> Upload for AccountUpload<P> {
    async fn add(
        &mut self,
        info: PathInfo,
        nar: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<(), StoreError> {
        self.room(&info)?;
        untrusted::admit(&self.store.terms().await?.settings, &info)?;
        let options = IngestOptions {
            expected_size: Some(info.nar_size),
            expected_hash: Some(info.nar_hash),
            max_size: self.store.house.settings.max_nar_size,
        };
        let mut nar = nar;
        let arriving = self
            .store
            .house
            .content
            .receive(&mut nar, options, None)
            .await
            .map_err(|e| cannot_add(&info.path, &e))?;
        self.arriving.push_back((info, arriving));
        self.settle(MAX_ARRIVING).await
    }

    async fn add_unsized(
        &mut self,
        path: StorePath,
        references: BTreeSet<StorePath>,
        deriver: Option<StorePath>,
        nar: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<(), StoreError> {
        let options = IngestOptions {
            expected_size: None,
            expected_hash: None,
            max_size: self.store.house.settings.max_nar_size,
        };
        let mut nar = nar;
        let staged = self
            .store
            .house
            .content
            .ingest(&mut nar, options, None)
            .await
            .map_err(|e| cannot_add(&path, &e))?;
        let info = PathInfo {
            path,
            deriver,
            nar_hash: staged.hash(),
            references,
            registration_time: 0,
            nar_size: staged.size(),
            ultimate: false,
            signatures: BTreeSet::new(),
            ca: None,
        };
        self.room(&info)?;
        untrusted::admit(&self.store.terms().await?.settings, &info)?;
        self.push(staged, info, None);
        Ok(())
    }

    async fn checkpoint(&mut self) -> Result<bool, StoreError> {
        self.settle(0).await?;
        if !self.claims.is_empty() && self.missing_reference().await?.is_none() {
            self.keep().await?;
        }
        Ok(self.claims.is_empty())
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        self.settle(0).await?;
        if self.claims.is_empty() {
            return Ok(());
        }
        match self.missing_reference().await? {
            None => self.keep().await,
            Some((missing, by)) => Err(StoreError::new(format!(
                "cannot add '{by}': it refers to '{missing}', which is not valid"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_references_of_an_upload_are_counted_together() {
        let path = |n: u32| StorePath::from_base_name(format!("{n:032}-x").as_bytes()).unwrap();
        let info = PathInfo {
            path: path(0),
            deriver: None,
            nar_hash: firn_nix::NarHash::new([0; 32]),
            references: (1..=1 << 15).map(path).collect(),
            registration_time: 0,
            nar_size: 0,
            ultimate: false,
            signatures: BTreeSet::new(),
            ca: None,
        };
        let mut count = 0;
        for _ in 0..32 {
            count = more_references(count, &info).unwrap();
        }
        let refused = more_references(count, &info).unwrap_err().to_string();
        assert!(
            refused.contains("-x': an upload takes at most 1048576 references"),
            "{refused}"
        );
    }
}
