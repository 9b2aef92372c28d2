//! The client of all accounts.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firn_core::AccountId;
use firn_service::ports::Caches;

use crate::Options;
use crate::account::AccountClient;
use crate::asker::Asker;
use crate::file::FileRoots;
use crate::http::Shared;
use crate::remembered::Remembered;

/// Accounts whose connections and states of caches are kept while they ask nothing.
const MAX_IDLE: usize = 1000;

/// Why caches cannot be asked at all: an option.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// Asks binary caches, for each account by itself. Clones are the same client.
#[derive(Clone)]
pub struct CacheClient(Arc<House>);

struct House {
    options: Arc<Options>,
    shared: Arc<Shared>,
    roots: Arc<FileRoots>,
    remembered: Remembered,
    askers: Mutex<HashMap<AccountId, Arc<Asker>>>,
    /// Numbers that were given out for what accounts remember.
    memories: Arc<AtomicU64>,
}

impl CacheClient {
    /// Reads root certificates and looks at the file roots.
    ///
    /// # Errors
    /// When `extra_roots` or one of `file_roots` cannot be used.
    pub fn new(options: Options) -> Result<Self, Unusable> {
        let shared = Arc::new(Shared::new(&options).map_err(Unusable)?);
        Ok(Self(Arc::new(House {
            shared,
            roots: Arc::new(FileRoots::new(&options.file_roots).map_err(Unusable)?),
            remembered: Remembered::new(options.remembered, options.positive_ttl, options.negative_ttl),
            askers: Mutex::default(),
            memories: Arc::new(AtomicU64::new(0)),
            options: Arc::new(options),
        })))
    }

    fn asker(&self, account: AccountId) -> Arc<Asker> {
        let mut askers = self.askers();
        if let Some(asker) = askers.get(&account) {
            return Arc::clone(asker);
        }
        if askers.len() >= MAX_IDLE {
            // Those that are asking are kept.
            askers.retain(|_, asker| Arc::strong_count(asker) > 1);
        }
        let house = &self.0;
        let asker = Asker::new(
            Arc::clone(&house.shared),
            Arc::clone(&house.options),
            Arc::clone(&house.memories),
        );
        let asker = Arc::new(asker);
        askers.insert(account, Arc::clone(&asker));
        asker
    }

    fn askers(&self) -> MutexGuard<'_, HashMap<AccountId, Arc<Asker>>> {
        self.0.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Caches for CacheClient {
    type Account = AccountClient;

    fn of(&self, account: AccountId, misses: Option<Duration>) -> AccountClient {
        AccountClient {
            asker: self.asker(account),
            options: Arc::clone(&self.0.options),
            roots: Arc::clone(&self.0.roots),
            remembered: self.0.remembered.clone(),
            misses,
        }
    }
}
