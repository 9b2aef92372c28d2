//! The talk with the guest over any stream of bytes, with a deadline for everything.

use std::time::Duration;

use bytes::Bytes;
use firn_sandbox::{Exit, ExitKind, Limits};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Collected, OutputSink};
use crate::conversation::{Bounds, Broken, Conversation, Step};
use crate::error::VmError;
use crate::job::Job;
use crate::record::{Decoder, Report};

/// Longest time for the guest to take its job.
const TAKE_JOB: Duration = Duration::from_secs(120);
/// What the guest gets beyond the limits of the command, which it enforces itself: to set up the sandbox, to kill it, to tell.
const GRACE: Duration = Duration::from_secs(90);
/// Longest time between two pieces of outputs: a large directory is read before its first name is sent.
const PAUSE: Duration = Duration::from_secs(300);
/// Waiting for outputs may take this long, and as long as they take at [`SLOWEST`].
const COLLECT: Duration = Duration::from_secs(600);
/// Bytes per second.
const SLOWEST: u64 = 256 << 10;
/// No deadline.
const AGES: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const CHUNK: usize = 64 << 10;

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) exit: Exit,
    pub(super) outputs: Collected,
    pub(super) oom_kills: u64,
    pub(super) refused_processes: u64,
    pub(super) disk_free: Option<u64>,
}

impl Ended {
    /// Stopped from here.
    pub(super) fn stopped(status: ExitKind) -> Self {
        Self {
            exit: Exit {
                status,
                user: Duration::ZERO,
                system: Duration::ZERO,
                max_rss_bytes: 0,
                wall: Duration::ZERO,
                log_bytes: 0,
            },
            outputs: Collected::NotBuilt,
            oom_kills: 0,
            refused_processes: 0,
            disk_free: None,
        }
    }
}

/// One talk.
pub(super) struct Talk<'a, T, S> {
    port: T,
    decoder: Decoder,
    conversation: Conversation,
    limits: Limits,
    log: &'a mpsc::Sender<Bytes>,
    sink: &'a mut S,
    output: usize,
}

impl<'a, T: AsyncRead + AsyncWrite + Unpin, S: OutputSink> Talk<'a, T, S> {
    pub(super) fn new(port: T, job: &Job, log: &'a mpsc::Sender<Bytes>, sink: &'a mut S) -> Self {
        let limits = job.sandbox.limits.clone();
        let bounds = Bounds {
            outputs: job.outputs.len(),
            log_bytes: limits.log_bytes.unwrap_or(u64::MAX),
            nar_bytes: job.nar_bytes,
        };
        Self {
            port,
            decoder: Decoder::default(),
            conversation: Conversation::new(bounds),
            limits,
            log,
            sink,
            output: 0,
        }
    }

    /// Waits until the guest is up.
    pub(super) async fn ready(&mut self) -> Result<(), VmError> {
        match self.step(Instant::now() + AGES).await? {
            Some(Step::Ready) => Ok(()),
            _ => Err(VmError::Stalled("it did not come up")),
        }
    }

    /// Hands it the job, and takes what comes of it.
    pub(super) async fn work(mut self, job: &[u8]) -> Result<Ended, VmError> {
        let give = async {
            self.port.write_all(job).await?;
            self.port.flush().await
        };
        timeout(TAKE_JOB, give)
            .await
            .map_err(|_| VmError::Stalled("it did not take its job"))?
            .map_err(VmError::Port)?;
        self.conversation.job_sent();
        let began = Instant::now();
        match self.command(began).await? {
            Ok(report) => {
                let outputs = self.outputs(report.exit.success()).await?;
                Ok(Ended {
                    exit: report.exit,
                    outputs,
                    oom_kills: report.oom_kills,
                    refused_processes: report.refused_processes,
                    disk_free: Some(report.disk_free),
                })
            }
            Err(status) => {
                let mut ended = Ended::stopped(status);
                ended.exit.wall = began.elapsed();
                ended.exit.log_bytes = self.conversation.log_bytes();
                Ok(ended)
            }
        }
    }

    /// Until the command has ended, as the guest says, or has to be ended.
    async fn command(&mut self, began: Instant) -> Result<Result<Report, ExitKind>, VmError> {
        let after = |from: Instant, limit: Option<Duration>| {
            let limit = limit.map_or(AGES, |limit| limit.saturating_add(GRACE).min(AGES));
            from + limit
        };
        let wall = after(began, self.limits.wall);
        let mut heard = began;
        loop {
            let silent = after(heard, self.limits.silent);
            let step = match self.step(wall.min(silent)).await? {
                Some(step) if Instant::now() < wall => step,
                _ if silent < wall => return Ok(Err(ExitKind::SilentTimedOut)),
                _ => return Ok(Err(ExitKind::TimedOut)),
            };
            let (bytes, last) = match step {
                Step::Log(bytes) => (bytes, false),
                Step::LogLimit(bytes) => (bytes, true),
                Step::Exited(report) => return Ok(Ok(report)),
                _ => return Err(unexpected()),
            };
            if !bytes.is_empty() {
                // Without a receiver the output is forgotten, so that the command can go on.
                let sent = timeout_at(wall, self.log.send(bytes)).await;
                if sent.is_err() {
                    return Ok(Err(ExitKind::TimedOut));
                }
            }
            if last {
                return Ok(Err(ExitKind::LogLimit));
            }
            heard = Instant::now();
        }
    }

    async fn outputs(&mut self, success: bool) -> Result<Collected, VmError> {
        let mut collected = if success {
            Collected::All
        } else {
            Collected::NotBuilt
        };
        let mut waited = Duration::ZERO;
        let mut received = 0u64;
        loop {
            let allowed = COLLECT + Duration::from_secs(received / SLOWEST);
            let left = allowed.saturating_sub(waited).min(PAUSE);
            let since = Instant::now();
            let Some(step) = self.step(since + left).await? else {
                return Err(VmError::Stalled("its outputs do not come"));
            };
            // Only the guest's time counts, not the sink's.
            waited += since.elapsed();
            let sunk = match step {
                // Nothing will be kept.
                Step::Begin(_) | Step::End if matches!(collected, Collected::Rejected(_)) => Ok(()),
                Step::Data(bytes) if matches!(collected, Collected::Rejected(_)) => {
                    received = received.saturating_add(bytes.len() as u64);
                    Ok(())
                }
                Step::Begin(output) => {
                    self.output = output;
                    self.sink.begin(output).await
                }
                Step::Data(bytes) => {
                    received = received.saturating_add(bytes.len() as u64);
                    self.sink.data(bytes).await
                }
                Step::End => self.sink.end().await,
                Step::Missing(output) => {
                    match &mut collected {
                        Collected::Missing(all) => all.push(output),
                        other => *other = Collected::Missing(vec![output]),
                    }
                    Ok(())
                }
                Step::Rejected(output, error) => {
                    match &mut collected {
                        Collected::Rejected(all) => all.push((output, error)),
                        other => *other = Collected::Rejected(vec![(output, error)]),
                    }
                    Ok(())
                }
                Step::TooLarge => return Ok(Collected::TooLarge),
                Step::Done => return Ok(collected),
                _ => return Err(unexpected()),
            };
            sunk.map_err(|source| VmError::Sink {
                output: self.output,
                source,
            })?;
        }
    }

    /// The next thing the guest says; `None` at the deadline.
    async fn step(&mut self, until: Instant) -> Result<Option<Step>, VmError> {
        loop {
            if let Some(record) = self.decoder.next()? {
                return Ok(Some(self.conversation.take(record)?));
            }
            let room = self.decoder.room();
            room.reserve(CHUNK);
            match timeout_at(until, self.port.read_buf(room)).await {
                Err(_) => return Ok(None),
                Ok(Ok(0)) => return Err(VmError::Port(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(Ok(_)) => {}
                Ok(Err(source)) => return Err(VmError::Port(source)),
            }
        }
    }
}

/// The conversation does not let these through; said anyway, because nothing is to rest on that here.
fn unexpected() -> VmError {
    VmError::Guest(Broken::Order {
        said: "something".to_owned(),
        at: "where it makes no sense",
    })
}
