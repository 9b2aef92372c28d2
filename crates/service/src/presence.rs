//! Who acts for an account at the moment, and whether they still may: what is taken away ends what stands on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firn_core::{AccountId, Level, layered};
use tokio::sync::watch;

use crate::House;
use crate::StoreError;
use crate::ports::{Account, DatabaseError, Policies as _, Ports};
use crate::resolve::failed;
use crate::terms::layer;

/// The accounts that somebody acts for, with who has to hear of changes. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presences(Arc<Mutex<HashMap<AccountId, watch::Sender<()>>>>);

impl Presences {
    fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, account: AccountId) -> Presence {
        let changes = self.lock().entry(account).or_default().subscribe();
        Presence {
            account,
            changes,
            presences: self.clone(),
        }
    }

    /// Something of the account's was taken away, or given: whoever acts for it looks at the rows again.
    pub(crate) fn changed(&self, account: AccountId) {
        if let Some(present) = self.lock().get(&account) {
            present.send_replace(());
        }
    }
}

/// Somebody acts for an account, until this is dropped.
#[derive(Debug)]
pub struct Presence {
    account: AccountId,
    changes: watch::Receiver<()>,
    presences: Presences,
}

impl Presence {
    /// Returns when the rights may be others than at the last look: ask [`House::rights`] then.
    pub async fn changed(&mut self) {
        // The other end is kept as long as this one.
        if self.changes.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut present = self.presences.lock();
        let last = |others: &watch::Sender<()>| others.receiver_count() <= 1;
        if present.get(&self.account).is_some_and(last) {
            present.remove(&self.account);
        }
    }
}

/// What somebody may do who acts for an account with one of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Give commands of the account's.
    pub shell: bool,
}

impl<P: Ports> House<P> {
    /// A setting of the account, or of one of its keys, was changed: what runs and waits hears of it.
    pub(crate) async fn setting_changed(&self, account: AccountId, name: &str) -> Result<(), DatabaseError> {
        match name {
            "allow-shell" => self.presences.changed(account),
            "build-quota" | "build-weight" | "max-builds" => {
                let stored = self.db.stored(account, None).await?;
                let settings = layered(
                    self.settings.defaults.clone(),
                    [&layer(Level::Account, &stored.account)],
                );
                self.queue.set_share(account, settings.share());
            }
            _ => {}
        }
        Ok(())
    }

    /// Somebody is about to act for the account. Whatever is taken away after this call is told by [`Presence::changed`], so the order is:
    /// this, then [`House::rights`], then act.
    #[must_use]
    pub fn enter(&self, account: &Account) -> Presence {
        self.presences.enter(account.id)
    }

    /// What an account's key (by fingerprint) may do now, by the rows as they are; without a key, what the account may.
    ///
    /// # Errors
    /// The account is gone, or the key is its key no more; or the database fails.
    pub async fn rights(&self, account: &Account, ssh_key: Option<&str>) -> Result<Rights, StoreError> {
        let stored = match self.db.stored(account.id, ssh_key).await {
            Err(DatabaseError::NoAccount(_)) => {
                let name = &account.name;
                return Err(StoreError::new(format!(
                    "account '{name}' does not exist any more"
                )));
            }
            stored => stored.map_err(failed)?,
        };
        let layers = [
            layer(Level::Account, &stored.account),
            layer(Level::Key, &stored.key),
        ];
        let settings = layered(self.settings.defaults.clone(), &layers);
        Ok(Rights {
            shell: settings.allow_shell,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_there_hears_of_changes_and_leaves_nothing_behind() {
        let presences = Presences::default();
        let (one, other) = (AccountId(1), AccountId(2));
        let mut first = presences.enter(one);
        let second = presences.enter(one);
        let mut third = presences.enter(other);
        presences.changed(one);
        first.changed().await;
        let quiet = tokio::time::timeout(std::time::Duration::ZERO, third.changed()).await;
        assert!(quiet.is_err());
        drop(first);
        assert_eq!(presences.lock().len(), 2);
        drop((second, third));
        assert!(presences.lock().is_empty());
        presences.changed(one);
    }
}
