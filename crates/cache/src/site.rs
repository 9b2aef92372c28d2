//! One cache on the network: how many may ask it at once, and whether it is left alone.

use std::sync::Arc;
use std::time::Duration;

use firn_service::ports::CacheError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::Options;
use crate::breaker::{Breaker, Pass};
use crate::fault::Fault;

/// Longest wait for a place among those who ask for small files.
pub(crate) const SMALL_QUEUE: Duration = Duration::from_secs(30);
/// Longest wait for a place among those who download.
const NAR_QUEUE: Duration = Duration::from_secs(600);

/// Caches are told apart by address, not by host: who makes one address of a host fail must not cut others off the rest of it.
pub(crate) struct Site {
    base: String,
    pub breaker: Breaker,
    small: Arc<Semaphore>,
    nars: Arc<Semaphore>,
}

impl Site {
    pub(crate) fn new(base: String, options: &Options) -> Self {
        Self {
            base,
            breaker: Breaker::new(options.left_alone, options.left_alone_longest),
            small: Arc::new(Semaphore::new(options.small_at_once.max(1))),
            nars: Arc::new(Semaphore::new(options.nars_at_once.max(1))),
        }
    }

    /// Without parameters.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Leave to ask; an error while the cache is left alone.
    pub(crate) fn admit(&self) -> Result<Pass<'_>, CacheError> {
        self.breaker.admit().map_err(|left| {
            self.unreachable(format_args!(
                "could not be reached and is left alone for {} s",
                left.as_secs() + 1
            ))
        })
    }

    /// A place among those who ask for small files.
    pub(crate) async fn small_place(&self) -> Result<OwnedSemaphorePermit, CacheError> {
        self.place(&self.small, SMALL_QUEUE).await
    }

    /// A place among those who download.
    pub(crate) async fn nar_place(&self) -> Result<OwnedSemaphorePermit, CacheError> {
        self.place(&self.nars, NAR_QUEUE).await
    }

    async fn place(
        &self,
        places: &Arc<Semaphore>,
        longest: Duration,
    ) -> Result<OwnedSemaphorePermit, CacheError> {
        drop(self.admit()?);
        match timeout(longest, places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(self.unreachable(format_args!("is asked for too much at once"))),
        }
    }

    /// What the outcome of a request says about the cache.
    pub(crate) fn note(&self, fault: Option<&Fault>) {
        match fault {
            Some(Fault::Passing { .. }) => self.breaker.failed(),
            _ => self.breaker.answered(),
        }
    }

    pub(crate) fn unreachable(&self, what: std::fmt::Arguments<'_>) -> CacheError {
        CacheError::Unreachable(format!("the cache '{}' {what}", self.base))
    }
}
