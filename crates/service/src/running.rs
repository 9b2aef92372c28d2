//! Builds that run now, by build key, and who waits for them.
//!
//! A requester holds an [`Interest`] in a run. What becomes of a run when the last one is dropped:
//!
//! - A *shared* run that has begun belongs to nobody. It goes on as if they had stayed, so that leaving chooses nothing; when it has not
//!   ended some time later, it is stopped and *discarded*.
//! - One that waits in the queue, and one that is an account's own, is cancelled, unless somebody wished it to go on.
//!
//! A shared run is discarded when it began and no outcome of it is recorded. Whoever took part in it may have seen what would come out,
//! and is *marked* for its key: later runs of the key that such an account leads are its own. Marks are in the database, and before that
//! here: a run leaves the registry in the moment in which its marks are set, so that no run of the key can begin between.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use firn_core::schedule::Number;
use firn_core::{AccountId, BuildId, BuildKey};
use firn_nix::StorePath;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::log::{Log, LogReader};
use crate::ports::{BuildRecord, Mark, RunFailure};

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

/// What keeps a run going. Changed under the registry's lock only.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// Requests that wait for it.
    waiting: usize,
    /// It goes on without anybody: one who waited wished it so.
    kept: bool,
    /// A builder was started for it. It may wait all the same, for the next one.
    begun: bool,
}

/// One run.
pub(crate) struct Running {
    /// `None` for a run that stands in no registry.
    key: Option<RunKey>,
    /// Whether something is chosen with an outcome: not where its hash is stated.
    open: bool,
    /// As its first requester names the derivation.
    drv_path: StorePath,
    log: Log,
    progress: watch::Receiver<Progress>,
    /// Its number in the queue.
    place: AtomicU64,
    cancel: CancellationToken,
    hold: watch::Sender<Hold>,
    /// All who waited at some time. Guarded by the registry's lock.
    took_part: Mutex<BTreeMap<AccountId, Part>>,
    discarded: AtomicBool,
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
    /// No request of the account waits for it: it goes on by itself.
    pub(crate) detached: bool,
}

/// What an account wants a run of.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'w> {
    pub(crate) key: BuildKey,
    /// Whose run it is, when it is not everybody's.
    pub(crate) owner: Option<AccountId>,
    pub(crate) account: AccountId,
    /// As the account names it.
    pub(crate) drv_path: &'w StorePath,
    /// See [`Running::open`].
    pub(crate) open: bool,
}

/// Whether an account was marked for a key, and when the database was asked.
pub(crate) struct Looked {
    pub(crate) mark: Option<Mark>,
    pub(crate) at: u64,
}

/// A requester in a run.
pub(crate) struct InRun {
    pub(crate) interest: Interest,
    /// Somebody else leads it.
    pub(crate) joined: bool,
    /// Why it is for the account alone, when it might be everybody's.
    pub(crate) apart: Option<Mark>,
}

/// What became of a run that an account does not want any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It is stopped; and whether those who took part are marked.
    Ended { apart: bool },
    /// Others wait for it, or wished it to go on.
    GoesOn,
    /// A request of the account itself waits for it.
    Waits,
}

/// The runs of this server.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    runs: Arc<Mutex<Runs>>,
    /// Those that stand under no key.
    alone: Arc<Mutex<Vec<Weak<Running>>>>,
}

#[derive(Default)]
struct Runs {
    by_key: HashMap<RunKey, Arc<Running>>,
    /// Marks that the database has not.
    unsaved: HashMap<(AccountId, BuildKey), Mark>,
    /// How often marks went to the database. Who asked it before one did has to ask again.
    saved: u64,
}

/// The duties of whoever starts a run.
pub(crate) struct Lead {
    /// Fires when there is to be no outcome: nobody waits, or it is discarded.
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
        self.lock().by_key.len()
    }

    /// The moment, for [`Looked::at`].
    pub(crate) fn moment(&self) -> u64 {
        self.lock().saved
    }

    /// Joins a run of that key; when there is none, starts one, with the log and the place in the queue that `start` makes, and hands out the
    /// duties. A marked account joins everybody's run, but starts one of its own. `None`: marks were set meanwhile; look again.
    pub(crate) fn join_or_start<E>(
        &self,
        wanted: Wanted<'_>,
        looked: Looked,
        start: impl FnOnce() -> Result<(Log, Number), E>,
    ) -> Result<Option<(InRun, Option<Lead>)>, E> {
        let Wanted { key, owner, .. } = wanted;
        let mut runs = self.lock();
        if owner.is_none() && runs.saved != looked.at {
            return Ok(None);
        }
        let unsaved = || runs.unsaved.get(&(wanted.account, key)).cloned();
        let mark = looked.mark.or_else(unsaved).filter(|_| owner.is_none());
        let alone = mark.is_some().then_some((key, Some(wanted.account)));
        let keys = [Some((key, owner)), alone];
        let underway = keys.iter().flatten().filter_map(|key| runs.by_key.get(key));
        if let Some(run) = underway.into_iter().find(|run| run.joined_by(wanted)) {
            let joined = InRun {
                interest: self.interest(run, wanted.account),
                joined: true,
                apart: mark.filter(|_| !run.is_shared()),
            };
            return Ok(Some((joined, None)));
        }
        let key = alone.unwrap_or((key, owner));
        let (interest, lead) = self.begin(Some(key), wanted, start()?);
        runs.by_key.insert(key, Arc::clone(&interest.run));
        let leading = InRun {
            interest,
            joined: false,
            apart: mark,
        };
        Ok(Some((leading, Some(lead))))
    }

    /// Starts a run that nobody can join.
    pub(crate) fn start_alone(&self, wanted: Wanted<'_>, started: (Log, Number)) -> (Interest, Lead) {
        let begun = self.begin(None, wanted, started);
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        alone.retain(|run| run.strong_count() > 0);
        alone.push(Arc::downgrade(&begun.0.run));
        begun
    }

    /// The runs that an account waits for, or that go on after it has left; the latest first.
    pub(crate) fn of(&self, account: AccountId) -> Vec<Underway> {
        let alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let runs = self.lock();
        let alone: Vec<Arc<Running>> = alone.iter().filter_map(Weak::upgrade).collect();
        let all = runs.by_key.values().chain(&alone);
        let mut found: Vec<Underway> = all.filter_map(|run| run.seen_by(account)).collect();
        found.sort_by_key(|run| std::cmp::Reverse(run.log.id()));
        found
    }

    /// Ends a run that goes on after an account has left, unless it goes on for others. `None`: there is no such run.
    pub(crate) fn stop(&self, account: AccountId, build: BuildId, why: &str) -> Option<Stopped> {
        let mut runs = self.lock();
        let found = runs.by_key.values().find(|run| run.log.id() == Some(build));
        let run = Arc::clone(found.filter(|run| run.seen_by(account).is_some())?);
        let (waits, kept) = {
            let mut parts = run.parts();
            let part = parts.get_mut(&account)?;
            part.keeps &= part.waiting > 0;
            (part.waiting > 0, parts.values().any(|part| part.keeps))
        };
        if waits {
            return Some(Stopped::Waits);
        }
        run.hold.send_modify(|hold| hold.kept = kept);
        let hold = *run.hold.borrow();
        if hold.waiting > 0 || hold.kept {
            return Some(Stopped::GoesOn);
        }
        Some(Stopped::Ended {
            apart: runs.discard(&run, why),
        })
    }

    /// Marks that the database is to have, without the time.
    pub(crate) fn unsaved(&self) -> Vec<Mark> {
        self.lock().unsaved.values().cloned().collect()
    }

    /// It has them.
    pub(crate) fn saved(&self, marks: &[Mark]) {
        let mut runs = self.lock();
        for mark in marks {
            runs.unsaved.remove(&(mark.account, mark.key));
        }
        runs.saved = runs.saved.wrapping_add(1);
    }

    fn begin(
        &self,
        key: Option<RunKey>,
        wanted: Wanted<'_>,
        (log, place): (Log, Number),
    ) -> (Interest, Lead) {
        let (send, receive) = watch::channel(Progress::Queued);
        let run = Arc::new(Running {
            key,
            open: wanted.open,
            drv_path: wanted.drv_path.clone(),
            log,
            progress: receive,
            place: AtomicU64::new(place.0),
            cancel: CancellationToken::new(),
            hold: watch::Sender::new(Hold {
                waiting: 1,
                kept: false,
                begun: false,
            }),
            took_part: Mutex::new(BTreeMap::from([(wanted.account, Part::new(wanted.drv_path))])),
            discarded: AtomicBool::new(false),
        });
        let lead = Lead {
            cancel: run.cancel.clone(),
            progress: send,
            registry: self.clone(),
            run: Arc::clone(&run),
        };
        (self.interest(&run, wanted.account), lead)
    }

    fn interest(&self, run: &Arc<Running>, account: AccountId) -> Interest {
        Interest {
            registry: self.clone(),
            run: Arc::clone(run),
            account,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runs {
    /// Takes a run out, unless another has taken its place.
    fn take_out(&mut self, run: &Arc<Running>) {
        let Some(key) = run.key else { return };
        if self.by_key.get(&key).is_some_and(|r| Arc::ptr_eq(r, run)) {
            self.by_key.remove(&key);
        }
    }

    /// A run has no outcome, whatever comes out of it: it is cancelled, and if that may be a choice, whoever took part in it is marked. Whether
    /// that was done now.
    fn discard(&mut self, run: &Arc<Running>, why: &str) -> bool {
        self.take_out(run);
        run.cancel.cancel();
        self.mark_all(run, why)
    }

    /// Marks whoever took part in a shared run that has begun, if what comes out of it may be a choice. From then on it is not shared. Whether
    /// that was done now.
    fn mark_all(&mut self, run: &Arc<Running>, why: &str) -> bool {
        let Some((key, None)) = run.key else { return false };
        if !run.open || !run.hold.borrow().begun || run.discarded.swap(true, Ordering::Relaxed) {
            return false;
        }
        for (account, part) in run.parts().iter() {
            let mark = Mark {
                account: *account,
                key,
                drv_path: part.drv_path.clone(),
                why: why.to_owned(),
                time: 0,
            };
            self.unsaved.insert((*account, key), mark);
        }
        true
    }
}

impl Hold {
    /// Nobody waits for a run that goes on by itself.
    fn is_left(self) -> bool {
        self.waiting == 0 && !self.kept && self.begun
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

    fn is_shared(&self) -> bool {
        self.is_everybodys() && !self.discarded.load(Ordering::Relaxed)
    }

    /// Whether it began as everybody's, whatever became of it.
    fn is_everybodys(&self) -> bool {
        self.key.is_some_and(|(_, owner)| owner.is_none())
    }

    /// It goes on, and nobody waits for it.
    fn is_in_background(&self) -> bool {
        self.is_shared() && self.hold.borrow().is_left()
    }

    fn seen_by(&self, account: AccountId) -> Option<Underway> {
        let part = self.parts().get(&account)?.clone();
        let queued = match *self.progress.borrow() {
            Progress::Queued => true,
            Progress::Running => false,
            Progress::Finished(_) => return None,
        };
        (part.waiting > 0 || part.keeps || self.is_in_background()).then(|| Underway {
            drv_path: part.drv_path,
            log: self.log.clone(),
            queued,
            detached: part.waiting == 0,
        })
    }

    /// One more who waits, under the registry's lock. One that is being cancelled is nobody's to join.
    fn joined_by(&self, wanted: Wanted<'_>) -> bool {
        if self.cancel.is_cancelled() {
            return false;
        }
        self.hold.send_modify(|hold| hold.waiting += 1);
        let mut parts = self.parts();
        let part = parts.entry(wanted.account).or_insert_with(|| Part {
            waiting: 0,
            ..Part::new(wanted.drv_path)
        });
        part.waiting += 1;
        true
    }
}

impl Lead {
    /// It waits in the queue once more, at that place.
    pub(crate) fn wait(&self, place: Number) {
        self.run.place.store(place.0, Ordering::Relaxed);
        self.progress.send_replace(Progress::Queued);
    }

    /// Tells everybody who waits that the builder starts; or it does not, because it was cancelled.
    pub(crate) fn begin(&self) -> bool {
        let runs = self.registry.lock();
        if self.cancel.is_cancelled() {
            return false;
        }
        self.run.hold.send_modify(|hold| hold.begun = true);
        drop(runs);
        self.progress.send_replace(Progress::Running);
        true
    }

    /// Whether its outcome is everybody's.
    pub(crate) fn is_shared(&self) -> bool {
        self.run.is_shared()
    }

    /// Waits until it goes on although nobody waits for it.
    pub(crate) async fn is_left(&self) {
        if !self.is_shared() {
            std::future::pending::<()>().await;
        }
        // The other end is in the run, which is here.
        let _ = self.run.hold.subscribe().wait_for(|hold| hold.is_left()).await;
    }

    /// Waits until it is not so any more.
    pub(crate) async fn is_wanted(&self) {
        let _ = self.run.hold.subscribe().wait_for(|hold| !hold.is_left()).await;
    }

    /// Discards it if nobody waits for it.
    pub(crate) fn discard_if_left(&self, why: &str) -> bool {
        let mut runs = self.registry.lock();
        let left = self.run.is_in_background();
        if left {
            runs.discard(&self.run, why);
        }
        left
    }

    /// It has no outcome that is recorded.
    pub(crate) fn discard(&self, why: &str) {
        self.registry.lock().discard(&self.run, why);
    }

    /// What it gave so far counts for nothing. It goes on, for whoever leads it alone.
    pub(crate) fn throw_away(&self, why: &str) {
        let mut runs = self.registry.lock();
        if runs.mark_all(&self.run, why) {
            runs.take_out(&self.run);
        }
    }

    /// Whether one of several accounts may have chosen for the others what came out in the end: then it is for the leader's alone.
    pub(crate) fn is_apart(&self) -> bool {
        self.run.discarded.load(Ordering::Relaxed) && self.run.parts().len() > 1
    }

    /// The accounts for which it goes on or went on without a request of theirs, and how each names the derivation.
    pub(crate) fn detached(&self) -> Vec<(AccountId, StorePath)> {
        let background = self.run.is_everybodys() && self.run.hold.borrow().is_left();
        let parts = self.run.parts();
        let detached = parts
            .iter()
            .filter(|(_, part)| part.waiting == 0 && (part.keeps || background));
        detached
            .map(|(account, part)| (*account, part.drv_path.clone()))
            .collect()
    }

    /// Tells everybody who waits.
    pub(crate) fn finish(self, finished: Finished) {
        // Out of the registry first: who comes now finds the recorded result.
        self.registry.lock().take_out(&self.run);
        self.progress.send_replace(Progress::Finished(finished));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut runs = self.registry.lock();
        match *self.run.progress.borrow() {
            Progress::Finished(_) => runs.take_out(&self.run),
            // The leading task panicked.
            _ => drop(runs.discard(&self.run, "was lost")),
        }
    }
}

impl Interest {
    /// Lets the run go on when nobody waits for it any more.
    pub(crate) fn keep_running(&self) {
        let runs = self.registry.lock();
        self.run.hold.send_modify(|hold| hold.kept = true);
        if let Some(part) = self.run.parts().get_mut(&self.account) {
            part.keeps = true;
        }
        drop(runs);
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
        self.run
            .hold
            .send_modify(|hold| hold.waiting = hold.waiting.saturating_sub(1));
        if let Some(part) = self.run.parts().get_mut(&self.account) {
            part.waiting = part.waiting.saturating_sub(1);
        }
        let hold = *self.run.hold.borrow();
        if hold.waiting == 0 && !hold.kept && !self.run.is_in_background() {
            self.run.cancel.cancel();
        }
        drop(runs);
    }
}
