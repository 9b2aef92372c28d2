//! Leading a run: from a free slot to a recorded result.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use firn_core::{BuildId, BuildKey};
use tokio::sync::mpsc;

use crate::House;
use crate::log::{self, LogWriter};
use crate::ports::{
    BuildRecord, Builder as _, Builds as _, DatabaseError, Job, OutputRecord, Ports, RunFailure,
};
use crate::running::{Finished, Lead};
use crate::terms::Sharing;

/// Chunks of log on their way from the sandbox to the log file.
const LOG_QUEUE: usize = 16;

impl<P: Ports> House<P> {
    /// The result of a key that an account may have. One with a lost content is withdrawn.
    pub(crate) async fn stored_result(
        &self,
        key: &BuildKey,
        sharing: Sharing,
    ) -> Result<Option<BuildRecord>, DatabaseError> {
        while let Some(record) = self.db.result(key, sharing.account, sharing.takes).await? {
            if record
                .outputs
                .values()
                .all(|o| self.content.contains(&o.object.content))
            {
                return Ok(Some(record));
            }
            tracing::warn!(%key, drv = %record.drv_path, "a content of a result is lost; the result is withdrawn");
            self.db.forget_result(record.id).await?;
        }
        Ok(None)
    }
}

/// Runs a job for everybody who waits for its key, and records the result before anybody is told.
pub(crate) async fn lead<P: Ports>(
    house: Arc<House<P>>,
    key: BuildKey,
    sharing: Sharing,
    job: Job,
    duty: Lead,
    log: LogWriter,
) {
    let id = job.id;
    // Between the requester's look and the start of this run another one may have ended.
    let finished = match house.stored_result(&key, sharing).await {
        Ok(Some(record)) => Finished::Stored(Arc::new(record)),
        Ok(None) => match run(&house, key, job, &duty, log).await {
            Ok(record) => match house
                .db
                .record_build(&record, sharing.account, sharing.gives)
                .await
            {
                Ok(shared) if shared.id == record.id => Finished::Ran(Arc::new(shared)),
                Ok(shared) => Finished::Stored(Arc::new(shared)),
                Err(e) => database_failed(&e),
            },
            Err(failure) => Finished::Failed(failure),
        },
        Err(e) => database_failed(&e),
    };
    end(&house, id, duty, finished);
}

/// Runs a job whose result is compared, not shared.
pub(crate) async fn lead_check<P: Ports>(
    house: Arc<House<P>>,
    key: BuildKey,
    job: Job,
    duty: Lead,
    log: LogWriter,
) {
    let id = job.id;
    let finished = match run(&house, key, job, &duty, log).await {
        Ok(record) => Finished::Ran(Arc::new(record)),
        Err(failure) => Finished::Failed(failure),
    };
    end(&house, id, duty, finished);
}

fn end<P: Ports>(house: &House<P>, id: BuildId, duty: Lead, finished: Finished) {
    // Nobody will ask for the log of a run that did not end, or was none.
    if matches!(
        &finished,
        Finished::Stored(_) | Finished::Failed(RunFailure::Cancelled)
    ) {
        log::remove(&house.settings.log_dir, id);
    }
    duty.finish(finished);
}

/// The result of a job, its contents on disk: bytes first, rows second, so that a row never speaks of bytes that power loss could take.
async fn run<P: Ports>(
    house: &House<P>,
    key: BuildKey,
    job: Job,
    duty: &Lead,
    mut log: LogWriter,
) -> Result<BuildRecord, RunFailure> {
    let slot = tokio::select! {
        slot = house.slots.acquire() => slot,
        () = duty.cancel.cancelled() => return Err(RunFailure::Cancelled),
    };
    duty.begin();
    let (send, mut receive) = mpsc::channel::<Bytes>(LOG_QUEUE);
    let (id, drv_path) = (job.id, job.drv_path.clone());
    let started = house.now();
    let write = async {
        while let Some(chunk) = receive.recv().await {
            if let Err(e) = log.append(&chunk) {
                tracing::error!(error = %e, build = %id, "cannot write a build log");
            }
        }
        // Readers end when the writer does.
        drop(log);
    };
    let (outcome, ()) = tokio::join!(house.builder.run(job, send, duty.cancel.clone()), write);
    drop(slot);
    let outputs = outcome.result?;
    house.content.sync().await.map_err(|e| {
        tracing::error!(error = %e, "cannot write contents to disk");
        RunFailure::Infrastructure(
            "the service cannot write to its disk; the operator's log has the details".into(),
        )
    })?;
    Ok(BuildRecord {
        id,
        key,
        drv_path,
        outputs: outputs
            .into_iter()
            .map(|(name, object)| (name, OutputRecord { object }))
            .collect::<BTreeMap<_, _>>(),
        started,
        stopped: house.now(),
        wall_ms: outcome.report.wall_ms,
        cpu_user_us: outcome.report.cpu_user_us,
        cpu_system_us: outcome.report.cpu_system_us,
    })
}

fn database_failed(error: &DatabaseError) -> Finished {
    tracing::error!(error = error as &dyn std::error::Error, "database");
    Finished::Failed(RunFailure::Infrastructure(
        "the service's database failed; the operator's log has the details".into(),
    ))
}
