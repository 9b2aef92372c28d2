//! Failures that Mallory had, and that are not the builder's own doing or not of Alice's build.

use firn_core::Rung;
use firn_protocol::{BuildMode, BuildOptions, BuildStatus};

use super::{Stage, sources};
use crate::support::{Asked, Client, Drv, build, fixed_without_path, item, path, upload};

/// Mallory has got a failure; Alice's build is run all the same.
async fn not_replayed(stage: &Stage, drv: &Drv) {
    stage.world.idle().await;
    let before = stage.runs();
    assert_eq!(build(&stage.alice, drv).await.done().status, BuildStatus::Built);
    assert_eq!(stage.runs(), before + 1);
    assert_eq!(stage.world.rungs("alice").await, [Some(Rung::Built)]);
}

async fn fails(client: &Client, drv: &Drv) -> BuildStatus {
    let status = build(client, drv).await.done().status;
    assert!(!status.is_success());
    status
}

/// A failure by his own time limit.
#[tokio::test(start_paused = true)]
async fn by_his_time_limit() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["wait"], &[]);
    for limits in [
        BuildOptions {
            timeout: Some(1),
            ..BuildOptions::default()
        },
        BuildOptions {
            max_silent_time: Some(1),
            ..BuildOptions::default()
        },
    ] {
        let asked = Asked::start(&stage.mallory, &drv, BuildMode::Normal, limits);
        assert_eq!(asked.answer().await.done().status, BuildStatus::TimedOut);
    }
    assert_eq!(stage.runs(), 1);
    stage.set("alice", "reuse-build-timeouts", "true").await;
    stage.world.builder.release(1);
    assert_eq!(build(&stage.alice, &drv).await.done().status, BuildStatus::Built);
    assert_eq!(stage.runs(), 1);
}

/// By his limit of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_his_log_limit() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["log:one\n", "log:two\n"], &[]);
    let limits = BuildOptions {
        max_log_size: Some(1),
        ..BuildOptions::default()
    };
    let asked = Asked::start(&stage.mallory, &drv, BuildMode::Normal, limits);
    let status = asked.answer().await.done().status;
    assert_eq!(status, BuildStatus::LogLimitExceeded);
    stage.world.idle().await;
    let answered = build(&stage.alice, &drv).await;
    assert!(answered.done().status.is_success());
}

/// By his going away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_cancelling() {
    let stage = Stage::stopping().await;
    let drv = Drv::new("thing", &["log:one\n", "wait"], &[]);
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("one").await;
    his.leave().await;
    stage.world.builder.until(|c| c.ended == 1).await;
    stage.world.builder.release(1);
    not_replayed(&stage, &drv).await;
}

/// By his going away just when the builder fails of itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_cancelling_a_builder_that_fails_of_it() {
    let stage = Stage::stopping().await;
    let drv = Drv::new("thing", &["log:one\n", "deaf", "fail-first:killed"], &[]);
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("one").await;
    stage.world.builder.until(|c| c.waiting == 1).await;
    his.leave().await;
    stage.world.marked(1).await;
    stage.world.builder.release(1);
    stage.world.builder.until(|c| c.ended == 1).await;
    stage.world.builder.release(1);
    not_replayed(&stage, &drv).await;
}

/// By the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_machine() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["break-first:no memory"], &[]);
    assert_eq!(fails(&stage.mallory, &drv).await, BuildStatus::TransientFailure);
    not_replayed(&stage, &drv).await;
}

/// By the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_database() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &[], &[]);
    stage.world.db.break_down(&["record_build"]);
    fails(&stage.mallory, &drv).await;
    stage.world.db.break_down(&[]);
    not_replayed(&stage, &drv).await;
}

/// A fetch that failed while its server was down, which may be Mallory's server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_fetch() {
    let stage = Stage::new().await;
    let mut drv = fixed_without_path("source");
    drv.drv.args.push(b"fail-first:cannot download".to_vec());
    assert_eq!(fails(&stage.mallory, &drv).await, BuildStatus::PermanentFailure);
    not_replayed(&stage, &drv).await;
}

/// A run after one that he left: whoever shops may shop for a failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_shopping_for_it() {
    let stage = Stage::stopping().await;
    let drv = Drv::new("thing", &["log:one\n", "wait", "fail-second:unlucky"], &[]);
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("one").await;
    his.leave().await;
    stage.world.builder.until(|c| c.ended == 1).await;
    stage.world.idle().await;
    stage.world.builder.release(2);
    fails(&stage.mallory, &drv).await;
    not_replayed(&stage, &drv).await;
}

/// A failure apart from the sharing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apart_from_the_sharing() {
    for setting in [("private", "true"), ("share-builds", "false")] {
        let stage = Stage::new().await;
        let drv = Drv::new("thing", &["fail-first:so"], &[]);
        stage.set("mallory", setting.0, setting.1).await;
        fails(&stage.mallory, &drv).await;
        not_replayed(&stage, &drv).await;
    }
}

/// A failure of a run that was asked for on purpose.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_check() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["fail-first:so"], &[]);
    let status = crate::support::check(&stage.mallory, &drv).await.done().status;
    assert_eq!(status, BuildStatus::PermanentFailure);
    not_replayed(&stage, &drv).await;
}

/// A true failure of a derivation that differs in a variable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_another_derivation() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["fail-first:so"], &[]);
    let mut other = drv.clone();
    other.drv.env.insert(b"A".into(), b"1".into());
    fails(&stage.mallory, &other).await;
    not_replayed(&stage, &drv).await;
}

/// A true failure from other bytes of an input.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_another_input() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    let drv = Drv::new("thing", &["fail-first:so"], &[&path("input")]);
    upload(&stage.mallory, &[&item(&path("deep"), "evil", &[]), &input])
        .await
        .unwrap();
    fails(&stage.mallory, &drv).await;
    upload(&stage.alice, &[&deep, &input]).await.unwrap();
    not_replayed(&stage, &drv).await;
}

/// A failure after which the same build succeeded: the result answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_somebody_else_did_not_have() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["fail-first:so"], &[]);
    fails(&stage.mallory, &drv).await;
    let bob = stage.world.account("bob").await;
    stage.set("bob", "reuse-build-failures", "false").await;
    assert_eq!(build(&bob, &drv).await.done().status, BuildStatus::Built);
    assert_eq!(build(&stage.alice, &drv).await.done().status, BuildStatus::Built);
    assert_eq!(stage.world.rungs("alice").await, [Some(Rung::Shared)]);
}

/// A true failure of the same build is replayed, under Alice's name for it, and not when she does not want that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_is_true() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["log:oh\n", "fail:so"], &[]);
    let his = drv.under_another_path();
    fails(&stage.mallory, &his).await;
    let answered = build(&stage.alice, &drv).await;
    assert_eq!(answered.lines()[0], "oh");
    let said = format!("{:?}", answered.events);
    assert!(!said.contains(&his.path.to_string()), "{said}");
    let result = answered.done();
    assert_eq!(result.status, BuildStatus::PermanentFailure);
    let text = String::from_utf8(result.error_msg).unwrap();
    assert_eq!(text, format!("builder for '{}' failed: so", drv.path));
    assert_eq!(stage.runs(), 1);
    stage.set("alice", "reuse-build-failures", "false").await;
    fails(&stage.alice, &drv).await;
    assert_eq!(stage.runs(), 2);
}
