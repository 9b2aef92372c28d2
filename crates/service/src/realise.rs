//! One request for one derivation: down the reuse ladder, and what the client is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firn_core::schedule::Ticket;
use firn_core::{
    BuildId, BuildKey, Choice, Effective, Facts, InputMapping, Layer, Level, Reuse, Rung, View, Why, decide,
    layered,
};
use firn_nix::{BasicDerivation, StorePath};
use firn_protocol::{
    BuildMode, BuildOptions, BuildResult, BuildStatus, BuiltOutput, Doing, LogEvent, LogSink, StoreError,
};

use crate::findings::Findings;
use crate::lines::{Lines, event};
use crate::log::{self, Log};
use crate::one_line::one_line;
use crate::patience::Patience;
use crate::ports::{
    Accounts as _, BuildRecord, Builds as _, FailureRecord, Job, Ports, Reason, RequestRecord, RunFailure,
};
use crate::realisations::FloatingOutputs;
use crate::resolve::{ClosureError, failed};
use crate::run::{self, Asked, Queued, lead, lead_check};
use crate::running::{Finished, InRun, Interest, Wanted};
use crate::terms::Sharing;
use crate::waiting::Waiting;
use crate::{AccountStore, discard, hint, large, refuse};

/// Most characters that are recorded of why caches did not answer.
const MAX_WHY: usize = 1000;

/// One request on its way down the ladder.
pub(crate) struct Request {
    pub(crate) drv_path: StorePath,
    /// Moves into the job.
    pub(crate) drv: BasicDerivation,
    pub(crate) mode: BuildMode,
    pub(crate) options: BuildOptions,
    /// Number of the build within the client's request.
    pub(crate) number: u64,
    /// Milliseconds that what waits for this build is expected to take after its start, itself included; 0 when nothing is known to wait.
    pub(crate) urgency: u64,
    /// Whether the output paths follow from a graph that was checked down to content-addressed leaves, which the account has.
    pub(crate) sound: bool,
    pub(crate) log: LogSink,
    /// Whether the client knows that it has begun.
    pub(crate) begun: AtomicBool,
}

impl Request {
    /// Tells the client what is done for it; the first time only.
    async fn begin(&self, doing: Doing) {
        if !self.begun.swap(true, Ordering::Relaxed) {
            let (id, drv_path) = (self.number, self.drv_path.clone());
            say(self, LogEvent::BuildStarted { id, drv_path, doing }).await;
        }
    }
}

/// Where the outputs of a derivation are before it is built.
struct Known {
    paths: BTreeMap<String, StorePath>,
    /// Whether that is all of them.
    all: bool,
    /// What the client is told of those whose paths follow from their contents.
    told: BTreeMap<String, BuiltOutput>,
}

/// How a request was answered.
struct Answer {
    rung: Option<Rung>,
    /// For the log and the record; one line.
    reason: String,
    result: BuildResult,
    build: Option<BuildId>,
}

impl<P: Ports> AccountStore<P> {
    /// Answers one request; failures of the build are results, `Err` is the service's own.
    pub(crate) async fn realise(&self, mut request: Request) -> Result<BuildResult, StoreError> {
        let begun = self.house.clock.now();
        let mut unfetched = None;
        let answer = self.answer(&mut request, &mut unfetched).await;
        request.begin(Doing::Building).await;
        let reason = answer.as_ref().map_or("", |answer| answer.reason.as_str());
        let reason = Reason::from(reason);
        if answer.is_ok() {
            say_line(&request, &reason).await;
        }
        say(&request, LogEvent::BuildStopped { id: request.number }).await;
        let answer = answer?;
        let record = RequestRecord {
            account: self.account.id,
            drv_path: request.drv_path.clone(),
            rung: answer.rung,
            reason: with_caches(reason.into_string(), unfetched).into(),
            build: answer.build,
            time: begun.as_secs(),
            wall_ms: millis(self.house.clock.now().saturating_sub(begun)),
        };
        tracing::info!(account = %self.account.name, drv = %record.drv_path, rung = record.rung.map_or("none", firn_core::Rung::name), wall_ms = record.wall_ms, "request");
        // The answer stands without being counted.
        if let Err(e) = self.house.db.record_request(&record).await {
            tracing::error!(error = &e as &dyn std::error::Error, "a request is not recorded");
        }
        Ok(answer.result)
    }

    /// `unfetched`: why the caches did not give the outputs, where there is more to say than that they have not got them.
    async fn answer(
        &self,
        request: &mut Request,
        unfetched: &mut Option<String>,
    ) -> Result<Answer, StoreError> {
        let held = self.memory_for(&request.drv).await?;
        let size = large::size(&request.drv);
        let turn = self.house.turn_to_read(size).await;
        let refusal = || refuse::refusal(&request.drv_path, &request.drv, &self.house.settings);
        if let Some(refusal) = large::read(size, refusal) {
            return Ok(rejected(refusal));
        }
        drop(turn);
        if let Err(e) = refuse::state_paths(&request.drv_path, &mut request.drv) {
            return Ok(rejected(format!("cannot build '{}': {e}", request.drv_path)));
        }
        let settings = match self.settings_for(request).await? {
            Ok(settings) => settings,
            Err(refusal) => return Ok(rejected(refusal)),
        };
        request.options = with_settings(request.options, &settings);
        let drv = std::mem::take(&mut request.drv);
        let request = &*request;
        let run_asked = request.mode != BuildMode::Normal;
        let floating = match FloatingOutputs::of(&request.drv_path, &drv) {
            Ok(floating) => floating,
            Err(e) => return Ok(rejected(format!("cannot build '{}': {e}", request.drv_path))),
        };
        let known = self.known(&drv, floating.as_ref()).await?;
        let outputs: Vec<StorePath> = known.paths.values().cloned().collect();
        let mut valid = self.view(&outputs).await?;
        let mut fetched = false;
        if !run_asked && known.all && !self.has_all(&valid, &outputs) && settings.substitute {
            let missing = outputs.iter().filter(|p| valid.get(p).is_none()).cloned();
            let findings = Findings::default();
            if self.substitute(missing.collect(), &findings).await? {
                fetched = true;
                valid = self.view(&outputs).await?;
            }
            let missing = outputs.iter().filter(|path| valid.get(path).is_none());
            *unfetched = missing.filter_map(|path| findings.why(path)).next();
        }
        let facts = Facts {
            outputs_valid: known.all && self.has_all(&valid, &outputs),
            run_asked,
            ..Facts::default()
        };
        let from_view = decide(facts) == Reuse::View;
        for line in self.session.untold() {
            // A line belongs to something that has begun.
            request.begin(doing(from_view, fetched)).await;
            say_line(request, &line).await;
        }
        if from_view {
            let mut answer = self.answer_from_view(request, &valid, &outputs, fetched).await?;
            answer.result.built_outputs = known.told;
            return Ok(answer);
        }

        let terms = self.terms().await?;
        let inputs = match self.house.closure(&terms, &drv.input_srcs).await {
            Ok(inputs) => inputs,
            Err(ClosureError::Database(e)) => return Err(failed(e)),
            Err(e) => {
                return Ok(rejected(format!(
                    "cannot build '{}' from its inputs: {e}",
                    request.drv_path
                )));
            }
        };
        // The platform is one of the settings' systems: everything else was refused above.
        let system = drv.platform.escape_ascii().to_string();
        let found = match refuse::builtin(&drv) {
            Some(name) => Ok(self.house.builtin_class(&name)),
            None => self.house.class(&system, settings.sandbox),
        };
        let (isolation, class) = match found {
            Ok(found) => found,
            Err(why) => return Ok(rejected(format!("cannot build '{}': {why}", request.drv_path))),
        };
        // What a builtin builder makes is part of graphs whose other builds run in the account's sandbox.
        let around = match self.house.class(&system, settings.sandbox) {
            Ok((_, around)) => around,
            Err(_) => class.clone(),
        };
        let mapping = InputMapping::new(inputs.shared_objects());
        let turn = self.house.turn_to_read(size).await;
        let key = large::read(size, || {
            BuildKey::new(shown(&request.drv_path), &drv, &mapping, &class)
        });
        drop(turn);
        let form = self.session.client.to_build();
        let key_in = |form| floating.as_ref().map_or(key, |_| key.in_form(form));
        let (key, other_key) = (key_in(form), key_in(form.other()));
        let asked = Asked {
            key,
            inputs: inputs.choices().map(|(_, choice)| choice.candidate.id).collect(),
            sharing: terms.sharing(),
            floating,
            ground: self.ground_of(request.sound, &inputs, &around).await?,
            urgency: request.urgency,
            share: settings.share(),
            held,
        };
        let job = Job {
            id: new_build_id(),
            drv_path: request.drv_path.clone(),
            drv,
            self_references: form,
            inputs: mapping,
            isolation,
            class,
            limits: self.house.settings.limits,
        };
        if run_asked {
            request.begin(Doing::Building).await;
            return self.check(request, asked, job, &known.paths, &valid).await;
        }
        let mut stored = self
            .house
            .stored_result(&key, asked.sharing)
            .await
            .map_err(failed)?;
        if stored.is_none() && other_key != key {
            let other = self.house.stored_result(&other_key, asked.sharing).await;
            // What does not refer to itself would come out the same.
            stored = other.map_err(failed)?.filter(|record| record.form().is_none());
        }
        if let Some(record) = stored {
            request.begin(Doing::Reusing).await;
            return self.succeed(request, &asked, Rung::Shared, &record).await;
        }
        if let Some(answer) = self.failed_before(request, &asked, &settings).await? {
            return Ok(answer);
        }
        request.begin(Doing::Building).await;
        self.wait_for_run(request, asked, &settings, job).await
    }

    /// The answer of an earlier failure of the same build, log and all.
    async fn failed_before(
        &self,
        request: &Request,
        asked: &Asked,
        settings: &Effective,
    ) -> Result<Option<Answer>, StoreError> {
        if !settings.reuse_build_failures {
            return Ok(None);
        }
        let Sharing { account, takes, .. } = asked.sharing;
        let found = self
            .house
            .db
            .failure(&asked.key, account, takes)
            .await
            .map_err(failed)?;
        let Some(FailureRecord { run, failure }) = found else {
            return Ok(None);
        };
        if matches!(failure, RunFailure::TimedOut(_)) && !settings.reuse_build_timeouts {
            return Ok(None);
        }
        // Without its log the failure would be a riddle: it is run again.
        let Ok(log) = log::reopen(&self.house.settings.log_dir, run.id) else {
            return Ok(None);
        };
        request.begin(Doing::Replaying).await;
        self.replay(request, &log).await;
        let setting = match failure {
            RunFailure::TimedOut(_) => "reuse-build-timeouts",
            _ => "reuse-build-failures",
        };
        let mut answer = failed_run(request, &run.drv_path, &failure);
        answer.rung = Some(Rung::Failed);
        answer.build = Some(run.id);
        answer.reason = format!(
            "{}; it failed before with the same inputs, nothing was run (to try again: {})",
            answer.reason,
            hint::set(setting, "false")
        );
        Ok(Some(answer))
    }

    async fn replay(&self, request: &Request, log: &Log) {
        let mut reader = log.reader();
        let mut lines = Lines::default();
        while let Ok(Some(chunk)) = reader.next().await {
            for line in lines.push(&chunk) {
                say(request, event(request.number, line)).await;
            }
        }
        if let Some(line) = lines.rest() {
            say(request, event(request.number, line)).await;
        }
    }

    /// Where the outputs are, as far as that is known before a build. Those that depend on what is not built yet were refused.
    async fn known(
        &self,
        drv: &BasicDerivation,
        floating: Option<&FloatingOutputs>,
    ) -> Result<Known, StoreError> {
        let told = match floating {
            Some(floating) => self.known_outputs(floating).await?,
            None => BTreeMap::new(),
        };
        let stated = drv.outputs.iter();
        let stated = stated.filter_map(|(name, output)| Some((name.clone(), output.path()?.clone())));
        let realised = told
            .iter()
            .map(|(name, output)| (name.clone(), output.out_path.clone()));
        let paths: BTreeMap<String, StorePath> = stated.chain(realised).collect();
        Ok(Known {
            all: paths.len() == drv.outputs.len(),
            paths,
            told,
        })
    }

    /// Whether the view has all of them, bytes and all. A lost content comes back when it is built again.
    pub(crate) fn has_all(&self, view: &View, paths: &[StorePath]) -> bool {
        let there = |choice: &Choice| self.house.content.contains(&choice.object().content);
        paths.iter().all(|path| view.get(path).is_some_and(there))
    }

    /// The settings that hold for one derivation.
    async fn settings_for(&self, request: &Request) -> Result<Result<Effective, String>, StoreError> {
        let settings = self.settings().await?;
        if !settings.settings_from_drv_env {
            return Ok(Ok(settings));
        }
        let variables = request.drv.env.iter().map(|(n, v)| (n.as_slice(), v.as_slice()));
        Ok(match Layer::from_environment(Level::Derivation, variables) {
            Ok(layer) => Ok(layered(settings, [&layer])),
            Err(e) => Err(format!(
                "cannot build '{}': in its environment: {e}",
                request.drv_path
            )),
        })
    }

    /// The answer of the rungs that run nothing: outputs of the view.
    async fn answer_from_view(
        &self,
        request: &Request,
        view: &View,
        outputs: &[StorePath],
        fetched: bool,
    ) -> Result<Answer, StoreError> {
        request.begin(doing(true, fetched)).await;
        let choices = || outputs.iter().filter_map(|path| view.get(path));
        let name = shown(&request.drv_path);
        let other = choices().find_map(|choice| match choice.candidate.why {
            Why::TrustedBuild(account) | Why::TrustedUpload(account) => Some(account),
            _ => None,
        });
        let cache = choices().find_map(|choice| choice.candidate.cache.clone());
        let (rung, reason) = match (fetched, cache, other) {
            (true, Some(cache), _) => (Rung::Substituted, format!("fetched {name} from {cache}")),
            (_, _, Some(other)) => {
                let accounts = self.house.db.accounts().await.map_err(failed)?;
                let other = accounts.into_iter().find(|a| a.id == other);
                let other = match other {
                    Some(other) => format!("account '{}', which you trust", other.name),
                    None => "an account that you trusted and that is removed".to_owned(),
                };
                (Rung::Trusted, format!("have {name} from {other}"))
            }
            _ => (
                Rung::AlreadyValid,
                format!("have {name}: its outputs are valid already"),
            ),
        };
        Ok(Answer {
            rung: Some(rung),
            reason,
            result: BuildResult::new(BuildStatus::AlreadyValid, ""),
            build: None,
        })
    }

    /// Joins the run of this key or starts it, passes its log on, and waits for its end.
    async fn wait_for_run(
        &self,
        request: &Request,
        asked: Asked,
        settings: &Effective,
        job: Job,
    ) -> Result<Answer, StoreError> {
        let ticket = self.house.ticket(&asked, &job).await;
        let mut job = Some(job);
        loop {
            let InRun {
                interest,
                joined,
                apart,
            } = self.join_or_lead(request, &asked, ticket, &mut job).await?;
            if settings.keep_builds_running {
                interest.keep_running();
            }
            let mut answer = match self.follow(request, &interest).await {
                Finished::Stored => {
                    // What was stored for whoever leads the run may be that account's own.
                    let stored = self.house.stored_result(&asked.key, asked.sharing).await;
                    match stored.map_err(failed)? {
                        Some(record) => return self.succeed(request, &asked, Rung::Shared, &record).await,
                        None if job.is_some() => continue,
                        None => return Ok(lost(request, &interest)),
                    }
                }
                Finished::Ran(record) => {
                    let rung = if joined { Rung::Joined } else { Rung::Built };
                    self.succeed(request, &asked, rung, &record).await?
                }
                Finished::Failed(failure, run) => {
                    let mut answer = failed_run(request, interest.drv_path(), &failure);
                    answer.build = run;
                    answer
                }
            };
            if let Some(mark) = apart.filter(|_| answer.build.is_some()) {
                answer.reason = format!("{}, {}", answer.reason, discard::apart(&mark, &asked.key));
            }
            return Ok(answer);
        }
    }

    /// A share in the run of this key. When it is new, the job is taken.
    async fn join_or_lead(
        &self,
        request: &Request,
        asked: &Asked,
        ticket: Ticket,
        job: &mut Option<Job>,
    ) -> Result<InRun, StoreError> {
        let account = asked.sharing.account;
        let fixed = job.as_ref().is_some_and(|job| run::is_fixed(&job.drv));
        let wanted = Wanted {
            key: asked.key,
            owner: asked.sharing.owner(),
            account,
            drv_path: &request.drv_path,
            open: !fixed,
        };
        loop {
            let looked = self.house.look_for_mark(&asked.key, account).await;
            let mut begun = None;
            let found = self
                .house
                .running
                .join_or_start(wanted, looked.map_err(failed)?, || {
                    let id = job.as_ref().map_or_else(new_build_id, |job| job.id);
                    let (write, read) = log::create(&self.house.settings.log_dir, id)?;
                    let place = self.house.queue.enter(ticket);
                    let number = place.number();
                    begun = Some((write, place));
                    Ok::<_, std::io::Error>((read, number))
                });
            let found = found
                .map_err(|e| StoreError::new(format!("internal error: cannot write a build log: {e}")))?;
            let Some((share, duty)) = found else { continue };
            if duty.is_none() {
                self.house.queue.claim(share.interest.place(), ticket);
            }
            if let (Some(duty), Some((log, place))) = (duty, begun)
                && let Some(job) = job.take()
            {
                let queued = Queued {
                    job,
                    ticket,
                    place,
                    log,
                };
                tokio::spawn(lead(Arc::clone(&self.house), asked.clone(), queued, duty));
            }
            return Ok(share);
        }
    }

    /// Passes the log on until the run has ended. The requester's own limits end its waiting, never the run.
    async fn follow(&self, request: &Request, interest: &Interest) -> Finished {
        let mut reader = interest.log();
        let mut lines = Lines::default();
        let mut patience = Patience::new(&request.drv_path, request.options);
        let mut waiting = Some(Waiting::new());
        loop {
            tokio::select! {
                () = interest.becomes(waiting.is_none()) => match waiting.take() {
                    None => {
                        patience.rest();
                        waiting = Some(Waiting::new());
                    }
                    Some(told) => {
                        patience.begin();
                        self.ended_waiting(request, told).await;
                    }
                },
                () = Waiting::pause(waiting.as_ref()) => {
                    let wait = self.house.queue.wait(interest.place());
                    if let Some(text) = waiting.as_mut().and_then(|waiting| waiting.tell(wait)) {
                        let id = request.number;
                        say(request, LogEvent::Waiting { id, text }).await;
                    }
                }
                chunk = reader.next() => match chunk {
                    Ok(Some(chunk)) => {
                        for line in lines.push(&chunk) {
                            say(request, event(request.number, line)).await;
                        }
                        if let Err(failure) = patience.heard(chunk.len()) {
                            return Finished::Failed(failure, None);
                        }
                    }
                    Ok(None) => break,
                    Err(e) => {
                        tracing::warn!(error = %e, "cannot read a build log");
                        break;
                    }
                },
                failure = patience.end() => return Finished::Failed(failure, None),
            }
        }
        if let Some(line) = lines.rest() {
            say(request, event(request.number, line)).await;
        }
        if let Some(told) = waiting {
            self.ended_waiting(request, told).await;
        }
        interest.finished().await
    }

    async fn ended_waiting(&self, request: &Request, waiting: Waiting) {
        if waiting.was_told() {
            let id = request.number;
            say(request, LogEvent::WaitingEnded { id }).await;
        }
    }

    /// The outputs of a result become valid in this account's view, durably.
    async fn succeed(
        &self,
        request: &Request,
        asked: &Asked,
        rung: Rung,
        record: &BuildRecord,
    ) -> Result<Answer, StoreError> {
        self.note_ground(record, &request.drv_path, asked.ground).await;
        let outputs = record.outputs.values();
        self.keep_built(outputs.map(|output| (&output.object, Some(request.drv_path.clone()))))
            .await?;
        let told = match &asked.floating {
            Some(floating) => self.record_outputs(floating, record).await?,
            None => BTreeMap::new(),
        };
        let name = shown(&request.drv_path);
        let reason = match rung {
            Rung::Built => format!(
                "built {name} in {:.1} s",
                Duration::from_millis(record.run.wall_ms).as_secs_f64()
            ),
            Rung::Joined => format!("joined {name}: the same build was running"),
            _ => {
                format!("reused {name}: same derivation and same inputs")
            }
        };
        let mut result = BuildResult::new(BuildStatus::Built, "");
        result.built_outputs = told;
        result.times_built = 1;
        result.start_time = record.run.started;
        result.stop_time = record.run.stopped;
        result.cpu_user = Some(record.run.cpu_user_us);
        result.cpu_system = Some(record.run.cpu_system_us);
        Ok(Answer {
            rung: Some(rung),
            reason,
            result,
            build: Some(record.run.id),
        })
    }

    /// `--check`: runs in any case, and compares with what the view has.
    async fn check(
        &self,
        request: &Request,
        asked: Asked,
        job: Job,
        known: &BTreeMap<String, StorePath>,
        valid: &View,
    ) -> Result<Answer, StoreError> {
        let ticket = self.house.ticket(&asked, &job).await;
        let (log, read) = log::create(&self.house.settings.log_dir, job.id)
            .map_err(|e| StoreError::new(format!("internal error: cannot write a build log: {e}")))?;
        let place = self.house.queue.enter(ticket);
        let started = (read, place.number());
        let wanted = Wanted {
            key: asked.key,
            owner: Some(self.account.id),
            account: self.account.id,
            drv_path: &request.drv_path,
            open: false,
        };
        let (interest, duty) = self.house.running.start_alone(wanted, started);
        // What a check gives answers nobody else.
        let alone = Asked {
            ground: None,
            ..asked.clone()
        };
        let queued = Queued {
            job,
            ticket,
            place,
            log,
        };
        tokio::spawn(lead_check(Arc::clone(&self.house), asked, queued, duty));
        let record = match self.follow(request, &interest).await {
            Finished::Ran(record) => record,
            Finished::Stored => return Ok(lost(request, &interest)),
            Finished::Failed(failure, _) => {
                return Ok(failed_run(request, interest.drv_path(), &failure));
            }
        };
        let before = |name: &String| known.get(name).and_then(|path| valid.get(path));
        let differing = record
            .outputs
            .iter()
            .find(|(name, output)| before(name).is_some_and(|c| c.object().content != output.object.content));
        match differing {
            None => self.succeed(request, &alone, Rung::Built, &record).await,
            Some((name, output)) => {
                let before = before(name).map(|c| c.object().content);
                let places = match before {
                    Some(before) => self.house.places(before, output.object.content).await,
                    None => String::new(),
                };
                let text = format!(
                    "derivation '{}' may not be deterministic: output '{}' differs{places}",
                    request.drv_path, output.object.path
                );
                Ok(Answer {
                    rung: None,
                    reason: text.clone(),
                    result: BuildResult::new(BuildStatus::NotDeterministic, text),
                    build: Some(record.run.id),
                })
            }
        }
    }
}

/// The client's limits, or where it names none those of the settings.
fn with_settings(options: BuildOptions, settings: &Effective) -> BuildOptions {
    let first = |named: Option<u64>, set| named.filter(|&limit| limit > 0).or(set);
    BuildOptions {
        max_silent_time: first(options.max_silent_time, settings.max_silent_time),
        timeout: first(options.timeout, settings.timeout),
        max_log_size: first(options.max_log_size, settings.max_build_log_size),
    }
}

fn doing(from_view: bool, fetched: bool) -> Doing {
    match (from_view, fetched) {
        (true, true) => Doing::Fetching,
        (true, false) => Doing::Having,
        (false, _) => Doing::Building,
    }
}

/// Events go to a client that may be gone; then the session drops the request anyway.
async fn say(request: &Request, event: LogEvent) {
    let _ = request.log.send(event).await;
}

/// A line of the service's own in a build's log.
async fn say_line(request: &Request, line: &str) {
    let line = format!("firn: {line}").into_bytes();
    let id = request.number;
    say(request, LogEvent::BuildLine { id, line }).await;
}

/// What is recorded of a request: how it was answered, and why no cache did.
fn with_caches(reason: String, unfetched: Option<String>) -> String {
    match unfetched {
        Some(why) => {
            let why: String = why.replace('\n', " ").chars().take(MAX_WHY).collect();
            format!("{reason}; not fetched: {why}")
        }
        None => reason,
    }
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

/// `named`: how whoever started the run names the derivation.
fn failed_run(request: &Request, named: &StorePath, failure: &RunFailure) -> Answer {
    let status = match failure {
        RunFailure::Builder(_) => BuildStatus::PermanentFailure,
        RunFailure::OutputRejected(_) => BuildStatus::OutputRejected,
        RunFailure::InputRejected(_) => BuildStatus::InputRejected,
        RunFailure::TimedOut(_) => BuildStatus::TimedOut,
        RunFailure::LogLimit(_) => BuildStatus::LogLimitExceeded,
        RunFailure::Cancelled => BuildStatus::MiscFailure,
        RunFailure::Exhausted(_) | RunFailure::Infrastructure(_) => BuildStatus::TransientFailure,
    };
    // Whoever started the run may name the derivation in another way; that is not for others to see.
    let names = [named, &request.drv_path].map(ToString::to_string);
    let text = failure.to_string().replace(&names[0], &names[1]);
    let reason = format!("failed {}: {}", shown(&request.drv_path), one_line(&text));
    Answer {
        rung: None,
        reason,
        result: BuildResult::new(status, text),
        build: None,
    }
}

/// The result was there and is gone again.
fn lost(request: &Request, interest: &Interest) -> Answer {
    let failure = RunFailure::Infrastructure("the result of the build was lost; try again".into());
    failed_run(request, interest.drv_path(), &failure)
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
