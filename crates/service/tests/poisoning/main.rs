//! Attempts of one account, Mallory, to make another one, Alice, receive what Alice's own request would not have produced.
//!
//! Every test is one attempt. Alice does not trust Mallory unless the test says so. The builder makes of a derivation a digest of all that
//! its sandbox shows, so that a result that was made of anything else is another one; `random` makes it another one each time.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod binary_caches;
mod choices;
mod derivations;
mod failures;
mod fixed_outputs;
mod grounded;
mod grounded_attacks;
mod runs;
mod shopping;
mod shortage;
mod signatures;
#[expect(dead_code, unused_imports, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;
mod switching;
mod uploads;
mod withdrawals;

use std::time::Duration;

use firn_nix::StorePath;
use firn_protocol::{BuildStatus, Store as _};

use support::{Client, Drv, Item, World, build, bytes, item, path, upload};

/// Alice, Mallory and a service.
struct Stage {
    world: World,
    alice: Client,
    mallory: Client,
}

impl Stage {
    async fn new() -> Self {
        Self::on(World::new()).await
    }

    /// On a service where runs end with their last client.
    async fn stopping() -> Self {
        Self::on(World::with(|s| s.finish_left_builds = Duration::ZERO)).await
    }

    async fn on(world: World) -> Self {
        let (alice, mallory) = (world.account("alice").await, world.account("mallory").await);
        Self {
            world,
            alice,
            mallory,
        }
    }

    /// Mallory's session with these variables in its environment.
    async fn mallory_with(&self, variables: &[(&str, &str)]) -> Client {
        self.session("mallory", variables).await
    }

    async fn session(&self, account: &str, variables: &[(&str, &str)]) -> Client {
        let variables = variables
            .iter()
            .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()));
        let account = self.world.named(account).await;
        let session = self.world.house.session(account, None, variables.collect()).await;
        let Ok(session) = session else {
            panic!("the environment is refused")
        };
        session
    }

    async fn set(&self, account: &str, name: &str, value: &str) {
        let desk = self.world.desk(account).await;
        desk.set(None, name, Some(value)).await.unwrap();
    }

    /// Alice brings these, asks for that, and gets what she would have got in a world without Mallory.
    async fn unharmed(&self, items: &[&Item], drv: &Drv) {
        self.world.idle().await;
        upload(&self.alice, items).await.unwrap();
        assert_eq!(self.answered(drv).await, alone(items, drv).await);
    }

    /// What Alice gets for a derivation.
    async fn answered(&self, drv: &Drv) -> Got {
        got(&self.alice, drv).await
    }

    /// Runs so far.
    fn runs(&self) -> usize {
        self.world.builder.counts().started
    }
}

/// Status, and of each output bytes and references.
type Got = (BuildStatus, Vec<(StorePath, Vec<u8>, Vec<StorePath>)>);

async fn got(client: &Client, drv: &Drv) -> Got {
    let result = build(client, drv).await.done();
    let mut outputs = Vec::new();
    if result.status.is_success() {
        let name = drv.path.derivation_name().unwrap();
        for (output, of) in &drv.drv.outputs {
            let path = of.known_path(name, output).unwrap().unwrap();
            let info = client
                .query_path_infos(vec![path.clone()])
                .await
                .unwrap()
                .remove(0);
            let nar = bytes(client, &path).await.unwrap();
            outputs.push((path, nar, info.references.into_iter().collect()));
        }
    }
    (result.status, outputs)
}

/// What Alice gets who is alone.
async fn alone(items: &[&Item], drv: &Drv) -> Got {
    let world = World::new();
    let alice = world.account("alice").await;
    upload(&alice, items).await.unwrap();
    let got = got(&alice, drv).await;
    assert_eq!(world.builder.counts().started, 1);
    got
}

/// Alice's input, and what it refers to.
fn sources() -> [Item; 2] {
    let (input, deep) = (path("input"), path("deep"));
    [item(&input, "input", &[&deep]), item(&deep, "deep", &[])]
}

/// A derivation over [`sources`] with something of everything.
fn victim() -> Drv {
    let (input, deep) = (path("input"), path("deep"));
    let mut drv = Drv::new("thing", &["log:one\n", "log:two\n"], &[&input]).referring(&[&deep]);
    for (name, value) in [
        ("A", "1"),
        ("B", "23"),
        ("name", "thing"),
        ("caf\u{e9}", "\u{e9}"),
    ] {
        drv.drv.env.insert(name.into(), value.into());
    }
    drv
}
