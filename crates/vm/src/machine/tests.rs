//! Guests that lie, stall, flood and hang up, without a machine: the other end of the stream is the test.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use firn_content::{WalkError, WalkProblem};
use firn_sandbox::{Exit, ExitKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::talk::{Ended, Talk};
use super::{Collected, OutputSink};
use crate::error::{SinkError, VmError};
use crate::job::Job;
use crate::record::{GuestRecord, HEAD, MAX_BODY, Pieces, Report, VERSION};

#[derive(Default)]
struct Sink {
    outputs: Vec<Vec<u8>>,
    ended: usize,
    fails: bool,
}

impl OutputSink for Sink {
    async fn begin(&mut self, output: usize) -> Result<(), SinkError> {
        assert_eq!(output, self.outputs.len());
        self.outputs.push(Vec::new());
        Ok(())
    }

    async fn data(&mut self, bytes: Bytes) -> Result<(), SinkError> {
        if self.fails {
            return Err("no room".into());
        }
        self.outputs.last_mut().unwrap().extend(bytes);
        Ok(())
    }

    async fn end(&mut self) -> Result<(), SinkError> {
        self.ended += 1;
        Ok(())
    }
}

fn job() -> Job {
    let mut job = crate::job::tests::job();
    job.sandbox.limits.log_bytes = Some(1000);
    job.sandbox.limits.wall = Some(Duration::from_secs(60));
    job
}

fn report(status: ExitKind) -> GuestRecord {
    GuestRecord::Exit(Report {
        exit: Exit {
            status,
            user: Duration::from_micros(1),
            system: Duration::from_micros(2),
            max_rss_bytes: 3,
            wall: Duration::from_micros(4),
            log_bytes: 999_999,
        },
        oom_kills: 5,
        refused_processes: 7,
        disk_free: 6,
    })
}

fn exited() -> GuestRecord {
    report(ExitKind::Exited(0))
}

const READY: GuestRecord = GuestRecord::Ready { version: VERSION };

fn nar(length: usize) -> GuestRecord {
    GuestRecord::Nar(Bytes::from(vec![b'n'; length]))
}

fn log(length: usize) -> GuestRecord {
    GuestRecord::Log(Bytes::from(vec![b'l'; length]))
}

/// A guest that is ready, takes its job, and then does as it is told.
struct Guest(DuplexStream);

impl Guest {
    async fn say(&mut self, record: &GuestRecord) {
        // The host may have hung up.
        let _ = self.0.write_all(&record.encode()).await;
    }

    async fn up(&mut self) {
        self.say(&READY).await;
        let mut head = [0; HEAD];
        self.0.read_exact(&mut head).await.unwrap();
        let mut body = vec![0; Job::length(head).unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        assert_eq!(Job::decode(&body), Ok(job()));
    }
}

struct Seen {
    ended: Result<Ended, VmError>,
    log: usize,
    sink: Sink,
    after: Duration,
}

async fn talk<F: Future<Output = ()>>(job: Job, sink: Sink, guest: impl FnOnce(Guest) -> F) -> Seen {
    let (ours, theirs) = duplex(16 << 10);
    let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
    let mut sink = sink;
    let began = Instant::now();
    let (task, into) = (&job, &mut sink);
    // The log ends with the talk.
    let host = async move {
        let record = task.encode().unwrap();
        let mut talk = Talk::new(ours, task, &sender, into);
        let ended = match talk.ready().await {
            Ok(()) => talk.work(&record).await,
            Err(error) => Err(error),
        };
        (ended, began.elapsed())
    };
    let read = async {
        let mut log = 0;
        while let Some(chunk) = receiver.recv().await {
            log += chunk.len();
        }
        log
    };
    let ((ended, after), log, ()) = tokio::join!(host, read, guest(Guest(theirs)));
    Seen {
        ended,
        log,
        sink,
        after,
    }
}

/// A guest that says these one after the other once it has its job, and then nothing.
async fn says(records: &[GuestRecord]) -> Seen {
    talk(job(), Sink::default(), |mut guest| async move {
        guest.up().await;
        for record in records {
            guest.say(record).await;
        }
        // Held open until the host has had enough.
        let _ = guest.0.read(&mut [0]).await;
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_honest_guest_is_understood() {
    let seen = says(&[
        log(3),
        log(4),
        exited(),
        GuestRecord::Output(0),
        nar(10),
        nar(20),
        GuestRecord::End,
        GuestRecord::Output(1),
        nar(1),
        GuestRecord::End,
        GuestRecord::Done,
    ])
    .await;
    let ended = seen.ended.unwrap();
    assert_eq!(ended.outputs, Collected::All);
    // What was counted here, not what the guest says.
    assert_eq!((ended.exit.log_bytes, seen.log), (7, 7));
    assert_eq!((ended.oom_kills, ended.refused_processes), (5, 7));
    assert_eq!(ended.disk_free, Some(6));
    let sizes: Vec<_> = seen.sink.outputs.iter().map(Vec::len).collect();
    assert_eq!((sizes, seen.sink.ended), (vec![30, 1], 2));
}

#[tokio::test(start_paused = true)]
async fn failures_have_no_outputs() {
    let seen = says(&[report(ExitKind::Exited(7)), GuestRecord::Done]).await;
    let ended = seen.ended.unwrap();
    assert_eq!(
        (ended.exit.status, ended.outputs),
        (ExitKind::Exited(7), Collected::NotBuilt)
    );
    let seen = says(&[exited(), GuestRecord::Missing(1), GuestRecord::Done]).await;
    assert_eq!(seen.ended.unwrap().outputs, Collected::Missing(vec![1]));
    let error = WalkError {
        path: b"a/b".to_vec(),
        problem: WalkProblem::FileType("socket"),
    };
    let rejected = GuestRecord::Rejected(0, error.clone());
    let seen = says(&[
        exited(),
        GuestRecord::Output(0),
        nar(5),
        rejected,
        GuestRecord::Output(1),
        nar(6),
        GuestRecord::End,
        GuestRecord::Done,
    ])
    .await;
    let refused = Collected::Rejected(vec![(0, error.clone())]);
    assert_eq!(seen.ended.unwrap().outputs, refused);
    // What comes after it is not kept.
    assert_eq!((seen.sink.ended, seen.sink.outputs), (0, vec![vec![b'n'; 5]]));
    let each = |output| GuestRecord::Rejected(output, error.clone());
    let seen = says(&[
        exited(),
        each(0),
        GuestRecord::Output(1),
        each(1),
        GuestRecord::Done,
    ])
    .await;
    let refused = Collected::Rejected(vec![(0, error.clone()), (1, error.clone())]);
    assert_eq!(seen.ended.unwrap().outputs, refused);
    let seen = says(&[GuestRecord::Failed("no disk".to_owned())]).await;
    assert!(seen.ended.unwrap_err().to_string().contains("no disk"));
}

#[tokio::test(start_paused = true)]
async fn no_more_log_is_taken_than_allowed() {
    let seen = says(&[log(600), log(600), log(600)]).await;
    let ended = seen.ended.unwrap();
    assert_eq!(
        (ended.exit.status, ended.exit.log_bytes, seen.log),
        (ExitKind::LogLimit, 1000, 1000)
    );
    let seen = says(&[log(1000), exited(), GuestRecord::Missing(0), GuestRecord::Done]).await;
    assert_eq!(
        (seen.ended.unwrap().exit.status, seen.log),
        (ExitKind::Exited(0), 1000)
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_of_outputs_is_taken_than_allowed() {
    let seen = says(&[
        exited(),
        GuestRecord::Output(0),
        nar(9000),
        GuestRecord::End,
        GuestRecord::Output(1),
        nar(2000),
    ])
    .await;
    assert_eq!(seen.ended.unwrap().outputs, Collected::TooLarge);
    assert_eq!(seen.sink.outputs.iter().map(Vec::len).sum::<usize>(), 9000);
}

#[tokio::test(start_paused = true)]
async fn what_comes_at_the_wrong_time_ends_the_talk() {
    let end = GuestRecord::End;
    let done = GuestRecord::Done;
    let output = GuestRecord::Output;
    let missing = GuestRecord::Missing;
    let rejected = |output| {
        let error = WalkError {
            path: Vec::new(),
            problem: WalkProblem::Name,
        };
        GuestRecord::Rejected(output, error)
    };
    let wrong: &[&[GuestRecord]] = &[
        &[READY],
        std::slice::from_ref(&done),
        &[nar(1)],
        &[output(0)],
        &[report(ExitKind::Cancelled)],
        &[exited(), log(1)],
        &[exited(), exited()],
        &[exited(), done.clone()],
        &[exited(), nar(1)],
        &[exited(), output(1)],
        &[exited(), output(0), output(0)],
        &[exited(), output(0), done.clone()],
        &[exited(), output(0), end.clone(), end.clone()],
        &[exited(), output(0), end.clone(), done.clone()],
        &[exited(), output(0), end.clone(), missing(1)],
        &[
            exited(),
            output(0),
            end.clone(),
            output(1),
            end.clone(),
            output(2),
        ],
        &[exited(), missing(2)],
        &[exited(), rejected(1)],
        &[exited(), rejected(0), rejected(0)],
        &[exited(), rejected(0), missing(1)],
        &[exited(), rejected(0), done.clone()],
        &[exited(), rejected(0), rejected(1), rejected(2)],
        &[exited(), rejected(0), nar(1)],
        &[exited(), missing(0), missing(0)],
        &[exited(), missing(1), missing(0)],
        &[exited(), missing(0), output(1)],
        &[report(ExitKind::Exited(1)), output(0)],
        &[report(ExitKind::Exited(1)), missing(0)],
    ];
    for records in wrong {
        let seen = says(records).await;
        assert!(
            matches!(seen.ended, Err(VmError::Guest(_))),
            "{records:?} {:?}",
            seen.ended
        );
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_counts_before_the_guest_is_ready() {
    for first in [
        log(1),
        exited(),
        GuestRecord::Done,
        GuestRecord::Ready { version: VERSION + 1 },
    ] {
        let seen = talk(job(), Sink::default(), |mut guest| async move {
            guest.say(&first).await;
            let _ = guest.0.read(&mut [0]).await;
        })
        .await;
        assert!(matches!(seen.ended, Err(VmError::Guest(_))), "{:?}", seen.ended);
    }
    // Before it has its job.
    let seen = talk(job(), Sink::default(), |mut guest| async move {
        guest.say(&READY).await;
        guest.say(&log(1)).await;
        let mut sink = tokio::io::sink();
        let _ = tokio::io::copy(&mut guest.0, &mut sink).await;
    })
    .await;
    assert!(seen.log <= 1);
}

#[tokio::test(start_paused = true)]
async fn silence_has_an_end() {
    let seen = says(&[]).await;
    let ended = seen.ended.unwrap();
    assert_eq!(ended.exit.status, ExitKind::TimedOut);
    assert!(seen.after >= Duration::from_secs(60) && seen.after < Duration::from_secs(600));

    let mut quiet = job();
    quiet.sandbox.limits.silent = Some(Duration::from_secs(5));
    quiet.sandbox.limits.wall = None;
    let seen = talk(quiet, Sink::default(), |mut guest| async move {
        guest.say(&READY).await;
        let mut sink = tokio::io::sink();
        let _ = tokio::io::copy(&mut guest.0, &mut sink).await;
    })
    .await;
    assert_eq!(seen.ended.unwrap().exit.status, ExitKind::SilentTimedOut);
}

#[tokio::test(start_paused = true)]
async fn trickles_have_an_end() {
    // A byte of log every second.
    let seen = talk(job(), Sink::default(), |mut guest| async move {
        guest.up().await;
        for _ in 0..100_000 {
            guest.say(&log(1)).await;
            sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    assert_eq!(seen.ended.unwrap().exit.status, ExitKind::TimedOut);
    // A byte of an output every minute.
    let seen = talk(job(), Sink::default(), |mut guest| async move {
        guest.up().await;
        guest.say(&exited()).await;
        guest.say(&GuestRecord::Output(0)).await;
        for _ in 0..1000 {
            guest.say(&nar(1)).await;
            sleep(Duration::from_secs(60)).await;
        }
    })
    .await;
    assert!(matches!(seen.ended, Err(VmError::Stalled(_))), "{:?}", seen.ended);
    assert!(seen.after < Duration::from_secs(1000), "{:?}", seen.after);
    // A record that never becomes complete.
    let seen = talk(job(), Sink::default(), |mut guest| async move {
        guest.up().await;
        guest.say(&exited()).await;
        let (head, body) = Pieces::Nar
            .of(&[0; 1000])
            .next()
            .map(|(h, b)| (h, b.to_vec()))
            .unwrap();
        let _ = guest.0.write_all(&head).await;
        let _ = guest.0.write_all(&body[..10]).await;
        let _ = guest.0.read(&mut [0]).await;
    })
    .await;
    assert!(matches!(seen.ended, Err(VmError::Stalled(_))), "{:?}", seen.ended);
    // One that does not take its job.
    let mut large = job();
    large.build_files[0].contents = vec![0; 1 << 20];
    let seen = talk(large, Sink::default(), |mut guest| async move {
        guest.say(&READY).await;
        sleep(Duration::from_secs(10_000)).await;
    })
    .await;
    assert!(matches!(seen.ended, Err(VmError::Stalled(_))), "{:?}", seen.ended);
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_the_talk() {
    let long = (MAX_BODY as u32 + 1).to_le_bytes();
    for bytes in [
        vec![0; 5],
        vec![255; 5],
        [&[2][..], &long].concat(),
        [&[5][..], &[255; 4]].concat(),
        vec![2, 0, 0, 0, 0],
        vec![9, 1, 0, 0, 0],
        vec![3, 4, 0, 0, 0, 1, 2, 3, 4],
        vec![10, 1, 0, 0, 0, 255],
    ] {
        let seen = talk(job(), Sink::default(), |mut guest| async move {
            guest.up().await;
            let _ = guest.0.write_all(&bytes).await;
            let _ = guest.0.read(&mut [0]).await;
        })
        .await;
        assert!(matches!(seen.ended, Err(VmError::Record(_))), "{:?}", seen.ended);
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_hangs_up_is_noticed() {
    for records in [
        vec![],
        vec![log(5)],
        vec![exited(), GuestRecord::Output(0), nar(5)],
    ] {
        let seen = talk(job(), Sink::default(), |mut guest| async move {
            guest.up().await;
            for record in &records {
                guest.say(record).await;
            }
        })
        .await;
        assert!(matches!(seen.ended, Err(VmError::Port(_))), "{:?}", seen.ended);
        assert_eq!(seen.sink.ended, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_is_told_from_a_guest_that_lies() {
    let sink = Sink {
        fails: true,
        ..Sink::default()
    };
    let seen = talk(job(), sink, |mut guest| async move {
        guest.up().await;
        for record in [exited(), GuestRecord::Output(0), nar(5)] {
            guest.say(&record).await;
        }
        let _ = guest.0.read(&mut [0]).await;
    })
    .await;
    assert!(
        matches!(seen.ended, Err(VmError::Sink { output: 0, .. })),
        "{:?}",
        seen.ended
    );
}
