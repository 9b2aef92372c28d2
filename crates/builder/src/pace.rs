//! How fast a log may come.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A builder may be ahead of its rate by what it could have written in this time.
const AHEAD: Duration = Duration::from_secs(4);

/// Lets bytes pass at once as long as they are few, and at a rate in the long run.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes a second; `None` for any number.
    rate: Option<u64>,
    /// When all that has passed would have, at that rate.
    paid: Instant,
}

impl Pace {
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self {
            rate,
            paid: Instant::now(),
        }
    }

    /// Waits until so many more may pass.
    pub(crate) async fn pay(&mut self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let nanos = (bytes as u128).saturating_mul(1_000_000_000) / u128::from(rate.max(1));
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let from = self.paid.max(now);
        self.paid = from.checked_add(time).unwrap_or(from);
        // A timer is not that fine, so that what is nothing to wait for is not waited for.
        if self.paid.duration_since(now) > AHEAD {
            sleep_until(self.paid.checked_sub(AHEAD).unwrap_or(now)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const RATE: Option<u64> = Some(16 << 20);

    async fn passed(pace: &mut Pace, mebibytes: usize) -> Duration {
        let since = Instant::now();
        for _ in 0..mebibytes * 16 {
            pace.pay(MIB / 16).await;
        }
        since.elapsed()
    }

    fn is(time: Duration, seconds: u64) -> bool {
        time.abs_diff(Duration::from_secs(seconds)) < Duration::from_millis(10)
    }

    #[tokio::test(start_paused = true)]
    async fn some_pass_at_once_and_more_at_the_rate() {
        let mut pace = Pace::new(RATE);
        assert_eq!(passed(&mut pace, 64).await, Duration::ZERO);
        assert!(is(passed(&mut pace, 160).await, 10));
        assert!(is(passed(&mut pace, 16).await, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_may_hurry_again_but_not_more_than_at_first() {
        let mut pace = Pace::new(RATE);
        passed(&mut pace, 64).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(passed(&mut pace, 32).await, Duration::ZERO);
        assert!(is(passed(&mut pace, 16).await, 1));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(passed(&mut pace, 64).await, Duration::ZERO);
        assert!(is(passed(&mut pace, 32).await, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nothing_waits_and_with_the_least_it_ends() {
        let mut pace = Pace::new(None);
        assert_eq!(passed(&mut pace, 4096).await, Duration::ZERO);
        let mut pace = Pace::new(Some(0));
        let since = Instant::now();
        pace.pay(64).await;
        assert!(is(since.elapsed(), 60));
    }
}
