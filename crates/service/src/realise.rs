//! One request for one derivation: down the reuse ladder, and what the client is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use firn_core::{BuildId, BuildKey, Claim, EvidenceKind, Facts, InputMapping, Reuse, Rung, View, decide};
use firn_nix::{BasicDerivation, StorePath};
use firn_protocol::{BuildMode, BuildOptions, BuildResult, BuildStatus, LogEvent, LogSink, StoreError};
use tokio::time::Instant;

use crate::lines::{Lines, event};
use crate::log;
use crate::ports::{BuildRecord, Builder, Database, Job, RequestRecord, RunFailure};
use crate::resolve::{closure, failed, view};
use crate::run::{lead, lead_check};
use crate::running::{Finished, Interest};
use crate::{AccountStore, refuse};

/// One request on its way down the ladder.
pub(crate) struct Request {
    pub(crate) drv_path: StorePath,
    pub(crate) drv: BasicDerivation,
    pub(crate) mode: BuildMode,
    pub(crate) options: BuildOptions,
    /// Number of the build within the client's request.
    pub(crate) number: u64,
    pub(crate) log: LogSink,
}

/// How a request was answered.
struct Answer {
    rung: Option<Rung>,
    /// For the log and the record; one line.
    reason: String,
    result: BuildResult,
    build: Option<BuildId>,
}

impl<D: Database, B: Builder> AccountStore<D, B> {
    /// Answers one request; failures of the build are results, `Err` is the service's own.
    pub(crate) async fn realise(&self, request: Request) -> Result<BuildResult, StoreError> {
        let begun = self.house.clock.now();
        say(
            &request,
            LogEvent::BuildStarted {
                id: request.number,
                drv_path: request.drv_path.clone(),
            },
        )
        .await;
        let answer = self.answer(&request).await;
        if let Ok(answer) = &answer {
            let line = format!("firn: {}", answer.reason).into_bytes();
            say(
                &request,
                LogEvent::BuildLine {
                    id: request.number,
                    line,
                },
            )
            .await;
        }
        say(&request, LogEvent::BuildStopped { id: request.number }).await;
        let answer = answer?;
        let record = RequestRecord {
            account: self.account.id,
            drv_path: request.drv_path.clone(),
            rung: answer.rung,
            reason: answer.reason,
            build: answer.build,
            time: begun.as_secs(),
            wall_ms: millis(self.house.clock.now().saturating_sub(begun)),
        };
        tracing::info!(account = %self.account.name, drv = %record.drv_path, rung = ?record.rung, wall_ms = record.wall_ms, "request");
        self.house.db.record_request(&record).await.map_err(failed)?;
        Ok(answer.result)
    }

    async fn answer(&self, request: &Request) -> Result<Answer, StoreError> {
        if let Some(refusal) = refuse::refusal(&request.drv_path, &request.drv, &self.house.settings) {
            return Ok(rejected(refusal));
        }
        let run_asked = request.mode != BuildMode::Normal;
        let outputs: Vec<StorePath> = request
            .drv
            .outputs
            .values()
            .filter_map(|o| o.path().cloned())
            .collect();
        let valid = view(&self.house.db, self.account.id, &outputs)
            .await
            .map_err(failed)?;
        let outputs_valid = outputs.iter().all(|path| valid.get(path).is_some());
        if decide(Facts {
            outputs_valid,
            run_asked,
            ..Facts::default()
        }) == Reuse::View
        {
            return Ok(Answer {
                rung: Some(Rung::AlreadyValid),
                reason: format!("have {}: its outputs are valid already", shown(&request.drv_path)),
                result: BuildResult::new(BuildStatus::AlreadyValid, ""),
                build: None,
            });
        }

        let inputs = match closure(&self.house.db, self.account.id, &request.drv.input_srcs).await {
            Ok(inputs) => inputs,
            Err(e) => {
                return Ok(rejected(format!(
                    "cannot build '{}': input {e} here",
                    request.drv_path
                )));
            }
        };
        // The platform is one of the settings' systems: everything else was refused above.
        let class = self.house.class(&request.drv.platform.escape_ascii().to_string());
        let mapping = InputMapping::new(inputs.objects().cloned());
        let unreadable = tokio::task::block_in_place(|| {
            refuse::unreadable_input(&request.drv_path, &request.drv, &mapping, &self.house.content)
        });
        if let Some(refusal) = unreadable {
            return Ok(rejected(refusal));
        }
        let key = BuildKey::new(&request.drv, &mapping, &class);
        let job = Job {
            id: new_build_id(),
            drv_path: request.drv_path.clone(),
            drv: request.drv.clone(),
            inputs: mapping,
            class,
            limits: self.house.settings.limits,
        };
        if run_asked {
            return self.check(request, key, job, &valid).await;
        }
        if let Some(record) = self.house.stored_result(&key).await.map_err(failed)? {
            return self.succeed(request, Rung::Shared, &record).await;
        }
        self.wait_for_run(request, key, job).await
    }

    /// Joins the run of this key or starts it, passes its log on, and waits for its end.
    async fn wait_for_run(&self, request: &Request, key: BuildKey, job: Job) -> Result<Answer, StoreError> {
        let mut writer = None;
        let (interest, started) = self
            .house
            .running
            .join_or_start(key, || {
                let (write, read) = log::create(&self.house.settings.log_dir, job.id)?;
                writer = Some(write);
                Ok::<_, std::io::Error>(read)
            })
            .map_err(|e| StoreError::new(format!("internal error: cannot write a build log: {e}")))?;
        let joined = started.is_none();
        if let (Some(duty), Some(writer)) = (started, writer) {
            tokio::spawn(lead(Arc::clone(&self.house), key, job, duty, writer));
        }
        let finished = match self.follow(request, &interest).await {
            Ok(finished) => finished,
            Err(timed_out) => {
                return Ok(Answer {
                    rung: None,
                    reason: timed_out.clone(),
                    result: BuildResult::new(BuildStatus::TimedOut, timed_out),
                    build: None,
                });
            }
        };
        match finished {
            Finished::Stored(record) => self.succeed(request, Rung::Shared, &record).await,
            Finished::Ran(record) => {
                let rung = if joined { Rung::Joined } else { Rung::Built };
                self.succeed(request, rung, &record).await
            }
            Finished::Failed(failure) => Ok(failure_answer(request, &failure)),
        }
    }

    /// Passes the log on until the run has ended. The requester's own limits end its waiting, never the run.
    async fn follow(&self, request: &Request, interest: &Interest) -> Result<Finished, String> {
        let mut reader = interest.log();
        let mut lines = Lines::default();
        let begun = Instant::now();
        let limit = |seconds: Option<u64>, from: Instant| {
            seconds
                .filter(|&s| s > 0)
                .and_then(|s| from.checked_add(Duration::from_secs(s)))
        };
        let whole = limit(request.options.timeout, begun);
        let mut silent = limit(request.options.max_silent_time, begun);
        loop {
            tokio::select! {
                chunk = reader.next() => match chunk {
                    Ok(Some(chunk)) => {
                        for line in lines.push(&chunk) {
                            say(request, event(request.number, line)).await;
                        }
                        silent = limit(request.options.max_silent_time, Instant::now());
                    }
                    Ok(None) => break,
                    Err(e) => {
                        tracing::warn!(error = %e, "cannot read a build log");
                        break;
                    }
                },
                () = until(whole) => return Err(format!("building of '{}' timed out after {} seconds", request.drv_path, request.options.timeout.unwrap_or(0))),
                () = until(silent) => return Err(format!("building of '{}' timed out after {} seconds of silence", request.drv_path, request.options.max_silent_time.unwrap_or(0))),
            }
        }
        if let Some(line) = lines.rest() {
            say(request, event(request.number, line)).await;
        }
        Ok(interest.finished().await)
    }

    /// The outputs of a result become valid in this account's view, durably.
    async fn succeed(
        &self,
        request: &Request,
        rung: Rung,
        record: &BuildRecord,
    ) -> Result<Answer, StoreError> {
        let now = self.house.now();
        let claims: Vec<Claim> = record
            .outputs
            .values()
            .map(|output| Claim {
                object: output.object.clone(),
                kind: match output.object.ca {
                    Some(_) => EvidenceKind::ContentAddressed,
                    None => EvidenceKind::Built,
                },
                deriver: Some(request.drv_path.clone()),
                signatures: BTreeSet::new(),
                registered: now,
            })
            .collect();
        self.house
            .db
            .record_claims(self.account.id, &claims)
            .await
            .map_err(failed)?;
        let name = shown(&request.drv_path);
        let reason = match rung {
            Rung::Built => format!(
                "built {name} in {:.1} s",
                Duration::from_millis(record.wall_ms).as_secs_f64()
            ),
            Rung::Joined => format!("joined {name}: the same build was running"),
            Rung::Shared | Rung::AlreadyValid => format!("reused {name}: same derivation and same inputs"),
        };
        let mut result = BuildResult::new(BuildStatus::Built, "");
        result.times_built = 1;
        result.start_time = record.started;
        result.stop_time = record.stopped;
        result.cpu_user = Some(record.cpu_user_us);
        result.cpu_system = Some(record.cpu_system_us);
        Ok(Answer {
            rung: Some(rung),
            reason,
            result,
            build: Some(record.id),
        })
    }

    /// `--check`: runs in any case, and compares with what the view has.
    async fn check(
        &self,
        request: &Request,
        key: BuildKey,
        job: Job,
        valid: &View,
    ) -> Result<Answer, StoreError> {
        let (write, read) = log::create(&self.house.settings.log_dir, job.id)
            .map_err(|e| StoreError::new(format!("internal error: cannot write a build log: {e}")))?;
        let (interest, duty) = self.house.running.start_alone(read);
        tokio::spawn(lead_check(Arc::clone(&self.house), key, job, duty, write));
        let record = match self.follow(request, &interest).await {
            Ok(Finished::Ran(record) | Finished::Stored(record)) => record,
            Ok(Finished::Failed(failure)) => return Ok(failure_answer(request, &failure)),
            Err(timed_out) => return Ok(failure_answer(request, &RunFailure::TimedOut(timed_out))),
        };
        let differing = record.outputs.values().find(|output| {
            valid
                .get(&output.object.path)
                .is_some_and(|c| c.claim.object.content != output.object.content)
        });
        match differing {
            None => self.succeed(request, Rung::Built, &record).await,
            Some(output) => {
                let text = format!(
                    "derivation '{}' may not be deterministic: output '{}' differs",
                    request.drv_path, output.object.path
                );
                Ok(Answer {
                    rung: None,
                    reason: text.clone(),
                    result: BuildResult::new(BuildStatus::NotDeterministic, text),
                    build: None,
                })
            }
        }
    }
}

/// Sleeps until then, or for ever.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Events go to a client that may be gone; then the session drops the request anyway.
async fn say(request: &Request, event: LogEvent) {
    let _ = request.log.send(event).await;
}

fn rejected(reason: String) -> Answer {
    let result = BuildResult::new(BuildStatus::InputRejected, reason.clone());
    Answer {
        rung: None,
        reason,
        result,
        build: None,
    }
}

fn failure_answer(request: &Request, failure: &RunFailure) -> Answer {
    let status = match failure {
        RunFailure::Builder(_) => BuildStatus::PermanentFailure,
        RunFailure::OutputRejected(_) => BuildStatus::OutputRejected,
        RunFailure::InputRejected(_) => BuildStatus::InputRejected,
        RunFailure::TimedOut(_) => BuildStatus::TimedOut,
        RunFailure::LogLimit(_) => BuildStatus::LogLimitExceeded,
        RunFailure::Cancelled => BuildStatus::MiscFailure,
        RunFailure::Infrastructure(_) => BuildStatus::TransientFailure,
    };
    let text = failure.to_string();
    let first = text.lines().next().unwrap_or_default();
    let reason = format!("failed {}: {first}", shown(&request.drv_path));
    Answer {
        rung: None,
        reason,
        result: BuildResult::new(status, text),
        build: None,
    }
}

/// The derivation's name as a person knows it.
fn shown(drv_path: &StorePath) -> &str {
    drv_path.derivation_name().unwrap_or_else(|| drv_path.name())
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

fn new_build_id() -> BuildId {
    BuildId(*uuid::Uuid::now_v7().as_bytes())
}
