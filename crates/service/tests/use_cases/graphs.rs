//! Whole graphs, built on the server.

use std::time::Duration;

use firn_core::Rung;
use firn_nix::DerivationOutput;
use firn_protocol::{BuildMode, BuildStatus, DerivedPath, LogEvent, OutputsSpec, Store as _};

use crate::support::graphs::{Package, Packages, build_all, realise, send, source, told};
use crate::support::{Client, World, is_valid, path, text_item, upload};

/// A chain of three, the lowest of a source.
async fn chain(client: &Client) -> [Package; 3] {
    let source = source("source", "int main");
    upload(client, &[&source]).await.unwrap();
    let mut packages = Packages::default();
    let low = packages.add("low", &["log:low"], &[], &[&source.info.path]);
    let middle = packages.with_outputs("middle", &["dev", "out"], &[], &[&low], &[]);
    let high = packages.add("high", &[], &[&middle, &low], &[]);
    send(client, &[&low, &middle, &high]).await;
    [low, middle, high]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_is_built_from_the_bottom() {
    let world = World::new();
    let alice = world.account("alice").await;
    let [low, middle, high] = chain(&alice).await;
    let missing = alice.query_missing(vec![high.target()]).await.unwrap();
    assert_eq!(
        missing.will_build,
        [&low, &middle, &high].map(Package::path).into()
    );

    let (results, events) = realise(&alice, &[high.target()], BuildMode::Normal).await;
    let [result] = &results.unwrap()[..] else { panic!() };
    assert_eq!(result.status, BuildStatus::Built);
    assert_eq!(result.built_outputs["out"].out_path, high.out());
    let built: Vec<String> = world
        .builder
        .jobs()
        .iter()
        .map(|j| j.drv_path.name().to_owned())
        .collect();
    assert_eq!(built, ["low.drv", "middle.drv", "high.drv"]);
    for out in [low.out(), middle.output("dev"), middle.out(), high.out()] {
        assert!(is_valid(&alice, &out).await);
    }
    let last = events.iter().rev().find_map(|event| match event {
        LogEvent::Progress {
            done,
            expected,
            running,
            failed,
        } => Some([*done, *expected, *running, *failed]),
        _ => None,
    });
    assert_eq!(last, Some([3, 3, 0, 0]));

    // What is there is not built again, and nothing of it is asked for.
    let results = build_all(&alice, &[&high, &low]).await;
    assert!(results.iter().all(|r| r.status == BuildStatus::AlreadyValid));
    assert_eq!(results[1].built_outputs["out"].out_path, low.out());
    assert_eq!(world.builder.counts().started, 3);
    assert!(
        alice
            .query_missing(vec![high.target()])
            .await
            .unwrap()
            .will_build
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_runs_nothing() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let [.., high] = chain(&alice).await;
    build_all(&alice, &[&high]).await;
    let [.., high] = chain(&bob).await;
    let results = build_all(&bob, &[&high]).await;
    assert!(results[0].status.is_success(), "{results:?}");
    assert_eq!(world.builder.counts().started, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_wanted_is_built() {
    let world = World::new();
    let alice = world.account("alice").await;
    let [low, middle, high] = chain(&alice).await;
    build_all(&alice, &[&low]).await;
    let missing = alice.query_missing(vec![middle.target()]).await.unwrap();
    assert_eq!(missing.will_build, [middle.path()].into());
    let dev = DerivedPath::Built {
        drv_path: middle.path(),
        outputs: OutputsSpec::Names(["dev".to_owned()].into()),
    };
    let results = realise(&alice, &[dev], BuildMode::Normal).await.0.unwrap();
    assert_eq!(results[0].built_outputs.keys().collect::<Vec<_>>(), ["dev"]);
    assert!(!is_valid(&alice, &high.out()).await);
    let unknown = DerivedPath::Built {
        drv_path: middle.path(),
        outputs: OutputsSpec::Names(["doc".to_owned()].into()),
    };
    let results = realise(&alice, &[unknown], BuildMode::Normal).await.0.unwrap();
    let text = told(&results[0]);
    assert!(text.contains("has no output 'doc'"), "{text}");
}

/// Two independent packages below each of which one is built.
async fn forest(client: &Client, failing: &str) -> [Package; 4] {
    let mut packages = Packages::default();
    let bad = packages.add("bad", &[failing], &[], &[]);
    let over_bad = packages.add("over-bad", &[], &[&bad], &[]);
    let good = packages.add("good", &["wait"], &[], &[]);
    let over_good = packages.add("over-good", &[], &[&good], &[]);
    send(client, &[&bad, &over_bad, &good, &over_good]).await;
    [bad, over_bad, good, over_good]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_ends_the_graph() {
    let world = World::new();
    let alice = world.account("alice").await;
    let [bad, over_bad, _, over_good] = forest(&alice, "fail:no rule to make target").await;
    let results = build_all(&alice, &[&over_bad, &over_good, &bad]).await;
    let text = |n: usize| told(&results[n]);
    assert_eq!(results[0].status, BuildStatus::DependencyFailed);
    assert!(text(0).starts_with(&format!(
        "cannot build '{}', which needs '{}': ",
        over_bad.path(),
        bad.path()
    )));
    assert!(text(0).contains("no rule to make target"), "{}", text(0));
    assert_eq!(results[1].status, BuildStatus::MiscFailure);
    assert!(text(1).contains("FIRN_KEEP_GOING=true"), "{}", text(1));
    assert_eq!(results[2].status, BuildStatus::PermanentFailure);
    // What has begun beside it is finished, and nobody has thrown anything away.
    world.builder.release(1);
    world.idle().await;
    assert_eq!(world.builder.counts().cancelled, 0);
    assert_eq!(world.db.marks(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keep_going_the_rest_is_built() {
    let world = World::new();
    let alice = world.account("alice").await;
    world
        .desk("alice")
        .await
        .set(None, "keep-going", Some("true"))
        .await
        .unwrap();
    let [bad, over_bad, good, over_good] = forest(&alice, "fail:as asked").await;
    world.builder.release(1);
    let results = build_all(&alice, &[&over_bad, &over_good]).await;
    assert_eq!(results[0].status, BuildStatus::DependencyFailed);
    assert_eq!(results[1].status, BuildStatus::Built);
    assert!(is_valid(&alice, &good.out()).await && !is_valid(&alice, &bad.out()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn derivations_that_lie_are_refused() {
    let world = World::new();
    let alice = world.account("alice").await;
    let mut packages = Packages::default();
    let low = packages.add("low", &[], &[], &[]);
    let wanted = low.out();
    let lying = |change: fn(&mut firn_nix::Derivation, firn_nix::StorePath)| {
        let mut packages = Packages::default();
        let mut drv = packages.add("low", &["log:not what the path says"], &[], &[]).drv;
        change(&mut drv, wanted.clone());
        packages.finish("low", drv)
    };
    // A path that belongs to another derivation, in the output or in the environment.
    let output = lying(|drv, path| {
        drv.basic
            .env
            .insert(b"out".to_vec(), path.to_string().into_bytes());
        drv.basic
            .outputs
            .insert("out".into(), DerivationOutput::InputAddressed(path));
    });
    let environment = lying(|drv, path| {
        drv.basic
            .env
            .insert(b"out".to_vec(), path.to_string().into_bytes());
    });
    send(&alice, &[&low, &output, &environment]).await;
    for (drv, why) in [
        (&output, "but its graph gives"),
        (&environment, "in its environment for its output 'out'"),
    ] {
        let results = build_all(&alice, &[drv, &low]).await;
        assert_eq!(results[0].status, BuildStatus::InputRejected);
        let text = told(&results[0]);
        assert!(
            text.contains(why) && text.contains(&drv.path().to_string()),
            "{text}"
        );
        assert!(results[1].status.is_success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_must_belong_to_its_path() {
    let world = World::new();
    let alice = world.account("alice").await;
    let mut packages = Packages::default();
    let honest = packages.add("low", &[], &[], &[]);
    // The same path with another text, without the content address that would have been checked.
    let other = packages.add("low", &["log:evil"], &[], &[]);
    let mut item = other.item.clone();
    item.info.path = honest.path();
    item.info.ca = None;
    upload(&alice, &[&item]).await.unwrap();
    let results = build_all(&alice, &[&honest]).await;
    let text = told(&results[0]);
    assert!(text.contains("has a text that belongs to"), "{text}");
    // Nor does it help that somebody else has the right one.
    let bob = world.account("bob").await;
    send(&bob, &[&honest]).await;
    assert!(build_all(&bob, &[&honest]).await[0].status.is_success());
    let results = build_all(&alice, &[&honest]).await;
    assert_eq!(results[0].status, BuildStatus::InputRejected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told() {
    let world = World::new();
    let alice = world.account("alice").await;
    let low = Packages::default().add("low", &[], &[], &[]);
    let results = realise(
        &alice,
        &[low.target(), DerivedPath::Opaque(path("nothing"))],
        BuildMode::Normal,
    )
    .await;
    for result in results.0.unwrap() {
        assert_eq!(result.status, BuildStatus::NoSubstituters);
        assert!(told(&result).contains("is not valid"));
    }
    let missing = alice.query_missing(vec![low.target()]).await.unwrap();
    assert_eq!(missing.unknown, [low.path()].into());
    let text = text_item("text", "text", &[]);
    upload(&alice, &[&text]).await.unwrap();
    let results = realise(&alice, &[DerivedPath::Opaque(text.info.path)], BuildMode::Normal).await;
    assert_eq!(results.0.unwrap()[0].status, BuildStatus::AlreadyValid);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_graph_are_built_once_for_many() {
    let world = World::new();
    let clients = [world.account("alice").await, world.account("bob").await];
    let mut packages = Packages::default();
    let low = packages.add("low", &["wait"], &[], &[]);
    let [one, other] = ["one", "other"].map(|name| packages.add(name, &[], &[&low], &[]));
    for client in &clients {
        send(client, &[&low, &one, &other]).await;
    }
    let ask = |client: &Client, package: &Package| {
        let (client, package) = (client.clone(), package.clone());
        tokio::spawn(async move { build_all(&client, &[&package]).await })
    };
    let asked = [ask(&clients[0], &one), ask(&clients[1], &other)];
    world.builder.until(|counts| counts.waiting == 1).await;
    world.builder.release(1);
    for asked in asked {
        assert_eq!(asked.await.unwrap()[0].status, BuildStatus::Built);
    }
    assert_eq!(world.builder.counts().started, 3);
    let shared =
        |rungs: Vec<Option<Rung>>| rungs.contains(&Some(Rung::Joined)) || rungs.contains(&Some(Rung::Shared));
    assert!(shared(world.rungs("alice").await) || shared(world.rungs("bob").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_builds() {
    let world = World::with(|s| s.finish_left_builds = Duration::ZERO);
    let alice = world.account("alice").await;
    let [.., over_good] = forest(&alice, "wait").await;
    let asked = tokio::spawn(async move { build_all(&alice, &[&over_good]).await });
    world.builder.until(|counts| counts.waiting == 1).await;
    asked.abort();
    world.builder.until(|counts| counts.cancelled == 1).await;
    world.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_runs_the_targets_only() {
    let world = World::new();
    let alice = world.account("alice").await;
    let [_, _, high] = chain(&alice).await;
    build_all(&alice, &[&high]).await;
    let results = realise(&alice, &[high.target()], BuildMode::Check)
        .await
        .0
        .unwrap();
    assert!(results[0].status.is_success(), "{results:?}");
    assert_eq!(world.builder.counts().started, 4);
}
