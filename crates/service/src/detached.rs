//! What became of builds that went on after an account had left: noted among its requests, so that they are found again.

use std::time::Duration;

use firn_core::{AccountId, Rung};

use crate::House;
use crate::one_line::one_line;
use crate::ports::{Builds as _, Ports, RequestRecord, RunFailure};
use crate::running::{Finished, Lead};

impl<P: Ports> House<P> {
    /// Notes the end of a run for the accounts for which it went on without a request of theirs.
    pub(crate) async fn note_detached(&self, leader: AccountId, duty: &Lead, finished: &Finished) {
        for (account, drv_path) in duty.detached() {
            let name = drv_path.derivation_name().unwrap_or_else(|| drv_path.name());
            let (rung, reason, build, wall_ms) = match finished {
                Finished::Ran(record) => {
                    let took = Duration::from_millis(record.run.wall_ms).as_secs_f64();
                    let rung = if account == leader {
                        Rung::Built
                    } else {
                        Rung::Joined
                    };
                    let reason = format!("built {name} in {took:.1} s, after its client had left");
                    (Some(rung), reason, Some(record.run.id), record.run.wall_ms)
                }
                Finished::Failed(RunFailure::Cancelled, _) => {
                    (None, format!("stopped {name} after its client had left"), None, 0)
                }
                Finished::Failed(failure, build) => {
                    let line = one_line(&failure.to_string());
                    let reason = format!("failed {name} after its client had left: {line}");
                    (None, reason, *build, 0)
                }
                Finished::Stored => continue,
            };
            let record = RequestRecord {
                account,
                drv_path,
                rung,
                reason: reason.into(),
                build,
                time: self.now(),
                wall_ms,
            };
            if let Err(e) = self.db.record_request(&record).await {
                tracing::error!(
                    error = &e as &dyn std::error::Error,
                    "a detached build is not noted"
                );
            }
        }
    }
}
