//! The attempts in a virtual machine: all of them, and every deed. Each build costs a boot without the help of the processor, so deeds share them.
//!
//! All tests of the workspace together start QEMU ten times:
//!
//! | where | boots |
//! |---|---|
//! | here: [`all_at_once`], [`bombs`], [`refused`], [`flood`], [`stopped`], [`opened`] | 6 |
//! | `builds` `machines::in_a_machine_as_in_nix` | 1 |
//! | `firn-vm` `machine`: `builds::a_build_sees_the_same_…`, `ends::an_ordinary_user_…` | 2 |
//! | `stories` `machines::who_requires_a_machine_gets_one_or_is_refused` | 1 |
//!
//! Not tried here are neighbours: two machines share nothing but the image of inputs, which neither can write.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use firn_attack::{Column, DEEDS, Ending};
use firn_service::ports::RunFailure;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::Firn;
use super::backend::{Attack, Backend, Ended};
use super::local::Local;
use super::{deeds, probes};

/// All of them give an output. The last leaves a process behind.
const BUILT: [&str; 12] = [
    "log-odd",
    "set-id",
    "symlink",
    "symlinks-inside",
    "symlinks-beside",
    "beside",
    "deep-scratch",
    "names",
    "locked",
    "links",
    "crowd",
    "daemon",
];

/// Each with how it ends: by itself, at its own error, or killed by the machine's kernel. What none of them does is disturb the others, but
/// that the bomb of processes, the last, leaves no room for more.
const BOMBS: [(&str, &str); 11] = [
    ("links-in-scratch", "status 3"),
    ("disk-build", "status 101"),
    ("disk-tmp", "status 101"),
    ("disk-output", "status 101"),
    ("disk-nameless", "status 101"),
    ("disk-deep", "status 101"),
    ("memory-heap", "signal 9"),
    ("memory-file", "signal 9"),
    // `/dev/shm` is full, and stays so for the next one.
    ("memory-shared", "status 101"),
    ("memory-children", "status 1"),
    ("fork-bomb", "status 1"),
];

/// The builder itself at the end, which fails the build.
const LAST: &str = "inodes";

/// Outputs that are refused, all of them told of; or some cannot even be made here.
const REFUSED: [&str; 7] = [
    "sparse",
    "fifo",
    "socket",
    "whiteout",
    "deep",
    "link-input",
    "writable",
];

/// Each ends its build in a way of its own.
const FLOOD: &str = "log-flood";
const STOPPED: [&str; 2] = ["deaf", "silent"];
const OPENED: &str = "open-build";

#[test]
fn every_deed_is_tried() {
    let tried = BUILT
        .into_iter()
        .chain(BOMBS.map(|(id, _)| id))
        .chain(REFUSED)
        .chain(STOPPED)
        .chain([LAST, FLOOD, OPENED]);
    let all: BTreeSet<&str> = DEEDS.iter().map(|deed| deed.id).collect();
    assert_eq!(tried.clone().count(), all.len(), "each once");
    assert_eq!(tried.collect::<BTreeSet<_>>(), all);
}

#[tokio::test]
async fn in_machines() {
    let firn = Firn::new();
    let Some(machines) = super::super::machines::machines(&firn) else {
        return;
    };
    let backend = Local::new(firn.with(Some(machines)), Column::Machine).await;
    all_at_once(&backend).await;
    bombs(&backend).await;
    refused(&backend).await;
    flood(&backend).await;
    stopped(&backend).await;
    opened(&backend).await;
}

fn several<'a>(ids: impl Iterator<Item = &'a &'static str>) -> Attack {
    Attack {
        limits: |limits| {
            limits.wall = Duration::from_secs(170);
            limits.disk_bytes = 96 << 20;
        },
        ..Attack::new(&["several"].into_iter().chain(ids.copied()).collect::<Vec<_>>())
    }
}

/// Nothing was reached, and nothing is left.
fn is_clean(backend: &impl Backend) {
    assert_eq!(backend.outside().touched(), Vec::<&str>::new());
    assert_eq!(backend.left(), Vec::<String>::new());
}

fn text(log: &[u8]) -> String {
    log.escape_ascii().to_string().replace("\\n", "\n")
}

/// Every attempt, and then the deeds.
async fn all_at_once(backend: &impl Backend) {
    let mut attack = several(["probe-all"].iter().chain(&BUILT));
    attack.outputs.extend(BUILT);
    let (log, mut chunks) = mpsc::channel::<Bytes>(4);
    let look = async {
        let mut log = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            if log.is_empty() {
                assert_eq!(backend.exposed(), Vec::<String>::new());
            }
            log.extend(chunk);
        }
        log
    };
    let run = async { tokio::join!(backend.run(&attack, log, CancellationToken::new()), look) };
    let (result, log) = tokio::select! {
        ended = run => ended,
        never = backend.outside().stir() => match never {},
    };
    let ended = Ended { result, log };
    probes::check(backend, &ended);
    let outputs = ended.result.as_ref().unwrap();
    for id in BUILT {
        deeds::look(id, &outputs[id], &ended, backend);
    }
    is_clean(backend);
}

async fn bombs(backend: &impl Backend) {
    let attack = Attack {
        limits: |limits| {
            limits.wall = Duration::from_secs(170);
            limits.disk_bytes = 96 << 20;
            limits.processes = Some(100);
        },
        ..several(BOMBS.iter().map(|(id, _)| id).chain(&[LAST]))
    };
    let ended = attack.run(backend).await;
    let log = text(&ended.log);
    println!("{log}");
    for (id, end) in BOMBS {
        assert!(log.contains(&format!("{id}: {end}\n")), "{id}: {log}");
    }
    let failure = ended.result.unwrap_err();
    let RunFailure::Exhausted(text) = &failure else {
        panic!("{failure:?}");
    };
    assert!(text.contains("ran out of memory: its machine has"), "{text}");
    assert!(text.contains("failed with exit code 101;\nlast "), "{text}");
    assert!(
        text.contains("wanted more than 100 processes at a time"),
        "{text}"
    );
    let (_, tail) = text.rsplit_once(&format!("> {LAST} begins\n")).unwrap();
    assert!(tail.contains("No space left on device"), "{tail}");
    is_clean(backend);
}

/// Whichever could be made is refused, each on a line of its own.
async fn refused(backend: &impl Backend) {
    let mut attack = several(REFUSED.iter());
    attack.outputs = REFUSED.to_vec();
    let ended = attack.run(backend).await;
    let log = text(&ended.log);
    println!("{log}");
    let failure = ended.result.unwrap_err();
    let RunFailure::OutputRejected(text) = &failure else {
        panic!("{failure:?}");
    };
    println!("{text}");
    for id in REFUSED {
        let deed = DEEDS.iter().find(|deed| deed.id == id).unwrap();
        // The only one of which the total is told, and not the output.
        let is_its = |line: &&str| match id {
            "sparse" => line.contains("larger than"),
            _ => line.contains(&format!("-attacked-{id}/")) || line.contains(&format!("-attacked-{id}'")),
        };
        let line = text.lines().find(is_its);
        match deed.ending {
            Ending::Refused(why) => assert!(line.is_some_and(|line| line.contains(why)), "{id}: {text}"),
            _ => assert!(
                line.is_some() || log.contains(&format!("{id}: status 101\n")),
                "{id}: {text}\n{log}"
            ),
        }
    }
    is_clean(backend);
}

async fn flood(backend: &impl Backend) {
    let ended = Attack::new(&["do", FLOOD]).run(backend).await;
    assert!(
        matches!(ended.result, Err(RunFailure::LogLimit(_))),
        "{:?}",
        ended.result
    );
    assert_eq!(ended.log.len(), 1 << 20);
    is_clean(backend);
}

/// A builder that says nothing beside a process that does not hear.
async fn stopped(backend: &impl Backend) {
    let attack = Attack {
        limits: |limits| limits.silent = Duration::from_secs(4),
        ..Attack::new(&["meanwhile", STOPPED[0], STOPPED[1]])
    };
    let ended = attack.run(backend).await;
    assert!(
        matches!(&ended.result, Err(RunFailure::TimedOut(text)) if text.contains("4 seconds of silence")),
        "{:?}",
        ended.result
    );
    is_clean(backend);
}

/// Cancelled when it has been looked at from outside.
async fn opened(backend: &impl Backend) {
    let ended = deeds::from_outside(backend).await;
    assert!(
        matches!(ended.result, Err(RunFailure::Cancelled)),
        "{:?}",
        ended.result
    );
    is_clean(backend);
}
