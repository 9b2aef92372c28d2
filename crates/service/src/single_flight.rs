//! One fetch for everybody who wants the same thing at the same time.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

/// What is fetched: the cache's address, who asks it, and the entry without its signatures. Two accounts share a fetch only when the
/// cache would have given both the same bytes, and the checks of one are those of the other.
pub(crate) type Flight = (String, Option<crate::ports::Login>, String);

/// Longest wait for somebody else's fetch.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fetches that are under way, and what was found of the bytes of those that have succeeded.
#[derive(Debug)]
pub(crate) struct SingleFlight<T> {
    flights: StdMutex<HashMap<Flight, Place<T>>>,
}

type Place<T> = Arc<Mutex<Option<T>>>;

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self {
            flights: StdMutex::default(),
        }
    }
}

impl<T: Copy> SingleFlight<T> {
    /// Runs `fetch`, unless it has just succeeded for somebody else. One that fails or is given up is tried again by the next who waits; and
    /// nobody waits long, for the other one's connections may be slow or taken up by other things.
    pub(crate) async fn run<E>(
        &self,
        flight: Flight,
        fetch: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let place = {
            let mut flights = self.lock();
            Arc::clone(flights.entry(flight.clone()).or_default())
        };
        let landing = Landing {
            all: self,
            flight,
            place,
        };
        let Ok(mut landed) = timeout(PATIENCE, landing.place.lock()).await else {
            return fetch.await;
        };
        if let Some(found) = *landed {
            return Ok(found);
        }
        Ok(*landed.insert(fetch.await?))
    }
}

impl<T> SingleFlight<T> {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Flight, Place<T>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the flight off the board when the last one who waits is gone.
struct Landing<'a, T> {
    all: &'a SingleFlight<T>,
    flight: Flight,
    place: Place<T>,
}

impl<T> Drop for Landing<'_, T> {
    fn drop(&mut self) {
        let mut flights = self.all.lock();
        // The board's and this one's.
        if Arc::strong_count(&self.place) <= 2 {
            flights.remove(&self.flight);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn flight() -> Flight {
        ("https://cache".into(), None, "URL: nar/x".into())
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_shares_the_fetch_and_failure_is_tried_again() {
        let board = SingleFlight::default();
        let fetches = AtomicUsize::new(0);
        let fetch = |fails: usize| {
            let fetches = &fetches;
            async move {
                let number = fetches.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(1)).await;
                if number < fails { Err(()) } else { Ok(()) }
            }
        };
        let all = futures_util::future::join_all((0..10).map(|_| board.run(flight(), fetch(1)))).await;
        assert_eq!(all.iter().filter(|r| r.is_err()).count(), 1);
        assert_eq!(fetches.load(Ordering::SeqCst), 2);
        assert!(board.lock().is_empty());
        // Who is slow keeps nobody waiting for long.
        let slow = board.run(flight(), std::future::pending::<Result<(), ()>>());
        let other = board.run(flight(), async { Ok::<(), ()>(()) });
        tokio::select! {
            _ = slow => panic!("it never ends"),
            fetched = other => fetched.unwrap(),
        }
        // Later is another time: the content may be gone since.
        board.run(flight(), fetch(0)).await.unwrap();
        assert_eq!(fetches.load(Ordering::SeqCst), 3);
    }
}
