//! What requests were answered with, in sum.

use firn_core::AccountId;
use firn_protocol::StoreError;

use crate::ports::{Builds as _, Ports, Usage};
use crate::resolve::failed;
use crate::{Desk, House};

/// Seconds of a day.
const DAY: u64 = 86_400;
/// Days that are told one by one.
const MAX_DAYS: u64 = 400;

/// A span of time, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first second.
    pub since: u64,
    /// The first after it.
    pub until: u64,
}

impl Span {
    /// All of time, as far as databases count it.
    pub const ALWAYS: Self = Self {
        since: 0,
        until: i64::MAX as u64,
    };

    /// Its days (UTC), the first and the last of them perhaps in part; the latest when there are too many.
    fn days(self) -> Vec<Self> {
        let (first, end) = (self.since / DAY, self.until.div_ceil(DAY));
        let days = first.max(end.saturating_sub(MAX_DAYS))..end;
        days.map(|day| Self {
            since: self.since.max(day * DAY),
            until: self.until.min((day + 1) * DAY),
        })
        .collect()
    }
}

impl<P: Ports> House<P> {
    /// What all accounts together used and were spared. For the operator.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn usage(&self, span: Span) -> Result<Usage, StoreError> {
        self.usage_of(None, span).await
    }

    /// The same, day by day; days without requests are left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn usage_by_day(&self, span: Span) -> Result<Vec<(Span, Usage)>, StoreError> {
        self.days_of(None, span).await
    }

    async fn usage_of(&self, account: Option<AccountId>, span: Span) -> Result<Usage, StoreError> {
        let usage = self.db.usage(account, span.since, span.until);
        usage.await.map_err(failed)
    }

    async fn days_of(
        &self,
        account: Option<AccountId>,
        span: Span,
    ) -> Result<Vec<(Span, Usage)>, StoreError> {
        let mut days = Vec::new();
        // The future has no days.
        let until = span.until.min(self.now() + 1);
        for day in (Span { until, ..span }).days() {
            let usage = self.usage_of(account, day).await?;
            if !usage.rungs.is_empty() || usage.uploaded_bytes + usage.substituted_bytes > 0 {
                days.push((day, usage));
            }
        }
        Ok(days)
    }
}

impl<P: Ports> Desk<P> {
    /// What the account used and was spared.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn usage(&self, span: Span) -> Result<Usage, StoreError> {
        self.house.usage_of(Some(self.account.id), span).await
    }

    /// The same, day by day; days without requests are left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn usage_by_day(&self, span: Span) -> Result<Vec<(Span, Usage)>, StoreError> {
        self.house.days_of(Some(self.account.id), span).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_at_midnight() {
        let span = |since, until| Span { since, until };
        assert_eq!(
            span(DAY - 1, 2 * DAY + 1).days(),
            [span(DAY - 1, DAY), span(DAY, 2 * DAY), span(2 * DAY, 2 * DAY + 1)]
        );
        assert_eq!(span(0, DAY).days(), [span(0, DAY)]);
        assert_eq!(span(5, 5).days(), [span(5, 5)]);
        assert_eq!(span(DAY, 0).days(), []);
        let many = span(0, 10_000 * DAY).days();
        assert_eq!(
            (many.len() as u64, many.last().unwrap().until),
            (MAX_DAYS, 10_000 * DAY)
        );
    }
}
