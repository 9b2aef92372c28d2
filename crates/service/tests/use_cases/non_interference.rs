//! Non-interference, with the service as its own model: what accounts see of a history is what they see of the same history without
//! the others' operations. Only timing and the words "built", "reused" and "joined" may differ.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use firn_core::Rung;
use firn_nix::{PathInfo, StorePath};
use firn_protocol::{
    BuildResult, BuildStatus, DerivedPath, Doing, LogEvent, Missing, Store as _, StoreError,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{
    Answered, Asked, Client, Drv, Item, World, build, bytes, check, fixed_without_path, item, key, path,
    soon, text_item, upload,
};

const ALICE: usize = 0;
const BOB: usize = 1;
/// Does all that the others do, and worse.
const MALLORY: usize = 2;

/// Paths that say nothing of their content.
const SOURCES: u8 = 4;
const DERIVATIONS: u8 = 6;

#[derive(Clone, Debug)]
enum Operation {
    /// One of the sources, in one of some contents, with one of some sets of references.
    Upload {
        source: u8,
        variant: u8,
    },
    /// Bytes of one's own under the path that a derivation will have.
    UploadOutput {
        derivation: u8,
        variant: u8,
    },
    /// A text with its content address, or the address with other bytes.
    UploadText {
        text: u8,
        lie: bool,
    },
    Sign {
        source: u8,
    },
    Build {
        derivation: u8,
    },
    Check {
        derivation: u8,
    },
    /// Asks for a build that waits at the gate.
    Begin,
    /// Opens the gate and waits for all builds begun.
    Finish,
    /// Mallory only: what becomes of a build that is left is a question of time.
    Leave,
    /// Mallory only: forgets all, and gives nothing any more, or something again.
    TakeBack {
        private: bool,
    },
}

#[derive(Clone, Debug)]
struct Step {
    account: usize,
    operation: Operation,
}

fn histories() -> impl Strategy<Value = Vec<Step>> {
    use Operation::{Begin, Build, Check, Finish, Leave, Sign, TakeBack, Upload, UploadOutput, UploadText};
    let operation = prop_oneof![
        // The first variant most often, so that accounts agree often.
        6 => (0..SOURCES, prop_oneof![3 => Just(0), 1 => 0u8..4])
            .prop_map(|(source, variant)| Upload { source, variant }),
        1 => (0..DERIVATIONS, 0u8..2).prop_map(|(derivation, variant)| UploadOutput { derivation, variant }),
        1 => (0u8..2, any::<bool>()).prop_map(|(text, lie)| UploadText { text, lie }),
        1 => (0..SOURCES).prop_map(|source| Sign { source }),
        8 => (0..DERIVATIONS).prop_map(|derivation| Build { derivation }),
        1 => (0..DERIVATIONS).prop_map(|derivation| Check { derivation }),
        3 => Just(Begin),
        1 => Just(Finish),
        1 => Just(Leave),
        1 => any::<bool>().prop_map(|private| TakeBack { private }),
    ];
    let step = (0usize..3, operation).prop_map(|(account, operation)| Step { account, operation });
    vec(step, 0..40)
}

fn source(n: u8) -> StorePath {
    path(&format!("source-{n}"))
}

fn source_item(n: u8, variant: u8) -> Item {
    let references: Vec<StorePath> = (0..n)
        .filter(|to| (variant + 1) >> to & 1 == 1)
        .map(source)
        .collect();
    item(
        &source(n),
        &format!("variant {variant}"),
        &references.iter().collect::<Vec<_>>(),
    )
}

/// Mallory gives the same builds other names.
fn derivation(n: u8, account: usize) -> Drv {
    let drv = match n {
        0 => Drv::new("plain", &["log:line\n"], &[&source(0)]).referring(&[&source(0)]),
        1 => Drv::new("two", &[], &[&source(0), &source(2)]).referring(&[&source(2)]),
        2 => {
            let first = derivation(0, ALICE).out();
            Drv::new("second", &[], &[&first]).referring(&[&first])
        }
        3 => Drv::new("failing", &["log:oh\n", "fail:no"], &[]),
        4 => Drv::new("slow", &["log:waiting\n", "wait", "log:done"], &[]),
        _ if account == MALLORY => return fixed_without_path("fixed-by-mallory"),
        _ => return fixed_without_path("fixed"),
    };
    if account == MALLORY {
        drv.under_another_path()
    } else {
        drv
    }
}

const SLOW: u8 = 4;

fn universe() -> Vec<StorePath> {
    let texts = (0..2).map(|n| text(n).info.path);
    let outputs = [ALICE, MALLORY]
        .into_iter()
        .flat_map(|account| (0..DERIVATIONS).map(move |n| derivation(n, account).out()));
    (0..SOURCES)
        .map(source)
        .chain(texts)
        .chain(outputs)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn text(n: u8) -> Item {
    text_item("text", &format!("text {n}"), &[])
}

/// What a client learns of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Stored(Result<(), String>),
    /// Status, text, and the log up to Firn's own words.
    Built(Result<(BuildStatus, Vec<u8>), String>, Vec<LogEvent>),
    Begun,
    Left,
}

/// All that an account can ask for at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    valid: BTreeSet<StorePath>,
    infos: Vec<PathInfo>,
    closure: BTreeSet<StorePath>,
    referrers: BTreeMap<StorePath, BTreeSet<StorePath>>,
    derivers: BTreeMap<StorePath, BTreeSet<StorePath>>,
    by_hash: Vec<Option<StorePath>>,
    missing: Missing,
}

/// Everything that an account observes of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Observed {
    /// Nothing is seen while a build is under way: when it ends is a question of time.
    steps: Vec<(Vec<Outcome>, Option<Seen>)>,
    bytes: BTreeMap<StorePath, Result<Vec<u8>, String>>,
}

#[derive(Default)]
struct Reuse {
    shared: AtomicUsize,
    joined: AtomicUsize,
}

struct Play {
    world: World,
    clients: Vec<Client>,
    begun: [VecDeque<Asked>; 3],
    /// Mallory is private: what she begins is her own run.
    private: bool,
    /// Runs of her own that may stand at the gate before those of the others.
    ahead: usize,
}

/// Plays the operations of these accounts, each at its own time.
async fn play(history: &[Step], accounts: &[usize], reuse: &Reuse) -> [Observed; 3] {
    let world = World::new();
    let mut clients = Vec::new();
    for name in ["alice", "bob", "mallory"] {
        clients.push(world.account(name).await);
        let secret = key(name, 9).to_secret_text();
        world.desk(name).await.import_signing_key(&secret).await.unwrap();
    }
    let mut play = Play {
        world,
        clients,
        begun: Default::default(),
        private: false,
        ahead: 0,
    };
    let mut observed: [Observed; 3] = Default::default();
    for (time, step) in history
        .iter()
        .enumerate()
        .filter(|(_, step)| accounts.contains(&step.account))
    {
        play.world.clock.set(time as u64);
        let outcomes = play.step(step).await;
        let seen = play.look(step.account).await;
        observed[step.account].steps.push((outcomes, seen));
    }
    play.world.clock.set(history.len() as u64);
    for account in accounts {
        let outcomes = play.finish(*account).await;
        let seen = play.look(*account).await;
        observed[*account].steps.push((outcomes, seen));
        for path in universe() {
            let got = bytes(&play.clients[*account], &path).await.map_err(|e| e.message);
            observed[*account].bytes.insert(path, got);
        }
    }
    play.check_invariants().await;
    for name in ["alice", "bob"] {
        for rung in play.world.rungs(name).await {
            match rung {
                Some(Rung::Shared) => reuse.shared.fetch_add(1, Ordering::Relaxed),
                Some(Rung::Joined) => reuse.joined.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
        }
    }
    observed
}

impl Play {
    async fn step(&mut self, Step { account, operation }: &Step) -> Vec<Outcome> {
        let client = &self.clients[*account];
        let stored = |result: Result<(), StoreError>| vec![Outcome::Stored(result.map_err(|e| e.message))];
        match *operation {
            Operation::Upload { source, variant } => {
                stored(upload(client, &[&source_item(source, variant)]).await)
            }
            Operation::UploadOutput {
                derivation: n,
                variant,
            } => {
                let out = derivation(n, ALICE).out();
                stored(upload(client, &[&item(&out, &format!("fake {variant}"), &[])]).await)
            }
            Operation::UploadText { text: n, lie } => {
                let mut item = text(n);
                if lie {
                    let other = text(n + 1);
                    (item.info.nar_hash, item.nar) = (other.info.nar_hash, other.nar);
                }
                stored(upload(client, &[&item]).await)
            }
            Operation::Sign { source: n } => {
                let seen = client.query_path_infos(vec![source(n)]).await.unwrap();
                let message = seen.first().map(PathInfo::fingerprint).unwrap_or_default();
                let signature = key(&format!("key-{account}"), 1).sign(message.as_bytes());
                stored(
                    client
                        .add_signatures(source(n), BTreeSet::from([signature.to_string()]))
                        .await,
                )
            }
            // One that waits would wait for ever.
            Operation::Build { derivation: SLOW }
            | Operation::Check { derivation: SLOW }
            | Operation::Begin => self.begin(*account).await,
            Operation::Build { derivation: n } => vec![built(build(client, &derivation(n, *account)).await)],
            Operation::Check { derivation: n } => vec![built(check(client, &derivation(n, *account)).await)],
            Operation::Finish => self.finish(*account).await,
            Operation::Leave if *account == MALLORY => {
                if let Some(asked) = self.begun[MALLORY].pop_front() {
                    asked.leave().await;
                }
                vec![Outcome::Left]
            }
            Operation::TakeBack { private } if *account == MALLORY => {
                let desk = self.world.desk("mallory").await;
                let all: Vec<String> = universe().iter().map(ToString::to_string).collect();
                desk.forget(&all).await.unwrap();
                desk.set(None, "private", Some(&private.to_string()))
                    .await
                    .unwrap();
                self.private = private;
                vec![Outcome::Left]
            }
            Operation::Leave | Operation::TakeBack { .. } => vec![Outcome::Left],
        }
    }

    async fn begin(&mut self, account: usize) -> Vec<Outcome> {
        self.ahead += usize::from(account == MALLORY && self.private);
        let mut asked = Asked::plain(&self.clients[account], &derivation(SLOW, account));
        asked.began().await;
        self.begun[account].push_back(asked);
        vec![Outcome::Begun]
    }

    async fn finish(&mut self, account: usize) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for asked in std::mem::take(&mut self.begun[account]) {
            // Whoever came to the gate first is let through first.
            self.world.builder.release(1 + std::mem::take(&mut self.ahead));
            let mut answered = asked.answer().await;
            if let Ok(result) = &mut answered.result
                && result.status == BuildStatus::AlreadyValid
            {
                // An earlier request for it has come to its end already.
                result.status = BuildStatus::Built;
                for event in &mut answered.events {
                    if let LogEvent::BuildStarted { doing, .. } = event {
                        *doing = Doing::Building;
                    }
                }
            }
            outcomes.push(built(answered));
        }
        outcomes
    }

    async fn look(&self, account: usize) -> Option<Seen> {
        if !self.begun[account].is_empty() {
            return None;
        }
        let client = &self.clients[account];
        let universe = universe();
        let opaque = universe.iter().cloned().map(DerivedPath::Opaque).collect();
        let mut seen = Seen {
            valid: client.query_all_valid_paths().await.unwrap(),
            infos: client.query_path_infos(universe.clone()).await.unwrap(),
            closure: client
                .query_closure(universe.iter().cloned().collect(), false)
                .await
                .unwrap(),
            missing: client.query_missing(opaque).await.unwrap(),
            ..Seen::default()
        };
        let slow = derivation(SLOW, account).out();
        for info in seen.infos.iter_mut().filter(|info| info.path == slow) {
            info.registration_time = 0;
        }
        for path in universe {
            let hash = path.hash_part().to_owned();
            seen.by_hash
                .push(client.query_path_from_hash_part(hash).await.unwrap());
            seen.derivers.insert(
                path.clone(),
                client.query_valid_derivers(path.clone()).await.unwrap(),
            );
            seen.referrers
                .insert(path.clone(), client.query_referrers(path).await.unwrap());
        }
        Some(seen)
    }

    /// Of everybody's view: closed, and every byte is there.
    async fn check_invariants(&self) {
        for (_, claim) in self.world.db.all_claims() {
            assert!(
                self.world.content.contains(&claim.object.content),
                "{} is lost",
                claim.object.path
            );
        }
        for client in &self.clients {
            let valid = client.query_all_valid_paths().await.unwrap();
            let infos = client
                .query_path_infos(valid.iter().cloned().collect())
                .await
                .unwrap();
            for info in infos {
                assert!(info.references.is_subset(&valid), "{} is not closed", info.path);
            }
        }
    }
}

/// Without times and without the words that may differ.
fn built(answered: Answered) -> Outcome {
    let of = |result: BuildResult| (result.status, result.error_msg);
    let mut events = answered.events;
    let firns =
        |event: &LogEvent| matches!(event, LogEvent::BuildLine { line, .. } if line.starts_with(b"firn: "));
    // Whoever is given a result without a run sees no log.
    events.retain(|event| !firns(event) && !matches!(event, LogEvent::BuildLine { .. }));
    for event in &mut events {
        if let LogEvent::BuildStarted { doing, .. } = event
            && matches!(doing, Doing::Reusing | Doing::Replaying)
        {
            *doing = Doing::Building;
        }
    }
    Outcome::Built(answered.result.map(of).map_err(|e| e.message), events)
}

#[test]
fn nobody_sees_what_others_do() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let reuse = Reuse::default();
    let config = Config {
        cases: 48,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let property = |history: Vec<Step>| {
        let [all, without_mallory, only_alice] = runtime.block_on(async {
            let all = soon(play(&history, &[ALICE, BOB, MALLORY], &reuse)).await;
            let nothing = Reuse::default();
            let without = soon(play(&history, &[ALICE, BOB], &nothing)).await;
            [all, without, soon(play(&history, &[ALICE], &nothing)).await]
        });
        for (account, others) in [
            (ALICE, &without_mallory),
            (BOB, &without_mallory),
            (ALICE, &only_alice),
        ] {
            for (with, without) in all[account].steps.iter().zip(&others[account].steps) {
                prop_assert_eq!(with, without);
            }
            prop_assert_eq!(&all[account], &others[account]);
        }
        Ok(())
    };
    TestRunner::new(config).run(&histories(), property).unwrap();
    // Otherwise nothing was tested.
    assert!(reuse.shared.into_inner() > 0 && reuse.joined.into_inner() > 0);
}
