//! Binary caches that say and send what a test gave them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firn_core::{AccountId, CacheUrl};
use firn_nix::StorePath;
use firn_nix::narinfo::NarInfo;
use firn_nix::signature::SecretKey;
use firn_protocol::ByteStream;
use firn_service::ports::{AccountCaches, CacheError, CacheInfo, Caches, Login, Trouble};
use tokio::sync::{Semaphore, watch};

use super::objects::Item;

/// Clones are the same caches.
#[derive(Clone)]
pub struct MemoryCaches {
    caches: Arc<Mutex<BTreeMap<String, Script>>>,
    gate: Arc<Semaphore>,
    waiting: watch::Sender<usize>,
    /// What was wished each time that an account was about to ask.
    pub misses: Arc<Mutex<Vec<Option<Duration>>>>,
    /// Whose entries were not believed.
    pub not_believed: Arc<Mutex<Vec<StorePath>>>,
    /// How often an account wished to ask anew.
    pub refreshed: Arc<Mutex<usize>>,
}

/// Requests that came to one cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub about: usize,
    pub narinfo: usize,
    pub nar: usize,
}

/// One cache.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// What it says of itself.
    pub priority: u32,
    pub down: bool,
    /// What is wrong with it.
    pub trouble: Option<Trouble>,
    /// Without this login it gives nothing.
    pub login: Option<Login>,
    pub entries: BTreeMap<StorePath, NarInfo>,
    /// Unpacked, by address.
    pub nars: BTreeMap<String, Vec<u8>>,
    /// Contents wait at the gate.
    pub gated: bool,
    pub calls: Calls,
}

/// The entry for a path, signed by some keys.
pub fn entry(item: &Item, keys: &[&SecretKey]) -> NarInfo {
    let info = &item.info;
    let mut entry = NarInfo {
        path: info.path.clone(),
        url: format!("nar/{}.nar", info.nar_hash.hex()),
        compression: "none".into(),
        file_hash: None,
        file_size: Some(info.nar_size),
        nar_hash: info.nar_hash,
        nar_size: info.nar_size,
        references: info.references.clone(),
        deriver: info.deriver.clone(),
        signatures: Default::default(),
        unreadable_signatures: 0,
        ca: info.ca,
    };
    let fingerprint = entry.fingerprint();
    entry.signatures = keys.iter().map(|key| key.sign(fingerprint.as_bytes())).collect();
    entry
}

impl Script {
    /// It has that, signed by these keys.
    pub fn put(&mut self, item: &Item, keys: &[&SecretKey]) {
        let entry = entry(item, keys);
        self.nars.insert(entry.url.clone(), item.nar.clone());
        self.entries.insert(item.info.path.clone(), entry);
    }
}

impl Default for MemoryCaches {
    fn default() -> Self {
        Self {
            caches: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
            waiting: watch::Sender::default(),
            misses: Arc::default(),
            not_believed: Arc::default(),
            refreshed: Arc::default(),
        }
    }
}

impl MemoryCaches {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Script>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what a cache does from now on.
    pub fn script(&self, url: &str, change: impl FnOnce(&mut Script)) {
        change(self.lock().entry(url.to_owned()).or_default());
    }

    pub fn calls(&self, url: &str) -> Calls {
        self.lock()
            .get(url)
            .map(|script| script.calls)
            .unwrap_or_default()
    }

    /// Lets that many contents through.
    pub fn release(&self, contents: usize) {
        self.gate.add_permits(contents);
    }

    /// Returns when that many contents have come to the gate.
    pub async fn until_waiting(&self, contents: usize) {
        let mut waiting = self.waiting.subscribe();
        drop(super::soon(waiting.wait_for(|n| *n >= contents)).await.unwrap());
    }

    fn ask<T>(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        answer: impl FnOnce(&mut Script) -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        let mut caches = self.lock();
        let script = caches.get_mut(&cache.base()).filter(|script| !script.down);
        let script = script.ok_or_else(|| error(cache, Trouble::Unreachable("does not answer".into())))?;
        if let Some(trouble) = &script.trouble {
            return Err(error(cache, trouble.clone()));
        }
        if script.login.is_some() && script.login.as_ref() != login {
            let (status, shown) = (401, login.is_some());
            return Err(error(cache, Trouble::Login { status, shown }));
        }
        answer(script)
    }
}

fn error(cache: &CacheUrl, trouble: Trouble) -> CacheError {
    CacheError {
        cache: cache.base(),
        trouble,
    }
}

impl Caches for MemoryCaches {
    type Account = Self;

    fn of(&self, _: AccountId, misses: Option<Duration>) -> Self {
        self.misses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(misses);
        self.clone()
    }
}

impl AccountCaches for MemoryCaches {
    async fn about(&self, cache: &CacheUrl, login: Option<&Login>) -> Result<CacheInfo, CacheError> {
        self.ask(cache, login, |script| {
            script.calls.about += 1;
            Ok(CacheInfo {
                priority: script.priority,
                want_mass_query: true,
            })
        })
    }

    async fn narinfo(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        path: &StorePath,
    ) -> Result<Option<NarInfo>, CacheError> {
        self.ask(cache, login, |script| {
            script.calls.narinfo += 1;
            Ok(script.entries.get(path).cloned())
        })
    }

    async fn nar(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        info: &NarInfo,
    ) -> Result<ByteStream, CacheError> {
        let gated = self.ask(cache, login, |script| {
            script.calls.nar += 1;
            Ok(script.gated)
        })?;
        if gated {
            self.waiting.send_modify(|n| *n += 1);
            self.gate.acquire().await.unwrap().forget();
        }
        let nar = self.ask(cache, login, |script| {
            let missing = || error(cache, Trouble::NoNar(info.path.clone()));
            script.nars.get(&info.url).cloned().ok_or_else(missing)
        })?;
        Ok(Box::new(std::io::Cursor::new(nar)))
    }

    async fn not_believed(&self, _: &CacheUrl, _: Option<&Login>, path: &StorePath) {
        let mut paths = self.not_believed.lock().unwrap_or_else(PoisonError::into_inner);
        paths.push(path.clone());
    }

    fn refresh(&self) {
        *self.refreshed.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }
}
