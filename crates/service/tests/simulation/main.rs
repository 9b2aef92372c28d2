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

use std::collections::BTreeSet;

use builder::House;
use firn_core::{AccountName, Rung};
use firn_nix::StorePath;
use firn_protocol::{BuildMode, BuildOptions, Store as _, Upload as _};
use firn_service::AccountStore;
use firn_service::ports::Builds as _;
use firn_simulate::{Content, Graph, Params, Population, Scenario, Share, Step, TargetRange, World};
use support::{Drv, Item, item, key, soon};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

const CACHE: &str = "https://cache.example";

/// What the derivations of a graph are to the service.
struct Cast {
    drvs: Vec<Drv>,
    references: Vec<Vec<StorePath>>,
}

impl Cast {
    fn new(graph: &Graph, world: &World<'_>) -> Self {
        let mut drvs: Vec<Drv> = Vec::new();
        let mut references = Vec::new();
        for number in graph.drvs() {
            let out = |d: &u32| drvs[*d as usize].out();
            let inputs: Vec<StorePath> = graph.inputs(number).iter().map(out).collect();
            references.push(world.references(number).iter().map(out).collect());
            let inputs: Vec<&StorePath> = inputs.iter().collect();
            drvs.push(Drv::new(graph.name(number), &[], &inputs));
        }
        Self { drvs, references }
    }

    fn item(&self, drv: u32, content: Content) -> Item {
        let references: Vec<&StorePath> = self.references[drv as usize].iter().collect();
        item(
            &self.drvs[drv as usize].out(),
            &content.0.to_string(),
            &references,
        )
    }
}

async fn bytes(client: &AccountStore<builder::Dictated>, path: StorePath) -> Vec<u8> {
    let mut nar = Vec::new();
    let mut stream = client.nar_from_path(path).await.unwrap();
    stream.read_to_end(&mut nar).await.unwrap();
    nar
}

/// Plays a scenario; how often each rung has answered.
async fn play(graph: &Graph, params: &Params) -> [u64; 4] {
    let simulated = World::new(graph, params);
    let scenario = Scenario::new(&simulated, &Population::new(graph, params));
    let cast = Cast::new(graph, &simulated);
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
    let mut answered = [0; 4];
    for step in &scenario.steps {
        match *step {
            Step::Upload {
                account,
                drv,
                content,
            } => {
                let item = cast.item(drv, content);
                let mut upload = accounts[account as usize].1.begin_upload().await.unwrap();
                upload.add(item.info, &mut &item.nar[..]).await.unwrap();
                upload.commit().await.unwrap();
            }
            Step::Substitute { account, drv } => {
                let paths = BTreeSet::from([cast.drvs[drv as usize].out()]);
                let valid = accounts[account as usize].1.query_valid_paths(paths, true).await;
                assert_eq!(valid.unwrap().len(), 1, "{step:?}");
            }
            Step::Request {
                account,
                drv,
                rung,
                content,
            } => {
                let (id, client) = &accounts[account as usize];
                builder.dictate(content.map(|content| cast.item(drv, content)));
                let ask = cast.drvs[drv as usize].clone();
                let (log, mut lines) = mpsc::channel(16);
                let request = client.build_derivation(
                    ask.path,
                    ask.drv,
                    BuildMode::Normal,
                    BuildOptions::default(),
                    log,
                );
                let drain = async { while lines.recv().await.is_some() {} };
                let result = soon(async { tokio::join!(request, drain).0 }).await.unwrap();
                assert!(result.status.is_success(), "{step:?}: {result:?}");
                let record = db.requests(*id, 1).await.unwrap().remove(0);
                assert_eq!(record.rung, Some(rung), "{step:?}: {}", record.reason);
                if let Some(content) = content {
                    let item = cast.item(drv, content);
                    assert_eq!(bytes(client, item.info.path).await, item.nar, "{step:?}");
                }
                match rung {
                    Rung::AlreadyValid => answered[0] += 1,
                    Rung::Substituted => answered[1] += 1,
                    Rung::Shared => answered[2] += 1,
                    Rung::Built => answered[3] += 1,
                    Rung::Trusted | Rung::Grounded | Rung::Joined | Rung::Failed => unreachable!(),
                }
            }
        }
    }
    let sum =
        |of: fn(&firn_simulate::Counts) -> u64| of(&scenario.outcome.ordinary) + of(&scenario.outcome.fixed);
    let counted = [
        sum(|c| c.already_valid + c.signed),
        sum(|c| c.substituted),
        sum(|c| c.shared),
        sum(|c| c.built),
    ];
    assert_eq!(answered, counted);
    assert_eq!(builder.runs(), counted[3]);
    answered
}

/// Five accounts and forty derivations; `percent` of reproducible, local, cached, absorbing.
fn params(seed: u64, percent: [u32; 4]) -> Params {
    let [reproducible, local, cached, absorb] = percent.map(|p| Share::percent(p.into()));
    Params {
        accounts: 5,
        reproducible,
        local,
        cached,
        absorb,
        runtime: Share::percent(40.0),
        targets: TargetRange { min: 1, max: 4 },
        seed,
        ..Params::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_answers_as_the_simulator_says() {
    let mut total = [0; 4];
    for seed in 0..3 {
        let graph = Graph::synthetic(40, seed);
        for percent in [
            [95, 10, 0, 0],
            [70, 20, 0, 80],
            [80, 10, 30, 0],
            [60, 30, 50, 50],
            [100, 50, 20, 0],
            [0, 0, 0, 0],
        ] {
            let answered = play(&graph, &params(seed, percent)).await;
            total.iter_mut().zip(answered).for_each(|(sum, n)| *sum += n);
        }
    }
    assert!(total.iter().all(|n| *n > 50), "{total:?}");
    println!("already valid, substituted, shared, built: {total:?}");
}
