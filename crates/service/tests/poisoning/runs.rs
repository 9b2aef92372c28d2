//! Runs that Mallory started, or makes Alice wait for.

use firn_core::Rung;
use firn_protocol::{BuildMode, BuildOptions, BuildStatus};
use firn_service::ports::Accounts as _;

use super::{Stage, sources, victim};
use crate::support::{Asked, Drv, World, build, bytes, is_valid, upload};

/// A run that Mallory started with the shortest limits there are, and Alice joined.
#[tokio::test(start_paused = true)]
async fn a_joined_run_with_time_limits() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["log:begun\n", "wait"], &[]);
    let limits = BuildOptions {
        timeout: Some(1),
        max_silent_time: Some(1),
        max_log_size: None,
    };
    let his = Asked::start(&stage.mallory, &drv, BuildMode::Normal, limits);
    stage.world.builder.until(|c| c.waiting == 1).await;
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("begun").await;
    assert_eq!(his.answer().await.done().status, BuildStatus::TimedOut);
    stage.world.builder.release(1);
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    assert_eq!(stage.runs(), 1);
}

/// The same with a limit of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joined_run_with_a_log_limit() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["log:begun\n", "wait", "log:more\n"], &[]);
    let limits = BuildOptions {
        max_log_size: Some(7),
        ..BuildOptions::default()
    };
    let mut his = Asked::start(&stage.mallory, &drv, BuildMode::Normal, limits);
    his.saw("begun").await;
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("begun").await;
    stage.world.builder.release(1);
    assert_eq!(his.answer().await.done().status, BuildStatus::LogLimitExceeded);
    let hers = hers.answer().await;
    assert_eq!(hers.lines()[..2], ["begun", "more"]);
    assert_eq!(hers.done().status, BuildStatus::Built);
}

/// Limits as settings, of the session and of the derivation.
#[tokio::test(start_paused = true)]
async fn a_joined_run_with_limits_as_settings() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["log:begun\n", "wait"], &[]);
    let his = stage
        .mallory_with(&[("FIRN_TIMEOUT", "1"), ("FIRN_KEEP_BUILDS_RUNNING", "1")])
        .await;
    let his = Asked::plain(&his, &drv);
    stage.world.builder.until(|c| c.waiting == 1).await;
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("begun").await;
    assert_eq!(his.answer().await.done().status, BuildStatus::TimedOut);
    stage.world.builder.release(1);
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
}

/// A run that Mallory started under another name and left to Alice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joined_run_that_he_leaves() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["log:begun\n", "wait"], &[]);
    let mut his = Asked::plain(&stage.mallory, &drv.under_another_path());
    his.saw("begun").await;
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("begun").await;
    his.leave().await;
    stage.world.builder.release(1);
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    assert!(is_valid(&stage.alice, &drv.out()).await && !is_valid(&stage.mallory, &drv.out()).await);
}

/// A run that goes on without him: it is a run like any other, and cannot be left any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_kept_running() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["log:begun\n", "wait", "random"], &[]);
    let his = stage.mallory_with(&[("FIRN_KEEP_BUILDS_RUNNING", "1")]).await;
    for _ in 0..3 {
        let mut asked = Asked::plain(&his, &drv);
        asked.saw("begun").await;
        asked.leave().await;
    }
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("begun").await;
    stage.world.builder.release(1);
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    assert_eq!(stage.runs(), 1);
    assert_eq!(stage.world.rungs("alice").await, [Some(Rung::Joined)]);
}

/// He leaves while a run dies, and comes again at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dying_run() {
    let stage = Stage::stopping().await;
    let drv = Drv::new("thing", &["log:begun\n", "stubborn"], &[]);
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("begun").await;
    his.leave().await;
    stage.world.builder.until(|c| c.cancelled == 1).await;
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("begun").await;
    stage.world.builder.until(|c| c.waiting == 3).await;
    stage.world.builder.release(2);
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    assert_eq!(stage.world.rungs("alice").await, [Some(Rung::Built)]);
}

/// The queue is full of his builds: hers comes late, and is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue() {
    let stage = Stage::on(World::with(|s| s.max_jobs = 1)).await;
    let [input, deep] = sources();
    let busy: Vec<Asked> = (0..20)
        .map(|n| Asked::plain(&stage.mallory, &Drv::new(&format!("busy-{n}"), &["wait"], &[])))
        .collect();
    stage.world.builder.until(|c| c.waiting == 1).await;
    upload(&stage.alice, &[&deep, &input]).await.unwrap();
    let hers = Asked::plain(&stage.alice, &victim());
    stage.world.builder.release(20);
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    for asked in busy {
        asked.answer().await.done();
    }
    let got = bytes(&stage.alice, &victim().out()).await.unwrap();
    assert_eq!(got, super::alone(&[&deep, &input], &victim()).await.1[0].1);
}

/// A flood of runs that are begun and left: each is one of his, and Alice's are shared as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_left_runs() {
    let stage = Stage::stopping().await;
    for n in 0..50 {
        let mut asked = Asked::plain(
            &stage.mallory,
            &Drv::new(&format!("n-{n}"), &["log:x\n", "wait"], &[]),
        );
        asked.saw("x").await;
        asked.leave().await;
    }
    let drv = Drv::new("thing", &["random"], &[]);
    build(&stage.alice, &drv).await.done();
    let bob = stage.world.account("bob").await;
    build(&bob, &drv).await.done();
    assert_eq!(stage.world.rungs("bob").await, [Some(Rung::Shared)]);
}

/// His account is removed while a run of his goes on that Alice has joined: whatever she is told, she has nothing wrong, and her next request
/// is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_that_started_it_is_removed() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["log:begun\n", "wait"], &[]);
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("begun").await;
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("begun").await;
    let mallory = stage.world.named("mallory").await;
    stage.world.db.remove_account(&mallory.name).await.unwrap();
    stage.world.builder.release(2);
    let first = hers.answer().await.done().status;
    let _ = his.answer().await.result;
    assert!(
        [BuildStatus::Built, BuildStatus::TransientFailure].contains(&first),
        "{first:?}"
    );
    let again = build(&stage.alice, &drv).await.done().status;
    assert!(again.is_success(), "{again:?}");
    let world = World::new();
    let alone = world.account("alice").await;
    world.builder.release(1);
    build(&alone, &drv).await.done();
    assert_eq!(
        bytes(&stage.alice, &drv.out()).await.unwrap(),
        bytes(&alone, &drv.out()).await.unwrap()
    );
}
