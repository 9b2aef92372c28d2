//! One cache on the network, as one account asks it: how many may ask it at once, and whether it is left alone.

use std::sync::Arc;
use std::time::Duration;

use firn_service::ports::{CacheError, Trouble};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::Options;
use crate::breaker::{Breaker, LeftAlone, Pass, Since};
use crate::fault::Fault;

/// Longest wait for a place among those who ask for small files.
pub(crate) const SMALL_QUEUE: Duration = Duration::from_secs(30);
/// Longest wait for a place among those who download.
const NAR_QUEUE: Duration = Duration::from_secs(600);

/// Caches are told apart by address, not by host: who makes one address of a host fail must not cut others off the rest of it. Downloads
/// that fail do not keep anybody from asking what the cache has, only from downloading.
pub(crate) struct Site {
    base: String,
    small: Lane,
    nars: Lane,
}

/// Requests of one kind.
struct Lane {
    breaker: Breaker,
    places: Arc<Semaphore>,
}

impl Lane {
    fn new(options: &Options, places: usize) -> Self {
        Self {
            breaker: Breaker::new(options.left_alone, options.left_alone_longest),
            places: Arc::new(Semaphore::new(places.max(1))),
        }
    }

    fn note(&self, since: Since, fault: Option<&Fault>) {
        match fault {
            Some(Fault::Passing { trouble, .. }) => self.breaker.failed(since, &trouble.to_string()),
            _ => self.breaker.answered(),
        }
    }
}

impl Site {
    pub(crate) fn new(base: String, options: &Options) -> Self {
        Self {
            base,
            small: Lane::new(options, options.small_at_once),
            nars: Lane::new(options, options.nars_at_once),
        }
    }

    /// Without parameters.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Leave to ask for a small file; an error while the cache is left alone.
    pub(crate) fn admit(&self) -> Result<Pass<'_>, CacheError> {
        self.small.breaker.admit().map_err(|left| self.left_alone(left))
    }

    /// Whether the cache is left alone since a request began.
    pub(crate) fn is_left_alone(&self) -> bool {
        self.small.breaker.left_alone().is_some()
    }

    /// Leave to download.
    pub(crate) fn admit_nar(&self) -> Result<Pass<'_>, CacheError> {
        match self.small.breaker.left_alone() {
            Some(left) => Err(self.left_alone(left)),
            None => self.nars.breaker.admit().map_err(|left| self.left_alone(left)),
        }
    }

    /// A place among those who ask for small files.
    pub(crate) async fn small_place(&self) -> Result<OwnedSemaphorePermit, CacheError> {
        drop(self.admit()?);
        self.place(&self.small, SMALL_QUEUE).await
    }

    /// A place among those who download.
    pub(crate) async fn nar_place(&self) -> Result<OwnedSemaphorePermit, CacheError> {
        drop(self.admit_nar()?);
        self.place(&self.nars, NAR_QUEUE).await
    }

    async fn place(&self, lane: &Lane, longest: Duration) -> Result<OwnedSemaphorePermit, CacheError> {
        match timeout(longest, Arc::clone(&lane.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(self.error(Trouble::Unreachable("is asked for too much at once".into()))),
        }
    }

    /// What the outcome of a request for a small file says about the cache.
    pub(crate) fn note(&self, since: Since, fault: Option<&Fault>) {
        self.small.note(since, fault);
    }

    /// What the outcome of a download says about it.
    pub(crate) fn note_nar(&self, since: Since, fault: Option<&Fault>) {
        self.nars.note(since, fault);
    }

    fn left_alone(&self, LeftAlone { left, why }: LeftAlone) -> CacheError {
        let seconds = left.as_secs() + 1;
        self.error(Trouble::LeftAlone { seconds, why })
    }

    fn error(&self, trouble: Trouble) -> CacheError {
        CacheError {
            cache: self.base.clone(),
            trouble,
        }
    }
}
