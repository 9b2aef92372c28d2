//! One account, as the caches see it: its connections, and the state of its caches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::Options;
use crate::fault::Fault;
use crate::http::{Http, Shared};
use crate::site::Site;

/// Most caches whose state is kept for one account.
const MAX_SITES: usize = 256;

/// An account that asks.
pub(crate) struct Asker {
    shared: Arc<Shared>,
    options: Arc<Options>,
    http: OnceLock<Result<Arc<Http>, String>>,
    sites: Mutex<HashMap<String, Arc<Site>>>,
    /// The name of what is remembered for it: another one, and all is forgotten.
    memory: AtomicU64,
    memories: Arc<AtomicU64>,
}

impl Asker {
    pub(crate) fn new(shared: Arc<Shared>, options: Arc<Options>, memories: Arc<AtomicU64>) -> Self {
        Self {
            shared,
            options,
            http: OnceLock::new(),
            sites: Mutex::default(),
            memory: AtomicU64::new(next(&memories)),
            memories,
        }
    }

    /// Its connections.
    pub(crate) fn http(&self) -> Result<Arc<Http>, Fault> {
        let new = || Http::new(Arc::clone(&self.shared), &self.options).map(Arc::new);
        let http = self.http.get_or_init(new).clone();
        http.map_err(|e| Fault::bad(format!("cannot be asked: {e}")))
    }

    /// One of its caches.
    pub(crate) fn site(&self, base: &str) -> Arc<Site> {
        let mut sites = self.sites();
        if let Some(site) = sites.get(base) {
            return Arc::clone(site);
        }
        if sites.len() >= MAX_SITES {
            sites.retain(|_, site| Arc::strong_count(site) > 1);
        }
        let site = Arc::new(Site::new(base.to_owned(), &self.options));
        sites.insert(base.to_owned(), Arc::clone(&site));
        site
    }

    pub(crate) fn memory(&self) -> u64 {
        self.memory.load(Ordering::Acquire)
    }

    /// Forgets everything.
    pub(crate) fn refresh(&self) {
        self.memory.store(next(&self.memories), Ordering::Release);
        self.sites().clear();
    }

    fn sites(&self) -> MutexGuard<'_, HashMap<String, Arc<Site>>> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that nobody had before.
fn next(memories: &AtomicU64) -> u64 {
    memories.fetch_add(1, Ordering::Relaxed)
}
