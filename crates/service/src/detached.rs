//! What became of builds that an account left running: noted among its requests, so that they are found again.

use std::time::Duration;

use firn_core::{AccountId, Rung};

use crate::House;
use crate::ports::{Builds as _, Ports, RequestRecord};
use crate::running::{Finished, Lead};

impl<P: Ports> House<P> {
    /// Notes the end of a run for the accounts that wished it to go on and do not wait for it.
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
                Finished::Failed(failure, build) => {
                    let text = failure.to_string();
                    let first = text.lines().next().unwrap_or_default();
                    let reason = format!("failed {name} after its client had left: {first}");
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
