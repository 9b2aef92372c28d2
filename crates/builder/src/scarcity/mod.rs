//! What the builds of this machine have in common, and what happens when it runs short.
//!
//! A build whose probe fails because a neighbour has filled the disk ends with other bytes, or fails, and a neighbour who reads along can
//! choose the moment. So there is one thread that looks many times a second at everything that can run out, and every run that was there at a moment
//! of shortage, or when there may have been one unseen, is told so: how it ended is no outcome. Before it comes to that, at the reserve,
//! the build that takes most is stopped, and none is started.

mod gauges;
mod marks;
mod tally;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use firn_sandbox::SandboxSpec;
use firn_service::ports::Scarce;
use tokio_util::sync::CancellationToken;

use crate::disk::{self, Amount};
use crate::failure::killed_for_memory;
use crate::groups::Gauge;
use gauges::Gauges;
use marks::LOOK;
use tally::{Look, Tally};

pub use marks::{Mark, Marks};
pub(crate) use tally::Seen;

/// Between two looks of those who wait for room.
const WAIT: Duration = Duration::from_millis(100);
/// Longest time for what a stopped build had to come back, before the next one is stopped.
const RETURN: Duration = Duration::from_secs(10);
/// Of a build that holds less there is nothing to be had by stopping it: one part in so many of the reserve.
const WORTH: u64 = 32;

/// Terminals for the machine itself.
const OWN_TERMINALS: u64 = 64;
/// Processes for the machine itself, and what part of all of them.
const OWN_PROCESSES: (u64, u64) = (1024, 16);

/// Whether the kernel hands out no more memory than there is (`vm.overcommit_memory`), so that what one process only reserves is missing for all others.
#[must_use]
pub fn is_memory_strict() -> bool {
    std::fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "2")
}

/// How many processes each of the builds that run at once can have, beside all that there are already.
pub(crate) fn allotted_processes(dir: &Path, at_once: u32) -> Option<u64> {
    let gauges = Gauges::new(dir);
    let of = |amounts: tally::Amounts| amounts.get(Scarce::Processes as usize).copied().flatten();
    let (total, free) = (of(gauges.total())?, of(gauges.free())?);
    let (least, part) = OWN_PROCESSES;
    Some((free.saturating_sub((total / part).max(least)) / u64::from(at_once.max(1))).max(1))
}

/// How many terminals each of them can have: at most as many as any build has anywhere.
pub(crate) fn allotted_terminals(dir: &Path, at_once: u32) -> u32 {
    let total = Gauges::new(dir)
        .total()
        .get(Scarce::Terminals as usize)
        .copied()
        .flatten();
    let each = |total: u64| {
        let own = OWN_TERMINALS.saturating_add(u64::from(at_once));
        u32::try_from(total.saturating_sub(own) / u64::from(at_once.max(1))).unwrap_or(u32::MAX)
    };
    total
        .map_or(SandboxSpec::TERMINALS, each)
        .clamp(1, SandboxSpec::TERMINALS)
}

/// The watcher of one machine's builds. Its thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Scarcity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gauges: Gauges,
    since: Instant,
    state: Mutex<State>,
    /// Somebody has come, or all is over.
    change: Condvar,
}

#[derive(Debug)]
struct State {
    tally: Tally,
    runs: BTreeMap<u64, Arc<Run>>,
    /// Processes of builds that have ended, killed for lack of memory.
    killed: u64,
    /// When the last build was stopped, and which.
    stopped: Option<(Instant, Weak<Run>)>,
    choosing: bool,
    closed: bool,
}

/// Where a build holds what it holds.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its directory, where that can grow.
    pub(crate) dir: Option<PathBuf>,
    /// The disk of its machine, likewise.
    pub(crate) image: Option<File>,
    pub(crate) memory: Gauge,
}

impl Held {
    /// How much of something that has a reserve. Blocks as long as it takes to count.
    fn of(&self, kind: Scarce) -> u64 {
        let dir = || {
            let dir = self.dir.as_deref()?;
            disk::count_all(dir, Amount::MUCH).ok()
        };
        let image = || {
            let image = self.image.as_ref()?.metadata().ok()?;
            Some(image.blocks().saturating_mul(512))
        };
        match kind {
            Scarce::DiskSpace => dir().map_or(0, |held| held.bytes) + image().unwrap_or(0),
            Scarce::DiskEntries => dir().map_or(0, |held| held.entries),
            Scarce::Memory => self.memory.memory(),
            Scarce::Processes | Scarce::OpenFiles | Scarce::Terminals | Scarce::Sockets => 0,
        }
    }
}

#[derive(Debug, Default)]
struct Run {
    held: OnceLock<Held>,
    stop: CancellationToken,
    why: OnceLock<Scarce>,
}

/// A run that is watched, from before anything is made for it until its outputs are taken.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: Arc<Inner>,
    number: u64,
    run: Arc<Run>,
    /// Kills that no build's limit explains, before it began.
    kills: Option<u64>,
}

/// What a run had on disk, until that is removed.
#[derive(Debug)]
pub(crate) struct Leftovers(#[expect(dead_code, reason = "somebody holds it")] Arc<Run>);

impl Scarcity {
    /// Watches the machine, and the file system of `dir`.
    pub(crate) fn new(dir: &Path, marks: Marks) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            gauges: Gauges::new(dir),
            since: Instant::now(),
            state: Mutex::new(State {
                tally: Tally::new(marks),
                runs: BTreeMap::new(),
                killed: 0,
                stopped: None,
                choosing: false,
                closed: false,
            }),
            change: Condvar::new(),
        });
        let watch = Arc::clone(&inner);
        std::thread::Builder::new()
            .name("scarcity".to_owned())
            .spawn(move || watch.watch())?;
        Ok(Self(inner))
    }

    /// What is below its reserve, so that no build should start.
    pub(crate) fn wanting(&self) -> Option<Scarce> {
        let mut state = self.0.lock();
        let look = self.0.look();
        state.tally.look(look);
        state.tally.wanting()
    }

    /// Waits until there is room for one more build, for so long.
    ///
    /// # Errors
    /// What there is too little of.
    pub(crate) async fn room(&self, patience: Duration) -> Result<(), Scarce> {
        let since = tokio::time::Instant::now();
        loop {
            match self.wanting() {
                None => return Ok(()),
                Some(kind) if since.elapsed() >= patience => return Err(kind),
                Some(_) => tokio::time::sleep(WAIT.min(patience)).await,
            }
        }
    }

    /// Watches one more run, which begins now.
    pub(crate) fn enter(&self) -> Watched {
        let inner = Arc::clone(&self.0);
        let run = Arc::new(Run::default());
        let mut state = inner.lock();
        // In this order, and in the other one at the end: what happens between two numbers is then counted once too often, never left out.
        let kills = killed_for_memory().map(|all| all.saturating_sub(state.explained()));
        let look = inner.look();
        let number = state.tally.enter(look);
        state.runs.insert(number, Arc::clone(&run));
        drop(state);
        inner.change.notify_all();
        Watched {
            inner,
            number,
            run,
            kills,
        }
    }

    /// Takes `bytes` of the disk at once, by `how`, if they are there beside the reserve.
    pub(crate) fn allot<T>(&self, bytes: u64, how: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock();
        let look = self.0.look();
        state.tally.look(look);
        if !state.tally.take(Scarce::DiskSpace, bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = how();
        state.tally.look(self.0.look());
        taken
    }
}

impl Drop for Scarcity {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.change.notify_all();
    }
}

impl State {
    /// Processes killed for lack of memory that were in groups of builds.
    fn explained(&self) -> u64 {
        let running = self.runs.values().filter_map(|run| run.held.get());
        self.killed + running.map(|held| held.memory.killed()).sum::<u64>()
    }

    /// Whether what the last stopped build had has come back.
    fn has_settled(&self) -> bool {
        let stopped = self.stopped.as_ref();
        stopped.is_none_or(|(at, run)| run.strong_count() == 0 || at.elapsed() > RETURN)
    }

    /// A run is watched no more. Its processes are gone, and so many of them were killed.
    fn leave(&mut self, number: u64, killed: Option<u64>) {
        if let Some(run) = self.runs.remove(&number) {
            self.killed += killed.unwrap_or_else(|| run.held.get().map_or(0, |held| held.memory.killed()));
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> Look {
        let began = self.since.elapsed();
        let free = self.gauges.free();
        Look {
            began,
            ended: self.since.elapsed(),
            free,
        }
    }

    /// The thread's body.
    fn watch(self: Arc<Self>) {
        let mut state = self.lock();
        while !state.closed {
            if state.tally.is_idle() {
                state = self.change.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(state);
            std::thread::sleep(LOOK);
            state = self.lock();
            let look = self.look();
            state.tally.look(look);
            if let Some(kind) = state.tally.demanding()
                && !state.choosing
                && state.has_settled()
            {
                state.choosing = true;
                let (inner, runs) = (Arc::clone(&self), state.runs.values().cloned().collect());
                let choose = move || inner.choose(kind, runs);
                if std::thread::Builder::new()
                    .name("scarcity-choice".to_owned())
                    .spawn(choose)
                    .is_err()
                {
                    state.choosing = false;
                }
            }
        }
    }

    /// Stops the run that holds most, if that is worth it.
    fn choose(&self, kind: Scarce, runs: Vec<Arc<Run>>) {
        let of = |run: Arc<Run>| Some((run.held.get()?.of(kind), run));
        let most = runs.into_iter().filter(|run| run.why.get().is_none());
        let most = most.filter_map(of).max_by_key(|(amount, _)| *amount);
        let mut state = self.lock();
        state.choosing = false;
        let reserve = state.tally.reserve(kind);
        if let Some((amount, run)) = most.filter(|(amount, _)| *amount > reserve / WORTH)
            && state.tally.demanding() == Some(kind)
        {
            tracing::warn!(%kind, amount, "the machine is short of it: the build that takes most is stopped");
            state.stopped = Some((Instant::now(), Arc::downgrade(&run)));
            let _ = run.why.set(kind);
            run.stop.cancel();
        }
    }
}

impl Watched {
    /// From now on it can be found out what it holds.
    pub(crate) fn holds(&self, held: Held) {
        let _ = self.run.held.set(held);
    }

    /// Waits until it must stop, because it takes most of something that is nearly used up.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        self.run.stop.clone().cancelled_owned()
    }

    /// What it was stopped for.
    pub(crate) fn why(&self) -> Option<Scarce> {
        self.run.why.get().copied()
    }

    /// What is known of it so far.
    pub(crate) fn seen(&self) -> Seen {
        let state = self.inner.lock();
        self.complete(&state, state.tally.seen(self.number))
    }

    /// Its processes are gone, and so many of them were killed for lack of memory.
    pub(crate) fn over(&self, killed: u64) {
        self.inner.lock().leave(self.number, Some(killed));
    }

    /// To be held until what it wrote is removed.
    pub(crate) fn leftovers(&self) -> Leftovers {
        Leftovers(Arc::clone(&self.run))
    }

    /// It has ended.
    pub(crate) fn end(self) -> Seen {
        let mut state = self.inner.lock();
        state.leave(self.number, None);
        let look = self.inner.look();
        let seen = state.tally.leave(self.number, look);
        self.complete(&state, seen)
    }

    fn complete(&self, state: &State, mut seen: Seen) -> Seen {
        let explained = state.explained();
        let kills = killed_for_memory().map(|all| all.saturating_sub(explained));
        // Others than builds have limits of their own, at which the kernel kills, too.
        if kills > self.kills && seen.tight {
            seen.shortage.get_or_insert(Scarce::Memory);
        }
        // One reserves it for all others in no time, and gives it back unseen.
        if seen.beside && is_memory_strict() {
            seen.shortage.get_or_insert(Scarce::Memory);
        }
        if let Some(kind) = self.why() {
            seen.shortage = Some(kind);
        }
        seen
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.leave(self.number, None);
        let look = self.inner.look();
        state.tally.leave(self.number, look);
    }
}
