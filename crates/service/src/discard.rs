//! Runs that are left and those that have no outcome: when they are stopped, and who is marked.
//!
//! A non-deterministic build has many outcomes, and nobody is to choose among them for others by throwing away those that he does not
//! like. So a shared run that has begun is finished in the background when everybody has left it, and whatever else ends one without a
//! recorded outcome marks all who took part. The rule is in `docs/trust.md`.

use std::convert::Infallible;
use std::time::Duration;

use firn_core::{AccountId, BuildKey};

use crate::House;
use crate::one_line::one_line;
use crate::ports::{Builds as _, DatabaseError, MAX_MARKS, Mark, Ports, Scarce};
use crate::running::{Lead, Looked};

/// Characters of a failure's words that a mark keeps.
const MAX_WHY: usize = 200;

impl<P: Ports> House<P> {
    /// Discards a run when it goes on for too long without anybody. The run itself ends when it hears that it is cancelled.
    pub(crate) async fn end_when_left(&self, duty: &Lead) -> Infallible {
        let limit = self.settings.finish_left_builds;
        let why = left(limit);
        loop {
            duty.is_left().await;
            tokio::select! {
                () = tokio::time::sleep(limit) => {}
                () = duty.is_wanted() => continue,
            }
            if duty.discard_if_left(&why) {
                self.save_marks().await;
                std::future::pending::<()>().await;
            }
        }
    }

    /// Notes that a run has no outcome that is recorded: it may be that somebody brought that about who has seen what would come out.
    pub(crate) async fn discard(&self, duty: &Lead, why: &str) {
        let line: String = one_line(why).chars().take(MAX_WHY).collect();
        duty.discard(&format!("ended without an outcome: {line}"));
        self.save_marks().await;
    }

    /// Notes that what a run gave so far counts for nothing, because the machine was short of something. It goes on.
    pub(crate) async fn throw_away(&self, duty: &Lead, kind: Scarce) {
        duty.throw_away(&format!("ran while the machine was short of {kind}"));
        self.save_marks().await;
    }

    /// Writes the marks that are not in the database. They hold all the same, until the service ends.
    pub(crate) async fn save_marks(&self) {
        let mut marks = self.running.unsaved();
        if marks.is_empty() {
            return;
        }
        for mark in &mut marks {
            mark.time = self.now();
        }
        match self.db.add_marks(&marks).await {
            Ok(()) => self.running.saved(&marks),
            Err(e) => tracing::error!(
                error = &e as &dyn std::error::Error,
                "marks of discarded runs are not stored"
            ),
        }
    }

    /// Whether an account is marked for a key.
    pub(crate) async fn look_for_mark(
        &self,
        key: &BuildKey,
        account: AccountId,
    ) -> Result<Looked, DatabaseError> {
        let at = self.running.moment();
        let mark = self.db.mark(key, account).await?;
        Ok(Looked { mark, at })
    }
}

/// What is said of an answer that others do not get.
pub(crate) fn apart(mark: &Mark, key: &BuildKey) -> String {
    if mark.key == *key {
        return format!(
            "for this account alone: an earlier run of it {} (this ends when another account has built it)",
            mark.why
        );
    }
    format!(
        "for this account alone: {MAX_MARKS} builds of which it has seen runs without an outcome are too many (`explain` of each says when \
         that ends)"
    )
}

fn left(limit: Duration) -> String {
    match limit.as_secs() {
        0 => "was left by everybody before its end".to_owned(),
        seconds if seconds % 60 == 0 => {
            format!(
                "was left by everybody and had not ended {} min later",
                seconds / 60
            )
        }
        seconds => format!("was left by everybody and had not ended {seconds} s later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_words() {
        for (seconds, words) in [
            (0, "was left by everybody before its end"),
            (900, "was left by everybody and had not ended 15 min later"),
            (90, "was left by everybody and had not ended 90 s later"),
        ] {
            assert_eq!(left(Duration::from_secs(seconds)), words);
        }
    }
}
