//! Leaving a cache alone for a while after it could not be reached.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Closed until a failure; then open for a time that doubles with every failure in a row. When the time is over, one request is let
/// through to see.
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
}

/// Leave to ask the cache once. Dropped without a word, it tells nothing about the cache.
pub(crate) struct Pass<'b> {
    breaker: &'b Breaker,
    probe: bool,
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
    pub(crate) fn admit(&self) -> Result<Pass<'_>, Duration> {
        let mut state = self.lock();
        let probe = match state.open_until {
            None => false,
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() || state.probing {
                    return Err(left);
                }
                state.probing = true;
                true
            }
        };
        Ok(Pass { breaker: self, probe })
    }

    /// It answered.
    pub(crate) fn answered(&self) {
        *self.lock() = State::default();
    }

    /// It could not be reached. Failures of requests that were under way together count as one.
    pub(crate) fn failed(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        if state.open_until.is_some_and(|until| until > now) {
            return;
        }
        let factor = 1u32.checked_shl(state.failures).unwrap_or(u32::MAX);
        state.failures = state.failures.saturating_add(1);
        state.open_until = Some(now + self.first.saturating_mul(factor).min(self.longest));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test(start_paused = true)]
    async fn opens_doubles_probes_and_closes() {
        let second = Duration::from_secs(1);
        let breaker = Breaker::new(10 * second, 60 * second);
        let (one, two) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        breaker.failed();
        breaker.failed();
        drop((one, two));
        for wait in [10, 20, 40, 60, 60] {
            assert!(breaker.admit().is_err());
            tokio::time::advance((wait - 1) * second).await;
            assert!(breaker.admit().is_err());
            tokio::time::advance(second).await;
            drop(breaker.admit().unwrap());
            let probe = breaker.admit().unwrap();
            assert!(breaker.admit().is_err());
            breaker.failed();
            drop(probe);
        }
        tokio::time::advance(60 * second).await;
        let probe = breaker.admit().unwrap();
        breaker.answered();
        drop(probe);
        assert!(breaker.admit().is_ok());
    }
}
