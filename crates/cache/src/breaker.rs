//! Leaving a cache alone for a while after it has failed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Closed until a request fails, all its tries, while no other one was answered: a cache that answers some stumbles, and is asked on.
/// Then open for a time that doubles with every failure in a row. When the time is over, one request is let through to see.
pub(crate) struct Breaker {
    first: Duration,
    longest: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    probing: bool,
    /// Requests that were answered.
    answers: u64,
    /// What it did when it failed last.
    why: String,
}

/// Leave to ask the cache. Dropped without a word, it tells nothing about the cache.
pub(crate) struct Pass<'b> {
    breaker: &'b Breaker,
    probe: bool,
    since: Since,
}

/// When a request began, by what was answered before.
#[derive(Clone, Copy)]
pub(crate) struct Since(u64);

/// The cache is left alone.
pub(crate) struct LeftAlone {
    pub left: Duration,
    pub why: String,
}

impl Pass<'_> {
    /// Whether it is the one that is let through to see. One try is enough for that.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe
    }

    pub(crate) fn since(&self) -> Since {
        self.since
    }
}

impl Breaker {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            state: Mutex::default(),
        }
    }

    /// Leave to ask, or how long the cache is still left alone.
    pub(crate) fn admit(&self) -> Result<Pass<'_>, LeftAlone> {
        let mut state = self.lock();
        let probe = match state.left_alone() {
            Some(left) => return Err(left),
            None => state.open_until.is_some(),
        };
        state.probing |= probe;
        Ok(Pass {
            breaker: self,
            probe,
            since: Since(state.answers),
        })
    }

    /// Whether it is left alone, for whoever does not ask now.
    pub(crate) fn left_alone(&self) -> Option<LeftAlone> {
        self.lock().left_alone()
    }

    /// It answered.
    pub(crate) fn answered(&self) {
        let mut state = self.lock();
        state.failures = 0;
        state.open_until = None;
        state.answers = state.answers.wrapping_add(1);
    }

    /// A request that began then has failed. Failures of requests that were under way together count as one.
    pub(crate) fn failed(&self, since: Since, why: &str) {
        let mut state = self.lock();
        let now = Instant::now();
        if state.answers != since.0 || state.open_until.is_some_and(|until| until > now) {
            return;
        }
        let factor = 1u32.checked_shl(state.failures).unwrap_or(u32::MAX);
        state.failures = state.failures.saturating_add(1);
        state.open_until = Some(now + self.first.saturating_mul(factor).min(self.longest));
        why.clone_into(&mut state.why);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn left_alone(&self) -> Option<LeftAlone> {
        let left = self.open_until?.saturating_duration_since(Instant::now());
        (!left.is_zero() || self.probing).then(|| LeftAlone {
            left,
            why: self.why.clone(),
        })
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn opens_doubles_probes_and_closes() {
        let breaker = Breaker::new(10 * SECOND, 60 * SECOND);
        let (one, two) = (breaker.admit().ok().unwrap(), breaker.admit().ok().unwrap());
        breaker.failed(one.since(), "is down");
        breaker.failed(two.since(), "is down");
        drop((one, two));
        for wait in [10, 20, 40, 60, 60] {
            assert!(breaker.admit().is_err_and(|left| left.why == "is down"));
            tokio::time::advance((wait - 1) * SECOND).await;
            assert!(breaker.admit().is_err());
            tokio::time::advance(SECOND).await;
            drop(breaker.admit().ok().unwrap());
            let probe = breaker.admit().ok().unwrap();
            assert!(probe.is_probe() && breaker.admit().is_err());
            breaker.failed(probe.since(), "is down");
            drop(probe);
        }
        tokio::time::advance(60 * SECOND).await;
        let probe = breaker.admit().ok().unwrap();
        breaker.answered();
        drop(probe);
        assert!(breaker.admit().is_ok_and(|pass| !pass.is_probe()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_beside_an_answer_is_a_stumble() {
        let breaker = Breaker::new(10 * SECOND, 60 * SECOND);
        let (one, two) = (breaker.admit().ok().unwrap(), breaker.admit().ok().unwrap());
        breaker.answered();
        breaker.failed(one.since(), "answers 502");
        assert!(breaker.left_alone().is_none());
        // After the answer nothing but failures.
        let three = breaker.admit().ok().unwrap();
        breaker.failed(two.since(), "answers 502");
        assert!(breaker.left_alone().is_none());
        breaker.failed(three.since(), "answers 502");
        assert!(breaker.left_alone().is_some());
    }
}
