//! Grounded results: believed by whoever has the graph's leaves, and only where nothing was merely claimed.

use firn_core::Rung;
use firn_nix::{Derivation, DerivationOutput};
use firn_protocol::{BuildMode, BuildStatus};

use crate::support::graphs::{Package, Packages, build_all, realise, send, source, told};
use crate::support::{Client, Item, World, bytes, is_valid, item, upload};

/// `low` is not reproducible and made of a source, `high` is made of it and refers to it.
struct Tower {
    source: Item,
    low: Package,
    high: Package,
}

impl Tower {
    fn new() -> Self {
        let source = source("source", "int main");
        let mut packages = Packages::default();
        let low = packages.add("low", &["random"], &[], &[&source.info.path]);
        let high = packages.referring("high", &[&low]);
        Self { source, low, high }
    }

    async fn send(&self, client: &Client) {
        upload(client, &[&self.source]).await.unwrap();
        send(client, &[&self.low, &self.high]).await;
    }

    /// Sends all and asks for `high`.
    async fn build(&self, client: &Client) -> BuildStatus {
        self.send(client).await;
        build_one(client, &self.high).await
    }
}

async fn build_one(client: &Client, package: &Package) -> BuildStatus {
    build_all(client, &[package]).await[0].status
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_graph_has_the_result() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let tower = Tower::new();
    assert_eq!(tower.build(&alice).await, BuildStatus::Built);
    assert!(tower.build(&bob).await.is_success());
    assert_eq!(world.builder.counts().started, 2);
    assert_eq!(world.rungs("bob").await, [Some(Rung::Grounded)]);
    // With what it refers to, and the same bytes.
    for out in [tower.low.out(), tower.high.out()] {
        assert_eq!(
            bytes(&alice, &out).await.unwrap(),
            bytes(&bob, &out).await.unwrap()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_built_of_an_upload_is_not_grounded() {
    let world = World::new();
    let (mallory, bob) = (world.account("mallory").await, world.account("bob").await);
    let tower = Tower::new();
    tower.send(&mallory).await;
    // Her own claim of what `low` is.
    upload(&mallory, &[&item(&tower.low.out(), "evil", &[])])
        .await
        .unwrap();
    assert_eq!(build_one(&mallory, &tower.high).await, BuildStatus::Built);
    assert_eq!(world.builder.counts().started, 1);
    assert_eq!(tower.build(&bob).await, BuildStatus::Built);
    assert_eq!(world.builder.counts().started, 3);
    assert_ne!(
        bytes(&mallory, &tower.high.out()).await.unwrap(),
        bytes(&bob, &tower.high.out()).await.unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_account_has_already_must_be_what_others_built_of() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let tower = Tower::new();
    tower.build(&alice).await;
    // Bob built `low` at home, with other bytes: his own build would use them.
    tower.send(&bob).await;
    let low = item(&tower.low.out(), "built at home", &[]);
    upload(&bob, &[&low]).await.unwrap();
    assert_eq!(build_one(&bob, &tower.high).await, BuildStatus::Built);
    assert_eq!(bytes(&bob, &tower.low.out()).await.unwrap(), low.nar);
    // Carol has the very bytes.
    let carol = world.account("carol").await;
    tower.send(&carol).await;
    assert!(build_one(&carol, &tower.low).await.is_success());
    assert!(build_one(&carol, &tower.high).await.is_success());
    assert_eq!(world.rungs("carol").await, [Some(Rung::Grounded); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_is_not_what_its_path_says_grounds_nothing() {
    let world = World::new();
    let (mallory, bob) = (world.account("mallory").await, world.account("bob").await);
    let tower = Tower::new();
    // Without a content address nobody checks the bytes of a source.
    upload(&mallory, &[&item(&tower.source.info.path, "evil source", &[])])
        .await
        .unwrap();
    send(&mallory, &[&tower.low, &tower.high]).await;
    assert_eq!(build_one(&mallory, &tower.high).await, BuildStatus::Built);
    assert_eq!(tower.build(&bob).await, BuildStatus::Built);
    assert_eq!(world.builder.counts().started, 4);
    // Nor does such a leaf open what others have built of the real one.
    let eve = world.account("eve").await;
    upload(&eve, &[&item(&tower.source.info.path, "guess", &[])])
        .await
        .unwrap();
    send(&eve, &[&tower.low, &tower.high]).await;
    assert_eq!(build_one(&eve, &tower.high).await, BuildStatus::Built);
    assert_eq!(world.builder.counts().started, 6);
    assert!(!world.rungs("eve").await.contains(&Some(Rung::Grounded)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_does_not_follow_is_refused() {
    let world = World::new();
    let mallory = world.account("mallory").await;
    let tower = Tower::new();
    tower.send(&mallory).await;
    let aimed = tower.high.out();
    let lie = |change: fn(&mut Derivation, &firn_nix::StorePath)| {
        let mut packages = Packages::default();
        let mut drv = packages.add("high", &["log:evil"], &[], &[]).drv;
        change(&mut drv, &aimed);
        packages.finish("high", drv)
    };
    let output = lie(|drv, aimed| {
        drv.basic
            .env
            .insert(b"out".to_vec(), aimed.to_string().into_bytes());
        drv.basic
            .outputs
            .insert("out".into(), DerivationOutput::InputAddressed(aimed.clone()));
    });
    // The environment is left out of what the path follows from.
    let environment = lie(|drv, aimed| {
        drv.basic
            .env
            .insert(b"out".to_vec(), aimed.to_string().into_bytes());
    });
    send(&mallory, &[&output, &environment]).await;
    for lie in [&output, &environment] {
        assert_eq!(build_one(&mallory, lie).await, BuildStatus::InputRejected);
    }
    // And what stands on it.
    let mut packages = Packages::default();
    let mut drv = packages.add("above", &[], &[], &[]).drv;
    drv.input_drvs.insert(output.path(), ["out".to_owned()].into());
    let above = packages.finish("above", drv);
    send(&mallory, &[&above]).await;
    let results = build_all(&mallory, &[&above]).await;
    assert_eq!(results[0].status, BuildStatus::InputRejected);
    let text = told(&results[0]);
    assert!(text.contains(&output.path().to_string()), "{text}");
    assert_eq!(world.builder.counts().started, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_to_itself_gives_and_takes_nothing() {
    for (account, setting, value) in [
        ("alice", "private", "true"),
        ("alice", "share-builds", "false"),
        ("bob", "share-builds", "false"),
    ] {
        let world = World::new();
        let (alice, bob) = (world.account("alice").await, world.account("bob").await);
        world
            .desk(account)
            .await
            .set(None, setting, Some(value))
            .await
            .unwrap();
        let tower = Tower::new();
        tower.build(&alice).await;
        assert_eq!(tower.build(&bob).await, BuildStatus::Built);
        assert_eq!(world.builder.counts().started, 4, "{account} {setting}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_fixed_output_keeps_what_is_built_of_it_private() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let mut packages = Packages::default();
    // Alice fetched it herself, with a login that the service never saw; there, it can only be brought.
    let fetched = packages.fixed("secret-source", &["fail:401 Unauthorized"]);
    let secret = crate::support::objects_of_fixed(&fetched.out());
    let built = packages.add("built", &["random"], &[&fetched], &[]);
    send(&alice, &[&fetched, &built]).await;
    upload(&alice, &[&secret]).await.unwrap();
    assert_eq!(build_one(&alice, &built).await, BuildStatus::Built);
    // Bob knows the derivations, and has not the bytes.
    send(&bob, &[&fetched, &built]).await;
    assert_eq!(build_one(&bob, &built).await, BuildStatus::DependencyFailed);
    assert!(!is_valid(&bob, &built.out()).await);
    // When he has them the result is his.
    upload(&bob, &[&secret]).await.unwrap();
    assert!(build_one(&bob, &built).await.is_success());
    assert_eq!(world.rungs("bob").await.last(), Some(&Some(Rung::Grounded)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_fetched_is_for_everybody() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let mut packages = Packages::default();
    let fetched = packages.fixed("source", &[]);
    let built = packages.add("built", &["random"], &[&fetched], &[]);
    for client in [&alice, &bob] {
        send(client, &[&fetched, &built]).await;
        assert!(build_one(client, &built).await.is_success());
    }
    assert_eq!(world.builder.counts().started, 2);
    assert_eq!(world.rungs("bob").await, [Some(Rung::Grounded)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_build_as_a_remote_builder_becomes_grounded_when_its_graph_is_known() {
    let world = World::new();
    let (alice, bob, carol) = (
        world.account("alice").await,
        world.account("bob").await,
        world.account("carol").await,
    );
    let tower = Tower::new();
    upload(&alice, &[&tower.source]).await.unwrap();
    let mut drv = tower.low.drv.basic.clone();
    drv.input_srcs = [tower.source.info.path.clone()].into();
    let low = crate::support::Drv {
        path: tower.low.path(),
        drv,
    };
    crate::support::build(&alice, &low).await.done();
    assert!(tower.build(&bob).await.is_success());
    // `low` has no inputs but its source: the same build key.
    assert_eq!(world.rungs("bob").await, [Some(Rung::Shared), Some(Rung::Built)]);
    assert!(tower.build(&carol).await.is_success());
    assert_eq!(world.rungs("carol").await, [Some(Rung::Grounded)]);
    assert_eq!(world.builder.counts().started, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_takes_nothing() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let tower = Tower::new();
    tower.build(&alice).await;
    tower.send(&bob).await;
    use firn_protocol::Store as _;
    let missing = bob.query_missing(vec![tower.high.target()]).await.unwrap();
    assert!(missing.will_build.is_empty(), "{missing:?}");
    assert!(!is_valid(&bob, &tower.high.out()).await);
    let checked = realise(&bob, &[tower.high.target()], BuildMode::Check)
        .await
        .0
        .unwrap();
    assert!(checked[0].status.is_success() || checked[0].status == BuildStatus::NotDeterministic);
}
