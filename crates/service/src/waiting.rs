//! When a requester is told what its build waits for.

use std::time::Duration;

use firn_core::schedule::Wait;
use tokio::time::Instant;

/// Nobody is told of a shorter wait. Then it is twice as long between two looks each time, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// One stay in the queue, for one requester.
pub(crate) struct Waiting {
    next: Instant,
    pause: Duration,
    told: Option<String>,
}

impl Waiting {
    pub(crate) fn new() -> Self {
        Self {
            next: Instant::now() + FIRST,
            pause: FIRST,
            told: None,
        }
    }

    /// Until it is time to look; for ever when nothing waits.
    pub(crate) async fn pause(waiting: Option<&Self>) {
        match waiting {
            Some(waiting) => tokio::time::sleep_until(waiting.next).await,
            None => std::future::pending().await,
        }
    }

    /// What to say now, if it is news.
    pub(crate) fn tell(&mut self, wait: Option<Wait>) -> Option<String> {
        self.pause = (self.pause * 2).min(LONGEST);
        self.next = Instant::now() + self.pause;
        let text = wait?.to_string();
        if self.told.as_ref() == Some(&text) {
            return None;
        }
        self.told = Some(text.clone());
        Some(text)
    }

    /// Whether anything was said.
    pub(crate) fn was_told(&self) -> bool {
        self.told.is_some()
    }
}
