//! Why a build was run: which input differs, who brought it, and where that begins.

use firn_core::Step;
use firn_service::{Brought, BuildExplanation, Cause};

use crate::support::{Client, Drv, World, build, check, item, path, upload};

/// Four derivations, each of which sees the one below; the lowest turns out otherwise each time.
fn chain() -> [Drv; 4] {
    let low = Drv::new("low", &["random"], &[]);
    let one = Drv::new("one", &[], &[&low.out()]);
    let two = Drv::new("two", &[], &[&one.out()]);
    let top = Drv::new("top", &[], &[&two.out()]);
    [low, one, two, top]
}

async fn build_all(client: &Client, drvs: &[Drv]) {
    for drv in drvs {
        assert!(build(client, drv).await.done().status.is_success());
    }
}

async fn explain(world: &World, account: &str, drv: &Drv) -> BuildExplanation {
    let desk = world.desk(account).await;
    let found = desk.explain_build(&drv.path.to_string()).await.unwrap();
    found.expect("there was a request")
}

fn the_cause(explanation: &BuildExplanation) -> &Cause {
    let compared = explanation.compared.as_ref().unwrap();
    assert!(compared.complete);
    assert_eq!(compared.causes.len(), 1, "{compared:?}");
    &compared.causes[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_upload_explains_every_build_above_it() {
    let world = World::new();
    let (alice, carol) = (world.account("alice").await, world.account("carol").await);
    let drvs = chain();
    build_all(&alice, &drvs).await;
    let low = drvs[0].out();
    let hers = item(&low, "other bytes", &[]);
    upload(&carol, &[&hers]).await.unwrap();
    build_all(&carol, &drvs[1..]).await;

    for (height, drv) in drvs.iter().enumerate().skip(1) {
        let explanation = explain(&world, "carol", drv).await;
        assert_eq!(explanation.request.rung.unwrap().name(), "built");
        let cause = the_cause(&explanation);
        assert_eq!(cause.path, low);
        assert_eq!(
            cause.step,
            Step::Brought {
                first: true,
                second: false
            }
        );
        assert_eq!(cause.now.brought, Brought::Uploaded);
        assert_eq!(cause.now.content, Some(hers.info.nar_hash));
        assert_eq!(cause.before.brought, Brought::AnotherAccount);
        assert_eq!(cause.before.content, None, "another account's bytes are its own");
        assert_eq!(cause.through.len(), height);
        let compared = explanation.compared.as_ref().unwrap();
        assert_eq!(compared.with, None);
        assert_eq!(compared.inputs.len(), 1);
        assert_eq!(compared.inputs[0].path, drvs[height - 1].out());
    }
    // Alice's were the first.
    let first = explain(&world, "alice", &drvs[3]).await;
    assert!(first.compared.is_none());
    // By number, too; and nobody else's.
    let desk = world.desk("carol").await;
    let id = explain(&world, "carol", &drvs[3])
        .await
        .build
        .unwrap()
        .to_string();
    assert!(desk.explain_build(&id).await.unwrap().is_some());
    let others = world.desk("alice").await;
    assert!(others.explain_build(&id).await.unwrap().is_none());
    assert!(
        desk.explain_build(&drvs[0].path.to_string())
            .await
            .unwrap()
            .is_none()
    );
    assert!(desk.explain_build("nonsense").await.unwrap().is_none());
    // By the name of the package.
    let name = drvs[3].path.derivation_name().unwrap();
    let explained = desk.explain_build(name).await.unwrap().unwrap();
    assert_eq!(explained.request.drv_path, drvs[3].path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_derivation_that_does_not_build_reproducibly_is_named() {
    let world = World::new();
    // They keep their builds for themselves, so that each runs its own.
    let alice = world.account("alice").await;
    let drvs = chain();
    build_all(&alice, &drvs).await;
    // All that she had is gone, and what was shared too: it is built again and turns out otherwise.
    let desk = world.desk("alice").await;
    let outputs: Vec<String> = drvs.iter().map(|drv| drv.out().to_string()).collect();
    desk.forget(&outputs).await.unwrap();
    desk.set(None, "share-builds", Some("false")).await.unwrap();
    let bob = world.account("bob").await;
    world
        .desk("bob")
        .await
        .set(None, "share-builds", Some("false"))
        .await
        .unwrap();
    build_all(&bob, &drvs).await;
    // Bob neither gives nor takes: he knows of his own runs only.
    assert!(explain(&world, "bob", &drvs[3]).await.compared.is_none());

    check(&bob, &drvs[0]).await.done();
    let explanation = explain(&world, "bob", &drvs[0]).await;
    assert!(explanation.compared.as_ref().unwrap().same);
    let cause = the_cause(&explanation);
    assert_eq!((cause.step, &cause.path), (Step::Irreproducible, &drvs[0].out()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_the_account_changed_itself() {
    let world = World::new();
    let alice = world.account("alice").await;
    let source = path("source");
    let (old, new) = (item(&source, "1", &[]), item(&source, "2", &[]));
    let drv = Drv::new("thing", &[], &[&source]);
    upload(&alice, &[&old]).await.unwrap();
    build(&alice, &drv).await.done();
    let desk = world.desk("alice").await;
    desk.forget(&[source.to_string(), drv.out().to_string()])
        .await
        .unwrap();
    upload(&alice, &[&new]).await.unwrap();
    build(&alice, &drv).await.done();
    let explanation = explain(&world, "alice", &drv).await;
    let cause = the_cause(&explanation);
    assert_eq!(
        cause.step,
        Step::Brought {
            first: true,
            second: true
        }
    );
    assert_eq!(cause.now.brought, Brought::Uploaded);
    assert_eq!(cause.before.brought, Brought::Forgotten);
    assert_eq!(cause.before.content, Some(old.info.nar_hash));
    assert!(explanation.compared.unwrap().with.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_build_is_compared_too() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let source = path("source");
    let drv = Drv::new("thing", &["log:one\n", "fail:status 3"], &[&source]);
    for (client, text) in [(&alice, "1"), (&bob, "2")] {
        upload(client, &[&item(&source, text, &[])]).await.unwrap();
        build(client, &drv).await.done();
    }
    let explanation = explain(&world, "bob", &drv).await;
    assert_eq!(explanation.request.rung, None);
    assert_eq!(the_cause(&explanation).path, source);
    assert!(!explanation.compared.unwrap().succeeded);
}

/// Paths that only another account's run had are not named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_another_account_had_is_counted_and_not_named() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (source, secret) = (path("source"), path("secret-project"));
    upload(
        &alice,
        &[&item(&secret, "s", &[]), &item(&source, "1", &[&secret])],
    )
    .await
    .unwrap();
    upload(&bob, &[&item(&source, "1", &[])]).await.unwrap();
    let drv = Drv::new("thing", &[], &[&source]);
    build(&alice, &drv).await.done();
    build(&bob, &drv).await.done();
    let explanation = explain(&world, "bob", &drv).await;
    let shown = format!("{explanation:?}");
    assert!(!shown.contains("secret"), "{shown}");
    assert_eq!(explanation.compared.unwrap().inputs_of_others, 1);
}
