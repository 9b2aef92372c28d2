//! Leading a run: from a free slot to a recorded result.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use firn_core::schedule::{Share, Ticket};
use firn_core::{AccountId, BuildId, BuildKey, Ground, ObjectId, derivation_digest};
use firn_nix::{BasicDerivation, DerivationOutput, StorePath};
use firn_protocol::Held;
use tokio::sync::mpsc;

use crate::House;
use crate::log::{self, LogWriter};
use crate::ports::{
    BuildRecord, Builder as _, Builds as _, DatabaseError, DerivationDigest, FailureRecord, Job, Outcome,
    OutputRecord, Ports, RunFailure, RunRecord,
};
use crate::queue::Place;
use crate::realisations::FloatingOutputs;
use crate::reserve;
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
            tracing::warn!(%key, drv = %record.run.drv_path, "a content of a result is lost; the result is withdrawn");
            self.db.forget_result(record.run.id).await?;
        }
        Ok(None)
    }
}

/// What a run is remembered by, besides its job.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) key: BuildKey,
    /// Numbers of the objects of the whole input closure.
    pub(crate) inputs: BTreeSet<ObjectId>,
    pub(crate) sharing: Sharing,
    /// The outputs, where their paths follow from their contents.
    pub(crate) floating: Option<FloatingOutputs>,
    /// What its result is grounded in.
    pub(crate) ground: Option<Ground>,
    /// See [`Request`](crate::realise::Request).
    pub(crate) urgency: u64,
    /// What the account may have of the machine.
    pub(crate) share: Share,
    /// Memory of the derivation.
    #[expect(dead_code, reason = "it is held as long as this is there")]
    pub(crate) held: Arc<Held>,
}

/// Whether it states the hash of what it gives.
pub(crate) fn is_fixed(drv: &BasicDerivation) -> bool {
    let mut outputs = drv.outputs.values();
    outputs.any(|output| matches!(output, DerivationOutput::Fixed { .. }))
}

/// A run that has its place in the queue.
pub(crate) struct Queued {
    pub(crate) job: Job,
    pub(crate) ticket: Ticket,
    pub(crate) place: Place,
    pub(crate) log: LogWriter,
}

/// Runs a job for everybody who waits for its key, and records how it ended before anybody is told.
pub(crate) async fn lead<P: Ports>(house: Arc<House<P>>, asked: Asked, queued: Queued, duty: Lead) {
    let id = queued.job.id;
    let Asked { key, sharing, .. } = asked;
    let fixed = is_fixed(&queued.job.drv);
    // Between the requester's look and the start of this run another one may have ended.
    let finished = match house.stored_result(&key, sharing).await {
        Ok(Some(_)) => Finished::Stored,
        Ok(None) => {
            let (run, ended, beside) = run(&house, &asked, queued, &duty).await;
            let shares = duty.is_shared();
            match ended {
                // It came to its end all the same, but that is no outcome any more.
                _ if duty.cancel.is_cancelled() => Finished::Failed(RunFailure::Cancelled, None),
                Ok(outputs) => {
                    let record = BuildRecord { run, outputs };
                    match house
                        .db
                        .record_build(&record, sharing.account, shares, sharing.takes)
                        .await
                    {
                        Ok(shared) if shared.run.id == id && !duty.is_apart() => {
                            Finished::Ran(Arc::new(shared))
                        }
                        Ok(_) => Finished::Stored,
                        Err(e) => database_failed(&e),
                    }
                }
                // What a fixed output is fetched from is not in the key: the next try may find it.
                Err(failure) if fixed => Finished::Failed(failure, None),
                // Others took time from it, and it may end by itself the next time.
                Err(failure @ RunFailure::TimedOut(_)) if beside => Finished::Failed(failure, None),
                Err(failure) => remember_failure(&house, run, failure, sharing.account, shares).await,
            }
        }
        Err(e) => database_failed(&e),
    };
    if let Finished::Failed(failure, None) = &finished {
        house.discard(&duty, &failure.to_string()).await;
    }
    end(&house, id, sharing.account, duty, finished).await;
}

/// Remembers a failure that is the builder's own doing, or that the operator's time limits are: the same build would fail again, or is likely
/// to. Nothing else is: not what was cancelled, what the machine or the lack of memory or disk did, nor what went over the limit of its log.
async fn remember_failure<P: Ports>(
    house: &House<P>,
    run: RunRecord,
    failure: RunFailure,
    account: AccountId,
    shares: bool,
) -> Finished {
    let lasting = matches!(
        failure,
        RunFailure::Builder(_) | RunFailure::OutputRejected(_) | RunFailure::TimedOut(_)
    );
    if !lasting {
        return Finished::Failed(failure, None);
    }
    let id = run.id;
    let record = FailureRecord {
        run,
        failure: failure.clone(),
    };
    match house.db.record_failure(&record, account, shares).await {
        Ok(()) => Finished::Failed(failure, Some(id)),
        Err(error) => {
            // The failure stands without being remembered.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a failure is not remembered"
            );
            Finished::Failed(failure, None)
        }
    }
}

/// Runs a job whose result is compared, not shared. The run is remembered, so that what differs can be shown.
pub(crate) async fn lead_check<P: Ports>(house: Arc<House<P>>, asked: Asked, queued: Queued, duty: Lead) {
    let id = queued.job.id;
    let (run, ended, _) = run(&house, &asked, queued, &duty).await;
    let Sharing { account, gives, .. } = asked.sharing;
    let finished = match ended {
        Ok(outputs) => {
            let record = BuildRecord { run, outputs };
            match house.db.record_check(&record, account, gives).await {
                Ok(()) => Finished::Ran(Arc::new(record)),
                Err(e) => database_failed(&e),
            }
        }
        Err(failure) => Finished::Failed(failure, None),
    };
    end(&house, id, account, duty, finished).await;
}

async fn end<P: Ports>(house: &House<P>, id: BuildId, account: AccountId, duty: Lead, finished: Finished) {
    // Nobody will ask for the log of a run that did not end, or was none.
    if matches!(
        &finished,
        Finished::Stored | Finished::Failed(RunFailure::Cancelled, _)
    ) {
        log::remove(&house.settings.log_dir, id);
    }
    house.note_detached(account, &duty, &finished).await;
    duty.finish(finished);
}

/// Runs a job; tells, too, whether others ran beside it. Its contents are on disk when this returns: bytes first, rows second, so that a row
/// never speaks of bytes that power loss could take.
async fn run<P: Ports>(
    house: &House<P>,
    asked: &Asked,
    queued: Queued,
    duty: &Lead,
) -> (
    RunRecord,
    Result<BTreeMap<String, OutputRecord>, RunFailure>,
    bool,
) {
    let job = &queued.job;
    let mut run = RunRecord {
        id: job.id,
        key: asked.key,
        drv_path: job.drv_path.clone(),
        drv: DerivationDigest(derivation_digest(&job.drv)),
        system: job.class.system.clone(),
        inputs: asked.inputs.clone(),
        started: house.now(),
        stopped: house.now(),
        wall_ms: 0,
        cpu_user_us: 0,
        cpu_system_us: 0,
        memory_peak: None,
        disk_bytes: 0,
    };
    let outcome = tokio::select! {
        outcome = tries(house, queued, duty, &mut run) => outcome,
        never = house.end_when_left(duty) => match never {},
    };
    let Some(outcome) = outcome else {
        return (run, Err(RunFailure::Cancelled), false);
    };
    run.stopped = house.now();
    run.wall_ms = outcome.report.wall_ms;
    run.cpu_user_us = outcome.report.cpu_user_us;
    run.cpu_system_us = outcome.report.cpu_system_us;
    run.memory_peak = outcome.report.memory_peak;
    run.disk_bytes = outcome.report.disk_bytes;
    let outcome = counted(&run.drv_path, outcome);
    let beside = outcome.report.beside;
    let outputs = match outcome.result {
        Ok(outputs) => outputs,
        Err(failure) => return (run, Err(failure.bounded()), beside),
    };
    let contents = outputs.values().map(|output| output.content);
    if let Err(error) = house.content.sync(contents).await {
        tracing::error!(%error, "cannot write contents to disk");
        let failure = RunFailure::Infrastructure(
            "the service cannot write to its disk; the operator's log has the details".into(),
        );
        return (run, Err(failure), beside);
    }
    let outputs = outputs
        .into_iter()
        .map(|(name, object)| (name, OutputRecord { object }));
    (run, Ok(outputs.collect()), beside)
}

/// How a run ended while the machine was short of something is no outcome, whoever says so.
fn counted(drv_path: &StorePath, mut outcome: Outcome) -> Outcome {
    use RunFailure::{Cancelled, Exhausted, Infrastructure, InputRejected};
    if let Some(kind) = outcome.report.shortage
        && !matches!(
            outcome.result,
            Err(Cancelled | Exhausted(_) | Infrastructure(_) | InputRejected(_))
        )
    {
        outcome.result = Err(Infrastructure(format!(
            "'{drv_path}' was built while the machine was short of {kind}, so that it counts for nothing; try again later"
        )));
    }
    outcome
}

/// Runs the builder when its turn comes, and once more where memory was short and there may be more, and once more where the machine was
/// short of something else; `None` when it was cancelled before.
async fn tries<P: Ports>(
    house: &House<P>,
    queued: Queued,
    duty: &Lead,
    run: &mut RunRecord,
) -> Option<Outcome> {
    let Queued {
        job,
        mut ticket,
        mut place,
        mut log,
    } = queued;
    let id = job.id;
    let room = &house.settings.room;
    let mut next = job.clone();
    reserve::limit(&mut next, room, ticket.reservation);
    let (mut grown, mut again) = (false, false);
    loop {
        let outcome = attempt(house, next.clone(), place, duty, &mut log, run).await?;
        if duty.cancel.is_cancelled() {
            return Some(outcome);
        }
        let report = outcome.report;
        let short = report.short_of_memory && outcome.result.is_err() && !grown;
        if short && let Some(more) = reserve::once_more(room, &job, ticket.reservation, report.memory_peak) {
            (grown, again) = (true, again || report.shortage.is_some());
            if let Some(kind) = report.shortage {
                house.throw_away(duty, kind).await;
            }
            ticket.reservation = more;
            next = job.clone();
            tracing::info!(build = %id, drv = %job.drv_path, memory = more.memory, "a build was short of memory, and is run once more");
            write(
                &mut log,
                id,
                b"\nfirn: the build was short of memory; it is run once more, with as much as a build may have\n",
            );
        } else if let Some(kind) = report.shortage.filter(|_| !again) {
            house.throw_away(duty, kind).await;
            again = true;
            tracing::warn!(build = %id, drv = %job.drv_path, %kind, "a build ran while the machine was short of something, and is run once more");
            let line = format!(
                "\nfirn: this machine was short of {kind} while the build ran; how it ended counts for nothing, and it is run once more\n"
            );
            write(&mut log, id, line.as_bytes());
        } else {
            return Some(outcome);
        }
        place = house.queue.enter(ticket);
        duty.wait(place.number());
    }
}

async fn attempt<P: Ports>(
    house: &House<P>,
    job: Job,
    place: Place,
    duty: &Lead,
    log: &mut LogWriter,
    run: &mut RunRecord,
) -> Option<Outcome> {
    let turn = tokio::select! {
        turn = place.turn() => turn,
        () = duty.cancel.cancelled() => return None,
    };
    if !duty.begin() {
        return None;
    }
    let (send, mut receive) = mpsc::channel::<Bytes>(LOG_QUEUE);
    let id = job.id;
    run.started = house.now();
    let write = async {
        while let Some(chunk) = receive.recv().await {
            write(log, id, &chunk);
        }
    };
    let (outcome, ()) = tokio::join!(house.builder.run(job, send, duty.cancel.clone()), write);
    drop(turn);
    Some(outcome)
}

fn write(log: &mut LogWriter, id: BuildId, bytes: &[u8]) {
    if let Err(e) = log.append(bytes) {
        tracing::error!(error = %e, build = %id, "cannot write a build log");
    }
}

fn database_failed(error: &DatabaseError) -> Finished {
    tracing::error!(error = error as &dyn std::error::Error, "database");
    Finished::Failed(
        RunFailure::Infrastructure(
            "the service's database failed; the operator's log has the details".into(),
        ),
        None,
    )
}
