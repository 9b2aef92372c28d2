//! Leading a run: from a free slot to a recorded result.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use firn_core::BuildKey;
use tokio::sync::mpsc;

use crate::House;
use crate::log::LogWriter;
use crate::ports::{BuildRecord, Builder, Database, DatabaseError, Job, OutputRecord, RunFailure};
use crate::running::{Finished, Lead};

/// Chunks of log on their way from the sandbox to the log file.
const LOG_QUEUE: usize = 16;

impl<D: Database, B: Builder> House<D, B> {
    /// The shared result of a key, if all its contents are still there; otherwise it is withdrawn.
    pub(crate) async fn stored_result(&self, key: &BuildKey) -> Result<Option<BuildRecord>, DatabaseError> {
        let Some(record) = self.db.result(key).await? else {
            return Ok(None);
        };
        if record
            .outputs
            .values()
            .all(|o| self.content.contains(&o.object.content))
        {
            return Ok(Some(record));
        }
        tracing::warn!(%key, drv = %record.drv_path, "a content of a shared result is lost; the result is withdrawn");
        self.db.forget_result(key).await?;
        Ok(None)
    }
}

/// Runs a job for everybody who waits for its key, and records the result before anybody is told.
pub(crate) async fn lead<D: Database, B: Builder>(
    house: Arc<House<D, B>>,
    key: BuildKey,
    job: Job,
    duty: Lead,
    log: LogWriter,
) {
    // Between the requester's look and the start of this run another one may have ended.
    let finished = match house.stored_result(&key).await {
        Ok(Some(record)) => Finished::Stored(Arc::new(record)),
        Ok(None) => match run(&house, key, job, &duty, log).await {
            Ok(record) => record_result(&house, &record).await,
            Err(failure) => Finished::Failed(failure),
        },
        Err(e) => database_failed(&e),
    };
    duty.finish(finished);
}

/// Runs a job whose result is compared, not shared.
pub(crate) async fn lead_check<D: Database, B: Builder>(
    house: Arc<House<D, B>>,
    key: BuildKey,
    job: Job,
    duty: Lead,
    log: LogWriter,
) {
    let finished = match run(&house, key, job, &duty, log).await {
        // The requester may come to believe the outputs: they are on disk first.
        Ok(record) => match house.content.sync().await {
            Ok(()) => Finished::Ran(Arc::new(record)),
            Err(e) => disk_failed(&e),
        },
        Err(failure) => Finished::Failed(failure),
    };
    duty.finish(finished);
}

async fn run<D: Database, B: Builder>(
    house: &House<D, B>,
    key: BuildKey,
    job: Job,
    duty: &Lead,
    mut log: LogWriter,
) -> Result<BuildRecord, RunFailure> {
    let slot = tokio::select! {
        slot = house.slots.acquire() => slot,
        () = duty.cancel.cancelled() => return Err(RunFailure::Cancelled),
    };
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

/// Bytes first, rows second: a row never speaks of bytes that power loss could take.
async fn record_result<D: Database, B: Builder>(house: &House<D, B>, record: &BuildRecord) -> Finished {
    if let Err(e) = house.content.sync().await {
        return disk_failed(&e);
    }
    match house.db.record_build(record).await {
        Ok(shared) if shared.id == record.id => Finished::Ran(Arc::new(shared)),
        Ok(shared) => Finished::Stored(Arc::new(shared)),
        Err(e) => database_failed(&e),
    }
}

fn disk_failed(error: &firn_content::ContentError) -> Finished {
    tracing::error!(%error, "cannot write contents to disk");
    Finished::Failed(RunFailure::Infrastructure(
        "the service cannot write to its disk; the operator's log has the details".into(),
    ))
}

fn database_failed(error: &DatabaseError) -> Finished {
    tracing::error!(error = error as &dyn std::error::Error, "database");
    Finished::Failed(RunFailure::Infrastructure(
        "the service's database failed; the operator's log has the details".into(),
    ))
}
