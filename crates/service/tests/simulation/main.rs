//! Scenarios of the simulator, played against the real service: every request must be answered by the rung that the simulator says,
//! with the bytes that it says.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod builder;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other tests use the rest")]
mod support;

use std::collections::{BTreeMap, BTreeSet};

use builder::{Dictated, House};
use firn_core::{AccountName, Rung};
use firn_nix::{BasicDerivation, DerivationOutput, StorePath};
use firn_protocol::{BuildMode, BuildOptions, Store as _, Upload as _};
use firn_service::AccountStore;
use firn_service::ports::Builds as _;
use firn_simulate::{Content, Drv, Graph, Params, Population, Scenario, Share, Step, TargetRange, World};
use support::graphs::{Package, Packages};
use support::{Item, item, key, soon};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

const CACHE: &str = "https://cache.example";

type Client = AccountStore<Dictated>;

/// What the derivations of a graph are to the service.
struct Cast {
    packages: Vec<Package>,
    inputs: Vec<Vec<Drv>>,
    references: Vec<Vec<Drv>>,
}

impl Cast {
    fn new(graph: &Graph, world: &World<'_>, scenario: &Scenario) -> Self {
        let fixed: BTreeMap<Drv, Content> = scenario.fixed.iter().copied().collect();
        let mut known = Packages::default();
        let mut packages: Vec<Package> = Vec::new();
        for number in graph.drvs() {
            let inputs = graph.inputs(number).iter().map(|d| &packages[*d as usize]);
            let inputs: Vec<&Package> = inputs.collect();
            let name = graph.name(number);
            let package = match fixed.get(&number) {
                Some(content) => known.fixed_to(&content.0.to_string(), name, &[], &inputs),
                None => known.add(name, &[], &inputs, &[]),
            };
            packages.push(package);
        }
        Self {
            packages,
            inputs: graph.drvs().map(|d| graph.inputs(d).to_vec()).collect(),
            references: graph.drvs().map(|d| world.references(d).to_vec()).collect(),
        }
    }

    fn path(&self, drv: Drv) -> StorePath {
        self.packages[drv as usize].path()
    }

    fn out(&self, drv: Drv) -> StorePath {
        self.packages[drv as usize].out()
    }

    fn item(&self, drv: Drv, content: Content) -> Item {
        let references: Vec<StorePath> = self.references[drv as usize]
            .iter()
            .map(|d| self.out(*d))
            .collect();
        let references: Vec<&StorePath> = references.iter().collect();
        let mut item = item(&self.out(drv), &content.0.to_string(), &references);
        if let DerivationOutput::Fixed { ca, .. } = &self.packages[drv as usize].drv.basic.outputs["out"] {
            item.info.ca = Some(*ca);
        }
        item
    }

    /// As a remote builder's client sends it.
    fn basic(&self, drv: Drv) -> BasicDerivation {
        let mut basic = self.packages[drv as usize].drv.basic.clone();
        basic
            .input_srcs
            .extend(self.inputs[drv as usize].iter().map(|d| self.out(*d)));
        basic
    }
}

/// All that is below, inputs first.
fn closure(below: &[Vec<Drv>], of: &[Drv]) -> BTreeSet<Drv> {
    let (mut closure, mut open) = (BTreeSet::new(), of.to_vec());
    while let Some(drv) = open.pop() {
        if closure.insert(drv) {
            open.extend(&below[drv as usize]);
        }
    }
    closure
}

async fn bytes(client: &Client, path: StorePath) -> Vec<u8> {
    let mut nar = Vec::new();
    let mut stream = client.nar_from_path(path).await.unwrap();
    stream.read_to_end(&mut nar).await.unwrap();
    nar
}

async fn upload(client: &Client, items: impl IntoIterator<Item = Item>) {
    let mut upload = client.begin_upload().await.unwrap();
    for item in items {
        upload.add(item.info, &mut &item.nar[..]).await.unwrap();
    }
    upload.commit().await.unwrap();
}

/// Sends a graph and asks for its top: the service must fetch and build what is said, and record that.
async fn ask_for_graph(
    cast: &Cast,
    client: &Client,
    target: Drv,
    fetched: &[Drv],
    answers: &[(Drv, Rung, Content)],
) {
    let graph: Vec<&Item> = closure(&cast.inputs, &[target])
        .iter()
        .map(|d| &cast.packages[*d as usize].item)
        .collect();
    let paths = graph.iter().map(|item| item.info.path.clone()).collect();
    let valid = client.query_valid_paths(paths, false).await.unwrap();
    upload(
        client,
        graph
            .into_iter()
            .filter(|item| !valid.contains(&item.info.path))
            .cloned(),
    )
    .await;
    let targets = vec![cast.packages[target as usize].target()];
    let missing = client.query_missing(targets.clone()).await.unwrap();
    let run = answers.iter().filter(|(_, rung, _)| *rung != Rung::Grounded);
    assert_eq!(missing.will_build, run.map(|(drv, ..)| cast.path(*drv)).collect());
    let valid = client
        .query_valid_paths(missing.will_substitute.clone(), false)
        .await;
    assert!(valid.unwrap().is_empty(), "{missing:?}");
    let with_references: BTreeSet<StorePath> = closure(&cast.references, fetched)
        .iter()
        .map(|drv| cast.out(*drv))
        .collect();
    let fetched: BTreeSet<StorePath> = fetched.iter().map(|drv| cast.out(*drv)).collect();
    assert!(
        missing.will_substitute.is_superset(&fetched) && missing.will_substitute.is_subset(&with_references)
    );
    let (log, mut events) = mpsc::channel(16);
    let request = client.build_paths(targets, BuildMode::Normal, BuildOptions::default(), log);
    let drain = async { while events.recv().await.is_some() {} };
    let results = soon(async { tokio::join!(request, drain).0 }).await.unwrap();
    assert!(results.iter().all(|r| r.status.is_success()), "{results:?}");
}

/// Plays a scenario; how often each rung has answered: of what is already valid, for remote builders only.
async fn play(graph: &Graph, params: &Params) -> [u64; 8] {
    let simulated = World::new(graph, params);
    let scenario = Scenario::new(&simulated, &Population::new(graph, params));
    let cast = Cast::new(graph, &simulated, &scenario);
    let House {
        house,
        db,
        caches,
        builder,
        directory: _directory,
    } = House::new();
    let signer = key("cache", 1);
    caches.script(CACHE, |script| {
        for (drv, content) in &scenario.cached {
            script.put(&cast.item(*drv, *content), &[&signer]);
        }
    });
    let mut accounts = Vec::new();
    for number in 0..params.accounts {
        let name = AccountName::parse(&format!("account-{number}")).unwrap();
        let account = house.create_account(&name).await.unwrap();
        let desk = house.desk(account.clone());
        desk.add_substituter(CACHE).await.unwrap();
        desk.add_trusted_key(&signer.public_key().to_string())
            .await
            .unwrap();
        accounts.push((account.id, house.store(account)));
    }
    let mut answered = BTreeMap::<Rung, u64>::new();
    for step in &scenario.steps {
        match step {
            Step::Upload {
                account,
                drv,
                content,
            } => upload(&accounts[*account as usize].1, [cast.item(*drv, *content)]).await,
            Step::Substitute { account, drv } => {
                let paths = BTreeSet::from([cast.out(*drv)]);
                let valid = accounts[*account as usize].1.query_valid_paths(paths, true).await;
                assert_eq!(valid.unwrap().len(), 1, "{step:?}");
            }
            Step::Request {
                account,
                drv,
                rung,
                content,
            } => {
                let (id, client) = &accounts[*account as usize];
                builder.dictate(content.map(|content| (cast.path(*drv), cast.item(*drv, content))));
                let (log, mut lines) = mpsc::channel(16);
                let request = client.build_derivation(
                    cast.path(*drv),
                    cast.basic(*drv),
                    BuildMode::Normal,
                    BuildOptions::default(),
                    log,
                );
                let drain = async { while lines.recv().await.is_some() {} };
                let result = soon(async { tokio::join!(request, drain).0 }).await.unwrap();
                assert!(result.status.is_success(), "{step:?}: {result:?}");
                let record = db.requests(*id, 1).await.unwrap().remove(0);
                assert_eq!(record.rung, Some(*rung), "{step:?}: {}", record.reason);
                if let Some(content) = content {
                    let item = cast.item(*drv, *content);
                    assert_eq!(bytes(client, item.info.path).await, item.nar, "{step:?}");
                }
                *answered.entry(*rung).or_default() += 1;
            }
            Step::Graph {
                account,
                target,
                fetched,
                answers,
            } => {
                let (id, client) = &accounts[*account as usize];
                let before = db.requests(*id, u32::MAX).await.unwrap().len();
                let built = answers.iter().filter(|(_, rung, _)| *rung == Rung::Built);
                builder.dictate(built.map(|(drv, _, content)| (cast.path(*drv), cast.item(*drv, *content))));
                ask_for_graph(&cast, client, *target, fetched, answers).await;
                let mut records = db.requests(*id, u32::MAX).await.unwrap();
                records.truncate(records.len() - before);
                let records = records.into_iter().map(|r| (r.drv_path, r.rung.unwrap()));
                let mut records: Vec<(StorePath, Rung)> = records.collect();
                records.sort();
                let mut said: Vec<(StorePath, Rung)> = answers
                    .iter()
                    .map(|(drv, rung, _)| (cast.path(*drv), *rung))
                    .collect();
                said.sort();
                assert_eq!(records, said, "{step:?}");
                for (drv, rung, content) in answers {
                    let item = cast.item(*drv, *content);
                    assert_eq!(bytes(client, item.info.path).await, item.nar, "{step:?}");
                    *answered.entry(*rung).or_default() += 1;
                }
                *answered.entry(Rung::Substituted).or_default() += fetched.len() as u64;
            }
        }
    }
    let sum =
        |of: fn(&firn_simulate::Counts) -> u64| of(&scenario.outcome.ordinary) + of(&scenario.outcome.fixed);
    let answered = Rung::ALL.map(|rung| answered.get(&rung).copied().unwrap_or_default());
    let counted = Rung::ALL.map(|rung| match rung {
        // Nobody sees what a remote store meets and leaves as it is.
        Rung::AlreadyValid if params.stores > Share::percent(0.0) => answered[0],
        Rung::AlreadyValid => sum(|c| c.already_valid + c.signed),
        Rung::Substituted => sum(|c| c.substituted),
        Rung::Grounded => sum(|c| c.grounded),
        Rung::Shared => sum(|c| c.shared),
        Rung::Built => sum(|c| c.built),
        Rung::Trusted | Rung::Joined | Rung::Failed => 0,
    });
    assert_eq!(answered, counted);
    assert_eq!(builder.runs(), sum(|c| c.built));
    answered
}

/// Five accounts and forty derivations; `percent` of reproducible, local, cached, absorbing, remote stores.
fn params(seed: u64, percent: [u32; 5]) -> Params {
    let [reproducible, local, cached, absorb, stores] = percent.map(|p| Share::percent(p.into()));
    Params {
        accounts: 5,
        reproducible,
        stores,
        local,
        cached,
        absorb,
        runtime: Share::percent(40.0),
        targets: TargetRange { min: 1, max: 4 },
        seed,
        ..Params::default()
    }
}

/// All of these, for three graphs; how often each of these rungs has answered.
async fn play_all(percents: &[[u32; 5]], rungs: &[Rung]) {
    let mut total = Rung::ALL.map(|rung| (rung, 0));
    for seed in 0..3 {
        let graph = Graph::synthetic(40, seed);
        for percent in percents {
            let answered = play(&graph, &params(seed, *percent)).await;
            total.iter_mut().zip(answered).for_each(|(sum, n)| sum.1 += n);
        }
    }
    println!("{total:?}");
    for (rung, n) in total {
        assert!(n > 50 || !rungs.contains(&rung), "{rung}: {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_answers_remote_builders_as_the_simulator_says() {
    let percents = [
        [95, 10, 0, 0, 0],
        [70, 20, 0, 80, 0],
        [80, 10, 30, 0, 0],
        [60, 30, 50, 50, 0],
        [100, 50, 20, 0, 0],
        [0, 0, 0, 0, 0],
    ];
    let rungs = [Rung::AlreadyValid, Rung::Substituted, Rung::Shared, Rung::Built];
    play_all(&percents, &rungs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_answers_remote_stores_as_the_simulator_says() {
    let percents = [
        [95, 10, 0, 0, 100],
        [0, 0, 0, 0, 100],
        [80, 10, 30, 0, 100],
        [60, 30, 50, 50, 100],
        [95, 10, 0, 0, 50],
        [70, 20, 0, 80, 50],
        [60, 30, 30, 50, 50],
        [0, 30, 15, 0, 50],
    ];
    let rungs = [Rung::Substituted, Rung::Grounded, Rung::Shared, Rung::Built];
    play_all(&percents, &rungs).await;
}
