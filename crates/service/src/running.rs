//! Builds that run now, by build key, and who waits for them.
//!
//! A run belongs to nobody: it goes on while at least one requester holds an [`Interest`] in it, and is cancelled when the last one
//! is dropped, unless one of them wished it to go on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use firn_core::schedule::Number;
use firn_core::{AccountId, BuildId, BuildKey};
use firn_nix::StorePath;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::log::{Log, LogReader};
use crate::ports::{BuildRecord, RunFailure};

/// How a run ended, for everybody who waits.
#[derive(Clone, Debug)]
pub(crate) enum Finished {
    /// There is a stored result for the account that leads the run; whether there is one for the others is theirs to see.
    Stored,
    /// It was run and recorded.
    Ran(Arc<BuildRecord>),
    /// It gave no outputs. With the run that is remembered for it, if any.
    Failed(RunFailure, Option<BuildId>),
}

/// What a run can be found by: the build key, and whose run it is where it is not everybody's.
pub(crate) type RunKey = (BuildKey, Option<AccountId>);

/// How far a run is.
#[derive(Clone, Debug)]
enum Progress {
    /// Waits for a slot.
    Queued,
    Running,
    Finished(Finished),
}

/// One run.
pub(crate) struct Running {
    /// `None` for a run that stands in no registry.
    key: Option<RunKey>,
    /// As its first requester names the derivation.
    drv_path: StorePath,
    log: Log,
    progress: watch::Receiver<Progress>,
    /// Its number in the queue.
    place: AtomicU64,
    /// A builder was started for it. It may wait all the same, for the next one.
    begun: AtomicBool,
    cancel: CancellationToken,
    /// Guarded by the registry's lock.
    interested: Mutex<usize>,
    /// Goes on without anybody: one who waited wished it so.
    keep: AtomicBool,
    /// What it gave at first was thrown away.
    discarded: AtomicBool,
    /// All who waited at some time. Guarded by the registry's lock.
    took_part: Mutex<BTreeMap<AccountId, Part>>,
}

/// One account's part in a run.
#[derive(Clone, Debug)]
struct Part {
    /// As it names the derivation.
    drv_path: StorePath,
    /// Its requests that wait.
    waiting: usize,
    /// It wished the run to go on without it.
    keeps: bool,
}

/// A run that has not ended, as an account that takes part in it may know it.
#[derive(Clone)]
pub(crate) struct Underway {
    pub(crate) drv_path: StorePath,
    pub(crate) log: Log,
    /// It waits for a slot.
    pub(crate) queued: bool,
    /// No request of the account waits for it: it goes on because the account wished so.
    pub(crate) detached: bool,
}

/// The runs of this server.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    runs: Arc<Mutex<HashMap<RunKey, Arc<Running>>>>,
    /// Those that stand under no key.
    alone: Arc<Mutex<Vec<Weak<Running>>>>,
    /// The keys of which an account left a run that had begun, so that it was cancelled.
    left: Arc<Mutex<HashMap<AccountId, HashSet<BuildKey>>>>,
}

/// Keys that are remembered of each account. One that left runs of so many is taken to have left a run of every key: to forget the oldest
/// would let it make the service forget.
const MAX_LEFT: usize = 1 << 13;

/// The duties of whoever starts a run.
pub(crate) struct Lead {
    /// Fires when nobody waits any more.
    pub(crate) cancel: CancellationToken,
    progress: watch::Sender<Progress>,
    registry: Registry,
    run: Arc<Running>,
}

/// A requester's share in a run.
pub(crate) struct Interest {
    registry: Registry,
    run: Arc<Running>,
    account: AccountId,
}

impl Registry {
    /// Runs at the moment.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Joins the first of these keys that has a run; when there is none, starts one under the last, with the log and
    /// the place in the queue that `start` makes.
    pub(crate) fn join_or_start<E>(
        &self,
        keys: &[RunKey],
        account: AccountId,
        drv_path: &StorePath,
        start: impl FnOnce() -> Result<(Log, Number), E>,
    ) -> Result<(Interest, Option<Lead>), E> {
        let mut runs = self.lock();
        if let Some(run) = keys
            .iter()
            .filter_map(|key| runs.get(key))
            .find(|run| run.joined_by(account, drv_path))
        {
            let interest = Interest {
                registry: self.clone(),
                run: Arc::clone(run),
                account,
            };
            return Ok((interest, None));
        }
        let (interest, lead) = self.begin(keys.last().copied(), account, drv_path, start()?);
        runs.extend(keys.last().map(|key| (*key, Arc::clone(&interest.run))));
        Ok((interest, Some(lead)))
    }

    /// Whether the account took part in a run of that key that began and was then left by everybody.
    pub(crate) fn was_left(&self, key: &BuildKey, account: AccountId) -> bool {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.get(&account)
            .is_some_and(|keys| keys.len() >= MAX_LEFT || keys.contains(key))
    }

    /// Remembers that a run of that key has no outcome, for all who took part in it.
    fn note_left(&self, key: BuildKey, run: &Running) {
        let parts = run.parts();
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        for account in parts.keys() {
            let keys = left.entry(*account).or_default();
            if keys.len() < MAX_LEFT {
                keys.insert(key);
            }
        }
    }

    /// Starts a run that nobody can join.
    pub(crate) fn start_alone(
        &self,
        account: AccountId,
        drv_path: &StorePath,
        started: (Log, Number),
    ) -> (Interest, Lead) {
        let begun = self.begin(None, account, drv_path, started);
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        alone.retain(|run| run.strong_count() > 0);
        alone.push(Arc::downgrade(&begun.0.run));
        begun
    }

    /// The runs that an account waits for, or wished to go on without it; the latest first.
    pub(crate) fn of(&self, account: AccountId) -> Vec<Underway> {
        let alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let runs = self.lock();
        let alone: Vec<Arc<Running>> = alone.iter().filter_map(Weak::upgrade).collect();
        let all = runs.values().chain(&alone);
        let mut found: Vec<Underway> = all.filter_map(|run| run.seen_by(account)).collect();
        found.sort_by_key(|run| std::cmp::Reverse(run.log.id()));
        found
    }

    fn begin(
        &self,
        key: Option<RunKey>,
        account: AccountId,
        drv_path: &StorePath,
        (log, place): (Log, Number),
    ) -> (Interest, Lead) {
        let (send, receive) = watch::channel(Progress::Queued);
        let run = Arc::new(Running {
            key,
            drv_path: drv_path.clone(),
            log,
            progress: receive,
            place: AtomicU64::new(place.0),
            begun: AtomicBool::new(false),
            cancel: CancellationToken::new(),
            interested: Mutex::new(1),
            keep: AtomicBool::new(false),
            discarded: AtomicBool::new(false),
            took_part: Mutex::new(BTreeMap::from([(account, Part::new(drv_path))])),
        });
        let lead = Lead {
            cancel: run.cancel.clone(),
            progress: send,
            registry: self.clone(),
            run: Arc::clone(&run),
        };
        (
            Interest {
                registry: self.clone(),
                run,
                account,
            },
            lead,
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RunKey, Arc<Running>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a run out, unless another has taken its place.
    fn remove(&self, run: &Arc<Running>) {
        let Some(key) = run.key else { return };
        let mut runs = self.lock();
        if runs.get(&key).is_some_and(|r| Arc::ptr_eq(r, run)) {
            runs.remove(&key);
        }
    }
}

impl Part {
    fn new(drv_path: &StorePath) -> Self {
        Self {
            drv_path: drv_path.clone(),
            waiting: 1,
            keeps: false,
        }
    }
}

impl Running {
    fn parts(&self) -> std::sync::MutexGuard<'_, BTreeMap<AccountId, Part>> {
        self.took_part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen_by(&self, account: AccountId) -> Option<Underway> {
        let part = self.parts().get(&account)?.clone();
        let queued = match *self.progress.borrow() {
            Progress::Queued => true,
            Progress::Running => false,
            Progress::Finished(_) => return None,
        };
        (part.waiting > 0 || part.keeps).then(|| Underway {
            drv_path: part.drv_path,
            log: self.log.clone(),
            queued,
            detached: part.waiting == 0,
        })
    }

    /// One more who waits, under the registry's lock. At zero it is being cancelled and is nobody's to join, unless it goes on by itself.
    fn joined_by(&self, account: AccountId, drv_path: &StorePath) -> bool {
        let mut interested = self.interested.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = *interested > 0 || self.keep.load(Ordering::Relaxed);
        if goes_on {
            *interested += 1;
            let mut parts = self.parts();
            let part = parts.entry(account).or_insert_with(|| Part {
                waiting: 0,
                ..Part::new(drv_path)
            });
            part.waiting += 1;
        }
        goes_on
    }
}

impl Lead {
    /// It waits in the queue once more, at that place.
    pub(crate) fn wait(&self, place: Number) {
        self.run.place.store(place.0, Ordering::Relaxed);
        self.progress.send_replace(Progress::Queued);
    }

    /// Tells everybody who waits that the builder starts.
    pub(crate) fn begin(&self) {
        self.run.begun.store(true, Ordering::Relaxed);
        self.progress.send_replace(Progress::Running);
    }

    /// What the run gave counts for nothing: somebody may have brought that about who has seen what would come out, and so all who take
    /// part count as having left it.
    pub(crate) fn discard(&self) {
        self.run.discarded.store(true, Ordering::Relaxed);
        if let Some((key, _)) = self.run.key {
            self.registry.note_left(key, &self.run);
        }
    }

    /// Whether one of several accounts may have chosen for the others what came out in the end: then it is for the leader's alone.
    pub(crate) fn is_apart(&self) -> bool {
        self.run.discarded.load(Ordering::Relaxed) && self.run.parts().len() > 1
    }

    /// The accounts that wished the run to go on and do not wait for it, and how each names the derivation.
    pub(crate) fn detached(&self) -> Vec<(AccountId, StorePath)> {
        let parts = self.run.parts();
        let detached = parts.iter().filter(|(_, part)| part.keeps && part.waiting == 0);
        detached
            .map(|(account, part)| (*account, part.drv_path.clone()))
            .collect()
    }

    /// Tells everybody who waits.
    pub(crate) fn finish(self, finished: Finished) {
        // Out of the registry first: who comes now finds the recorded result.
        self.registry.remove(&self.run);
        self.progress.send_replace(Progress::Finished(finished));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.registry.remove(&self.run);
    }
}

impl Interest {
    /// Lets the run go on when nobody waits for it any more.
    pub(crate) fn keep_running(&self) {
        self.run.keep.store(true, Ordering::Relaxed);
        if let Some(part) = self.run.parts().get_mut(&self.account) {
            part.keeps = true;
        }
    }

    /// A reader of the run's log, from its start.
    pub(crate) fn log(&self) -> LogReader {
        self.run.log.reader()
    }

    /// How the first requester of the run named the derivation.
    pub(crate) fn drv_path(&self) -> &StorePath {
        &self.run.drv_path
    }

    /// Where it waits in the queue, or did.
    pub(crate) fn place(&self) -> Number {
        Number(self.run.place.load(Ordering::Relaxed))
    }

    /// Waits until it is queued, or is not any more: its builder runs, or it has ended.
    pub(crate) async fn becomes(&self, queued: bool) {
        let mut progress = self.run.progress.clone();
        let becomes = progress.wait_for(|p| matches!(p, Progress::Queued) == queued);
        let gone = becomes.await.is_err();
        if gone && queued {
            // It is gone, and will not wait again.
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the end.
    pub(crate) async fn finished(&self) -> Finished {
        let mut progress = self.run.progress.clone();
        let ended = progress.wait_for(|p| matches!(p, Progress::Finished(_))).await;
        match ended.as_deref() {
            Ok(Progress::Finished(finished)) => finished.clone(),
            // The leading task is gone without a word: it panicked.
            _ => Finished::Failed(
                RunFailure::Infrastructure("the build was lost; try again".into()),
                None,
            ),
        }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let runs = self.registry.lock();
        let mut interested = self.run.interested.lock().unwrap_or_else(PoisonError::into_inner);
        *interested = interested.saturating_sub(1);
        let last = *interested == 0;
        if let Some(part) = self.run.parts().get_mut(&self.account) {
            part.waiting = part.waiting.saturating_sub(1);
        }
        drop(interested);
        drop(runs);
        if last && !self.run.keep.load(Ordering::Relaxed) {
            self.note_left();
            self.run.cancel.cancel();
        }
    }
}

impl Interest {
    /// Remembers who left a run that had begun and has not ended.
    fn note_left(&self) {
        let Some((key, _)) = self.run.key else { return };
        let ended = matches!(*self.run.progress.borrow(), Progress::Finished(_));
        if ended || !self.run.begun.load(Ordering::Relaxed) {
            return;
        }
        self.registry.note_left(key, &self.run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_many_runs_makes_nothing_forgotten() {
        let registry = Registry::default();
        let key = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            BuildKey(key)
        };
        let (one, other) = (AccountId(1), AccountId(2));
        let leave = |n| {
            registry
                .left
                .lock()
                .unwrap()
                .entry(one)
                .or_default()
                .insert(key(n))
        };
        assert!((0..MAX_LEFT - 1).all(leave));
        assert!(registry.was_left(&key(0), one));
        assert!(!registry.was_left(&key(MAX_LEFT), one));
        leave(MAX_LEFT - 1);
        assert!(registry.was_left(&key(0), one) && registry.was_left(&key(MAX_LEFT), one));
        assert!(!registry.was_left(&key(0), other));
    }
}
