//! Two builds at once: one has secrets, the other looks for them and for it.

use std::time::Duration;

use bytes::Bytes;
use firn_attack::{
    Column, GREEDY_READY, INPUTS_OF_AN_OVERLAY, MOUNTED_INPUTS, SECRET, VICTIM_DISTURBED, VICTIM_READY,
    VICTIM_WELL, WAYS,
};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::backend::{Attack, Backend, Ended};
use super::probes::outcomes;

/// Neither finds nor disturbs the other.
pub async fn all(backend: &impl Backend) {
    let victim = Attack::new(&["victim"]);
    let (log, chunks) = mpsc::channel::<Bytes>(4);
    let (tell, mut told) = watch::channel(Heard::default());
    let cancel = CancellationToken::new();
    let seek = async {
        heard(&mut told, |heard| heard.ready).await;
        let ended = Attack::new(&["seeker"]).run(backend).await;
        let rounds = told.borrow().rounds;
        // What happened last is noticed in the next round.
        heard(&mut told, |heard| heard.rounds > rounds + 1).await;
        cancel.cancel();
        ended
    };
    let (_, (), seeker) = tokio::join!(
        backend.run(&victim, log, cancel.clone()),
        listen(chunks, tell),
        seek
    );
    check(backend, seeker);
    let disturbed = told.borrow().disturbed.clone();
    assert_eq!(disturbed, None);
    assert_eq!(backend.left(), Vec::<String>::new());
}

/// One takes all of what the kernel counts per user; the other still gets some. (An ordinary user's builds are all one user's.)
pub async fn counted(backend: &impl Backend) {
    let (log, mut chunks) = mpsc::channel::<Bytes>(4);
    let cancel = CancellationToken::new();
    let (tell, mut told) = watch::channel(false);
    let listen = async {
        let mut all = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            all.extend(chunk);
            if all
                .windows(GREEDY_READY.len())
                .any(|window| window == GREEDY_READY.as_bytes())
            {
                tell.send_replace(true);
            }
        }
        println!(
            "{:?} greedy: {}",
            backend.column(),
            all.escape_ascii().to_string().replace("\\r\\n", " ")
        );
    };
    let need = async {
        timeout(Duration::from_secs(120), told.wait_for(|ready| *ready))
            .await
            .unwrap()
            .unwrap();
        let ended = Attack::new(&["needy"]).run(backend).await;
        cancel.cancel();
        ended
    };
    let greedy = Attack::new(&["greedy"]);
    let (_, (), needy) = tokio::join!(backend.run(&greedy, log, cancel.clone()), listen, need);
    let report = std::fs::read_to_string(&needy.result.unwrap()["out"]).unwrap();
    println!("{:?} needy: {}", backend.column(), report.replace('\n', " "));
    let got = outcomes(&report)
        .values()
        .filter(|outcome| **outcome == "reached")
        .count();
    if backend.column() != Column::User {
        assert_eq!(got, outcomes(&report).len(), "{report}");
    }
    assert_eq!(backend.left(), Vec::<String>::new());
}

fn check(backend: &impl Backend, seeker: Ended) {
    let said = seeker.log.escape_ascii().to_string().replace("\\n", "\n");
    let outputs = seeker
        .result
        .unwrap_or_else(|failure| panic!("{failure}\n{said}"));
    let report = std::fs::read_to_string(&outputs["out"]).unwrap();
    assert!(!report.contains(SECRET));
    let outcomes = outcomes(&report);
    for (way, outcome) in &outcomes {
        println!("{:?} neighbours {way}: {outcome}", backend.column());
    }
    let inputs = match outcomes["input-kind"] {
        "value:stored files" => MOUNTED_INPUTS,
        _ => INPUTS_OF_AN_OVERLAY,
    };
    assert_eq!(outcomes, WAYS.into_iter().chain(inputs).collect());
}

#[derive(Clone, Debug, Default)]
struct Heard {
    ready: bool,
    rounds: u32,
    disturbed: Option<String>,
}

async fn listen(mut chunks: mpsc::Receiver<Bytes>, tell: watch::Sender<Heard>) {
    let mut line = String::new();
    while let Some(chunk) = chunks.recv().await {
        line.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((first, rest)) = line.split_once('\n') {
            tell.send_modify(|heard| match first {
                VICTIM_READY => heard.ready = true,
                VICTIM_WELL => heard.rounds += 1,
                text if text.starts_with(VICTIM_DISTURBED) => {
                    heard.rounds += 1;
                    heard.disturbed.get_or_insert(text.to_owned());
                }
                text => println!("{text}"),
            });
            line = rest.to_owned();
        }
    }
}

async fn heard(told: &mut watch::Receiver<Heard>, is: impl FnMut(&Heard) -> bool) {
    timeout(Duration::from_secs(120), told.wait_for(is))
        .await
        .unwrap()
        .unwrap();
}
