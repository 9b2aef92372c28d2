//! A builder that does what a derivation's arguments say.
//!
//! `log:<text>` writes to the log; `wait` waits at the gate and gives up when cancelled; `stubborn` waits at the gate even then, and
//! then gives up; `nap` takes a millisecond; `deaf` waits at the gate and never hears a cancellation; `random` makes the outputs differ from every other run's;
//! `close-log` closes the log; `fail:<text>`, `break:<text>` and `panic` end the run, `fail-first:<text>`, `fail-second:<text>` and
//! `break-first:<text>`, `panic-first`, `exhausted-first` and `log-limit-first` only the first or second one of all. `peak:<bytes>` and `wall:<ms>` are what the run says it used; `starve`,
//! `starve-first` (the first try of each build) and `starve-below:<bytes>` (of its limit) end it for lack of memory. Without these, outputs are made of what the
//! sandbox shows: arguments, environment, and inputs with their contents. They refer to the paths in the variable `references`.
//! The variable `content` says what is in them instead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use firn_content::{ContentStore, IngestOptions};
use firn_core::Object;
use firn_nix::{ContentAddress, DerivationOutput, Hash, NarHash, StorePath, output_path_name};
use firn_service::ports::{Builder, Job, Outcome, RunFailure, RunReport, Scarce};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::objects::{ITSELF, nar_of_file, self_referring};

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub started: usize,
    /// Times that a run came to the gate.
    pub waiting: usize,
    /// Times that a cancellation was heard.
    pub cancelled: usize,
    pub ended: usize,
}

/// Clones are the same builder.
#[derive(Clone)]
pub struct StubBuilder {
    content: ContentStore,
    shared: Arc<Shared>,
}

struct Shared {
    gate: Semaphore,
    counts: watch::Sender<Counts>,
    jobs: Mutex<Vec<Job>>,
    random: AtomicU64,
    lineage: Mutex<Arc<Mutex<Lineage>>>,
}

/// What contents were made of, without what a run added by chance: by content, a digest.
pub type Lineage = BTreeMap<NarHash, String>;

impl StubBuilder {
    pub fn new(content: ContentStore) -> Self {
        let shared = Shared {
            gate: Semaphore::new(0),
            counts: watch::Sender::default(),
            jobs: Mutex::default(),
            random: AtomicU64::new(0),
            lineage: Mutex::default(),
        };
        Self {
            content,
            shared: Arc::new(shared),
        }
    }

    /// Lets that many waiting steps go on.
    pub fn release(&self, steps: usize) {
        self.shared.gate.add_permits(steps);
    }

    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    /// Returns when it holds.
    pub async fn until(&self, holds: impl FnMut(&Counts) -> bool) {
        let mut counts = self.shared.counts.subscribe();
        super::soon(counts.wait_for(holds)).await.unwrap();
    }

    /// The jobs so far.
    pub fn jobs(&self) -> Vec<Job> {
        self.shared.jobs.lock().unwrap().clone()
    }

    /// Of everything that was built so far.
    pub fn lineage(&self) -> Arc<Mutex<Lineage>> {
        Arc::clone(&self.shared.lineage.lock().unwrap())
    }

    /// From now on one lineage with another builder.
    pub fn share_lineage(&self, other: &Self) {
        *self.shared.lineage.lock().unwrap() = other.lineage();
    }

    fn note_lineage(&self, job: &Job, output: &str, content: NarHash) {
        let lineage = self.lineage();
        let mut lineage = lineage.lock().unwrap();
        let of = |content: &NarHash| lineage.get(content).cloned().unwrap_or_else(|| content.hex());
        let inputs: Vec<(String, String)> = job
            .inputs
            .objects()
            .map(|o| (o.path.to_string(), of(&o.content)))
            .collect();
        let digest = made_of(output, &job.drv.args, inputs);
        lineage.insert(content, digest);
    }

    /// How often a build was run so far.
    fn tries(&self, job: &Job) -> usize {
        self.jobs().iter().filter(|other| other.id == job.id).count()
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.shared.counts.send_modify(change);
    }

    async fn pass_the_gate(&self) {
        self.count(|c| c.waiting += 1);
        self.shared.gate.acquire().await.unwrap().forget();
    }

    async fn build(
        &self,
        job: &Job,
        log: mpsc::Sender<Bytes>,
        cancel: &CancellationToken,
        report: &mut RunReport,
    ) -> Result<BTreeMap<String, Object>, RunFailure> {
        let mut log = Some(log);
        let mut salt = 0;
        for arg in &job.drv.args {
            let step = std::str::from_utf8(arg).unwrap();
            let (verb, text) = step.split_once(':').unwrap_or((step, ""));
            match verb {
                "log" => {
                    if let Some(log) = &log {
                        let _ = log.send(Bytes::from(text.to_owned())).await;
                    }
                }
                "wait" => tokio::select! {
                    () = self.pass_the_gate() => {}
                    () = cancel.cancelled() => {
                        self.count(|c| c.cancelled += 1);
                        return Err(RunFailure::Cancelled);
                    }
                },
                "stubborn" => tokio::select! {
                    () = self.pass_the_gate() => {}
                    () = cancel.cancelled() => {
                        self.count(|c| c.cancelled += 1);
                        self.pass_the_gate().await;
                        return Err(RunFailure::Cancelled);
                    }
                },
                "deaf" => self.pass_the_gate().await,
                "nap" => tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(1)) => {}
                    () = cancel.cancelled() => {
                        self.count(|c| c.cancelled += 1);
                        return Err(RunFailure::Cancelled);
                    }
                },
                "random" => salt = 1 + self.shared.random.fetch_add(1, Ordering::Relaxed),
                "close-log" => log = None,
                "fail" => {
                    return Err(RunFailure::Builder(format!(
                        "builder for '{}' failed: {text}",
                        job.drv_path
                    )));
                }
                "fail-first" | "break-first" | "panic-first" | "exhausted-first" | "log-limit-first"
                    if self.counts().started != 1 => {}
                "fail-second" if self.counts().started != 2 => {}
                "fail-first" | "fail-second" => return Err(RunFailure::Builder(text.to_owned())),
                "break-first" => return Err(RunFailure::Infrastructure(text.to_owned())),
                "break" => return Err(RunFailure::Infrastructure(text.to_owned())),
                "peak" => report.memory_peak = Some(text.parse().unwrap()),
                "wall" => report.wall_ms = text.parse().unwrap(),
                "starve-first" if self.tries(job) != 1 => {}
                "starve-below"
                    if job
                        .limits
                        .memory_bytes
                        .is_none_or(|limit| limit >= text.parse().unwrap()) => {}
                "starve" | "starve-first" | "starve-below" => {
                    report.short_of_memory = true;
                    return Err(RunFailure::Exhausted("ran out of memory".to_owned()));
                }
                "panic" | "panic-first" => panic!("as the derivation says"),
                "exhausted-first" => return Err(RunFailure::Exhausted("out of memory".to_owned())),
                "log-limit-first" => return Err(RunFailure::LogLimit("too much log".to_owned())),
                "short-first" if self.tries(job) != 1 => {}
                "short" | "short-first" => report.shortage = Some(Scarce::DiskSpace),
                "beside" => report.beside = true,
                "time-out" => return Err(RunFailure::TimedOut("timed out".to_owned())),
                other => panic!("unknown step {other}"),
            }
        }
        let mut outputs = BTreeMap::new();
        for (name, output) in &job.drv.outputs {
            outputs.insert(name.clone(), self.output(job, name, output, salt).await?);
        }
        Ok(outputs)
    }

    async fn output(
        &self,
        job: &Job,
        name: &str,
        output: &DerivationOutput,
        salt: u64,
    ) -> Result<Object, RunFailure> {
        let drv_name = job.drv_path.derivation_name().unwrap();
        let known_path = output.known_path(drv_name, name).unwrap();
        let references: BTreeSet<StorePath> = job
            .drv
            .env
            .get(&b"references"[..])
            .map_or(&[][..], |paths| paths)
            .split(|b| *b == b' ')
            .filter(|path| !path.is_empty())
            .map(|path| StorePath::parse(path).unwrap())
            .collect();
        let known =
            |p: &StorePath| known_path.as_ref() == Some(p) || job.inputs.objects().any(|o| o.path == *p);
        assert!(references.iter().all(known), "a reference that is no input");
        let mut ca = match output {
            DerivationOutput::Fixed { ca, .. } => Some(*ca),
            _ => None,
        };
        let text = match (ca, job.drv.env.get(&b"content"[..])) {
            // What the test that asks for it hashed.
            (Some(_), _) => super::FIXED.to_owned(),
            (None, Some(content)) => String::from_utf8(content.clone()).unwrap(),
            (None, None) => seen_by_sandbox(job, name, salt),
        };
        let own = text.contains(ITSELF).then(|| {
            let name = output_path_name(drv_name, name).unwrap();
            self_referring(&name, &text, job.self_references)
        });
        let nar = own
            .as_ref()
            .map_or_else(|| nar_of_file(&text), |own| own.nar.clone());
        let options = IngestOptions {
            expected_size: None,
            expected_hash: None,
            max_size: 1 << 20,
        };
        let staged = self.content.ingest(&mut &nar[..], options, None).await.unwrap();
        let (content, nar_size) = (staged.hash(), staged.size());
        self.content.publish([staged]).await.unwrap();
        if let Some(own) = own {
            return Ok(Object {
                path: own.info.path,
                content,
                nar_size,
                references: own.info.references,
                ca: own.info.ca,
                self_references: Some(job.self_references),
            });
        }
        if let DerivationOutput::Floating { method, .. } = *output {
            let hash = content.to_hash();
            ca = Some(ContentAddress { method, hash });
        }
        let path = known_path.unwrap_or_else(|| {
            let name = output_path_name(drv_name, name).unwrap();
            StorePath::make_content_addressed(&name, &ca.unwrap(), &references, false).unwrap()
        });
        if ca.is_none() {
            self.note_lineage(job, name, content);
        }
        Ok(Object {
            path,
            content,
            nar_size,
            references,
            ca,
            self_references: None,
        })
    }
}

/// What the lineage of an output begins with that two runs need not agree about.
pub const CHANCE: &str = "chance-";

/// A digest of what an output is made of, in which chance is left out: arguments, and inputs with what they are made of.
pub fn made_of(output: &str, args: &[Vec<u8>], inputs: Vec<(String, String)>) -> String {
    let made_of = format!("{output} {args:?} {inputs:?}");
    let chance =
        args.iter().any(|arg| arg == b"random") || inputs.iter().any(|(_, of)| of.starts_with(CHANCE));
    let kind = if chance { CHANCE } else { "built-" };
    format!("{kind}{}", &Hash::sha256(made_of.as_bytes()).hex()[..16])
}

/// A digest of all that a sandbox shows of a job.
fn seen_by_sandbox(job: &Job, output: &str, salt: u64) -> String {
    let drv = &job.drv;
    let seen = format!(
        "{output} {:?} {:?} {:?} {:?} {:?} {:?} {salt}",
        drv.outputs, drv.builder, drv.args, drv.env, job.inputs, job.class
    );
    format!("{} {salt}", Hash::sha256(seen.as_bytes()).hex())
}

impl Builder for StubBuilder {
    async fn run(&self, job: Job, log: mpsc::Sender<Bytes>, cancel: CancellationToken) -> Outcome {
        self.shared.jobs.lock().unwrap().push(job.clone());
        self.count(|c| c.started += 1);
        let mut report = RunReport {
            wall_ms: 1500,
            cpu_user_us: 7,
            cpu_system_us: 8,
            ..RunReport::default()
        };
        let result = self.build(&job, log, &cancel, &mut report).await;
        self.count(|c| c.ended += 1);
        Outcome { result, report }
    }
}
