//! The attempts in a virtual machine. Each build costs a boot without the help of the processor, so attempts and deeds share two.
//!
//! Not tried here: deeds that end a build each in a way of its own (a log without end, silence, deafness to signals, outputs that are refused).
//! What ends or refuses them is tested where it is: `firn-vm` has machines that are stopped, and tests its collector without a machine. Nor
//! neighbours: two machines share nothing but the image of inputs, which neither can write. Nor a bomb of processes: 30,000 may be in a machine,
//! more than its memory bears.

use std::time::Duration;

use bytes::Bytes;
use firn_attack::Column;
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

/// Each with how it ends: by itself, at its own error, or killed by the machine's kernel. What none of them does is disturb the others.
const BOMBS: [(&str, &str); 5] = [
    ("links-in-scratch", "status 3"),
    ("disk-nameless", "status 101"),
    ("memory-heap", "signal 9"),
    ("memory-file", "signal 9"),
    ("memory-shared", "status 101"),
];

/// The last one, which fails the build.
const LAST: &str = "disk-deep";

#[tokio::test]
async fn in_machines() {
    let firn = Firn::new();
    let Some(machines) = super::super::machines::machines(&firn) else {
        return;
    };
    let backend = Local::new(firn.with(Some(machines)), Column::Machine).await;
    all_at_once(&backend).await;
    bombs(&backend).await;
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
    assert_eq!(backend.outside().touched(), Vec::<&str>::new());
    assert_eq!(backend.left(), Vec::<String>::new());
}

async fn bombs(backend: &impl Backend) {
    let attack = several(BOMBS.iter().map(|(id, _)| id).chain(&[LAST]));
    let ended = attack.run(backend).await;
    let log = ended.log.escape_ascii().to_string().replace("\\n", "\n");
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
    let (_, tail) = text.rsplit_once(&format!("> {LAST} begins\n")).unwrap();
    assert!(tail.contains("No space left on device"), "{tail}");
    assert_eq!(backend.outside().touched(), Vec::<&str>::new());
    assert_eq!(backend.left(), Vec::<String>::new());
}
