//! Trust, privacy and accounts that change in the middle.

use firn_core::{AccountName, Rung, Trust};
use firn_protocol::BuildStatus;
use firn_service::ports::Accounts as _;

use super::{Stage, sources, victim};
use crate::support::{Asked, Drv, build, bytes, is_valid, item, path, upload};

async fn relate(stage: &Stage, level: Option<Trust>) {
    let (alice, mallory) = (stage.world.desk("alice").await, stage.world.desk("mallory").await);
    alice.trust("mallory", level).await.unwrap();
    mallory.let_read("alice", level).await.unwrap();
}

/// Trusted once, malicious after it: what he brings then is not seen, what he built is gone with the trust.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malicious_after_trust_was_taken_back() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    relate(&stage, Some(Trust::Uploads)).await;
    upload(&stage.mallory, &[&deep, &input]).await.unwrap();
    assert!(is_valid(&stage.alice, &path("input")).await);
    stage
        .world
        .desk("alice")
        .await
        .trust("mallory", None)
        .await
        .unwrap();
    assert!(!is_valid(&stage.alice, &path("input")).await);
    let evil = item(&path("deep"), "evil", &[]);
    upload(&stage.mallory, &[&evil]).await.unwrap();
    build(&stage.mallory, &victim()).await.done();
    assert!(!is_valid(&stage.alice, &victim().out()).await);
    stage.unharmed(&[&deep, &input], &victim()).await;
}

/// Malicious while trusted: when trust is taken back, Alice's build from her own inputs is hers again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malicious_before_trust_is_taken_back() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    relate(&stage, Some(Trust::Uploads)).await;
    upload(&stage.mallory, &[&item(&path("deep"), "evil", &[]), &input])
        .await
        .unwrap();
    build(&stage.mallory, &victim()).await.done();
    assert!(is_valid(&stage.alice, &victim().out()).await, "as she wished");
    stage
        .world
        .desk("alice")
        .await
        .trust("mallory", None)
        .await
        .unwrap();
    stage.unharmed(&[&deep, &input], &victim()).await;
}

/// Trusted for his builds: his uploads are not believed, and neither is a build that Alice makes of anything but hers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_one_trusted_for_builds() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    relate(&stage, Some(Trust::Builds)).await;
    upload(&stage.mallory, &[&item(&path("deep"), "evil", &[]), &input])
        .await
        .unwrap();
    upload(&stage.mallory, &[&item(&victim().out(), "evil", &[])])
        .await
        .unwrap();
    assert!(!is_valid(&stage.alice, &victim().out()).await);
    stage.unharmed(&[&deep, &input], &victim()).await;
}

/// Trust that he declares, in Alice and for her reading, is nothing that she has decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_that_only_he_declares() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    let desk = stage.world.desk("mallory").await;
    desk.trust("alice", Some(Trust::Uploads)).await.unwrap();
    desk.let_read("alice", Some(Trust::Uploads)).await.unwrap();
    upload(&stage.mallory, &[&item(&path("deep"), "evil", &[]), &input])
        .await
        .unwrap();
    build(&stage.mallory, &victim()).await.done();
    assert!(!is_valid(&stage.alice, &victim().out()).await);
    stage.unharmed(&[&deep, &input], &victim()).await;
}

/// Trust in one whom he trusts is not trust in him.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_friend() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    stage.world.account("bob").await;
    let (alice, bob) = (stage.world.desk("alice").await, stage.world.desk("bob").await);
    alice.trust("bob", Some(Trust::Uploads)).await.unwrap();
    bob.let_read("alice", Some(Trust::Uploads)).await.unwrap();
    bob.trust("mallory", Some(Trust::Uploads)).await.unwrap();
    let mallory = stage.world.desk("mallory").await;
    mallory.let_read("bob", Some(Trust::Uploads)).await.unwrap();
    upload(&stage.mallory, &[&item(&path("deep"), "evil", &[]), &input])
        .await
        .unwrap();
    build(&stage.mallory, &victim()).await.done();
    assert!(!is_valid(&stage.alice, &victim().out()).await);
    stage.unharmed(&[&deep, &input], &victim()).await;
}

/// Another account under the name of one that Alice trusted and that was removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_name_of_a_trusted_account() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    stage.world.account("bob").await;
    let (alice, bob) = (stage.world.desk("alice").await, stage.world.desk("bob").await);
    alice.trust("bob", Some(Trust::Uploads)).await.unwrap();
    bob.let_read("alice", Some(Trust::Uploads)).await.unwrap();
    let name = AccountName::parse("bob").unwrap();
    stage.world.db.remove_account(&name).await.unwrap();
    let evil = stage.world.account("bob").await;
    let bob = stage.world.desk("bob").await;
    bob.let_read("alice", Some(Trust::Uploads)).await.unwrap();
    upload(&evil, &[&item(&path("deep"), "evil", &[]), &input])
        .await
        .unwrap();
    build(&evil, &victim()).await.done();
    assert!(!is_valid(&stage.alice, &victim().out()).await);
    stage.unharmed(&[&deep, &input], &victim()).await;
}

/// Trust is taken back while Alice's build from his inputs runs: the run ends, and its output has nothing to stand on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_is_taken_back_while_a_build_runs() {
    let stage = Stage::new().await;
    relate(&stage, Some(Trust::Uploads)).await;
    upload(&stage.mallory, &[&item(&path("deep"), "evil", &[])])
        .await
        .unwrap();
    let drv = Drv::new("thing", &["wait"], &[&path("deep")]).referring(&[&path("deep")]);
    let hers = Asked::plain(&stage.alice, &drv);
    stage.world.builder.until(|c| c.waiting == 1).await;
    stage
        .world
        .desk("alice")
        .await
        .trust("mallory", None)
        .await
        .unwrap();
    stage.world.builder.release(1);
    hers.answer().await.done();
    assert!(!is_valid(&stage.alice, &drv.out()).await);
    // With her own input it is another build.
    let right = item(&path("deep"), "deep", &[]);
    upload(&stage.alice, &[&right]).await.unwrap();
    stage
        .world
        .desk("alice")
        .await
        .forget(&[drv.out().to_string()])
        .await
        .unwrap();
    stage.world.builder.release(1);
    assert_eq!(build(&stage.alice, &drv).await.done().status, BuildStatus::Built);
    assert_eq!(stage.runs(), 2);
    let inputs = stage.world.builder.jobs()[1].inputs.clone();
    assert_eq!(inputs.objects().next().unwrap().content, right.info.nar_hash);
}

/// He leaves the sharing, or goes private, while a run of his goes on that Alice has joined: she gets that run's result, which is what her
/// own run is, or runs hers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn he_withdraws_while_his_run_is_joined() {
    for (setting, value) in [("share-builds", "false"), ("private", "true")] {
        let stage = Stage::new().await;
        let drv = Drv::new("thing", &["log:begun\n", "wait"], &[]);
        let mut his = Asked::plain(&stage.mallory, &drv);
        his.saw("begun").await;
        let mut hers = Asked::plain(&stage.alice, &drv);
        hers.saw("begun").await;
        stage.set("mallory", setting, value).await;
        upload(&stage.mallory, &[&item(&drv.out(), "evil", &[])])
            .await
            .unwrap();
        stage.world.builder.release(2);
        assert!(hers.answer().await.done().status.is_success());
        his.answer().await.done();
        let world = crate::support::World::new();
        let alone = world.account("alice").await;
        world.builder.release(1);
        build(&alone, &drv).await.done();
        assert_eq!(
            bytes(&stage.alice, &drv.out()).await.unwrap(),
            bytes(&alone, &drv.out()).await.unwrap()
        );
    }
}

/// He joins the sharing in the middle of a run of his own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn he_begins_to_share_while_his_run_goes_on() {
    let stage = Stage::new().await;
    stage.set("mallory", "share-builds", "false").await;
    let drv = Drv::new("thing", &["log:begun\n", "wait", "random"], &[]);
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("begun").await;
    stage.set("mallory", "share-builds", "true").await;
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("begun").await;
    stage.world.builder.release(2);
    his.answer().await.done();
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    assert_eq!(stage.world.rungs("alice").await, [Some(Rung::Built)]);
    assert_ne!(
        bytes(&stage.alice, &drv.out()).await.unwrap(),
        bytes(&stage.mallory, &drv.out()).await.unwrap()
    );
}

/// His account is removed after he shared: what he shared was what Alice's own run gives, and stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn he_is_removed_after_sharing() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    upload(&stage.mallory, &[&deep, &input]).await.unwrap();
    build(&stage.mallory, &victim()).await.done();
    let name = AccountName::parse("mallory").unwrap();
    stage.world.db.remove_account(&name).await.unwrap();
    stage.unharmed(&[&deep, &input], &victim()).await;
    assert_eq!(stage.runs(), 1);
}
