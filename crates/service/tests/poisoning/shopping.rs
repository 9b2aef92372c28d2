//! Shopping for an outcome: the builds here turn out differently each time, and Mallory wants Alice to get the one that suits him.

use firn_core::Rung;
use firn_protocol::{BuildMode, BuildOptions, BuildStatus};

use super::Stage;
use crate::support::{Asked, Drv, build, bytes, check, fixed_without_path, is_valid};

/// Says how it turns out, then waits.
fn chance() -> Drv {
    Drv::new("chance", &["log:as it turns out\n", "wait", "random"], &[])
}

async fn left(stage: &Stage, drv: &Drv) {
    let before = stage.world.builder.counts();
    let mut asked = Asked::plain(&stage.mallory, drv);
    asked.saw("as it turns out").await;
    asked.leave().await;
    stage.world.builder.until(|c| c.ended == before.started + 1).await;
    stage.world.idle().await;
}

/// Alice's own run, whatever Mallory has.
async fn alices_own(stage: &Stage, drv: &Drv) {
    let before = stage.runs();
    stage.world.builder.release(1);
    assert_eq!(build(&stage.alice, drv).await.done().status, BuildStatus::Built);
    assert_eq!(stage.runs(), before + 1);
    assert_eq!(stage.world.rungs("alice").await, [Some(Rung::Built)]);
    if is_valid(&stage.mallory, &drv.out()).await {
        let [hers, his] = [
            bytes(&stage.alice, &drv.out()).await.unwrap(),
            bytes(&stage.mallory, &drv.out()).await.unwrap(),
        ];
        assert_ne!(hers, his);
    }
}

/// The one run that there is answers everybody.
async fn one_for_all(stage: &Stage, drv: &Drv) {
    stage.world.builder.release(1);
    for client in [&stage.mallory, &stage.alice] {
        assert_eq!(build(client, drv).await.done().status, BuildStatus::Built);
    }
    let [hers, his] = [
        bytes(&stage.alice, &drv.out()).await.unwrap(),
        bytes(&stage.mallory, &drv.out()).await.unwrap(),
    ];
    assert_eq!(hers, his);
    assert_eq!(stage.runs(), 1);
    assert_eq!(stage.world.db.marks(), []);
}

/// Leaves a run that does not suit, by closing the connection: it goes on, and he comes to it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_left_until_one_suits() {
    let stage = Stage::new().await;
    let drv = chance();
    for _ in 0..3 {
        let mut asked = Asked::plain(&stage.mallory, &drv);
        asked.saw("as it turns out").await;
        asked.leave().await;
    }
    assert_eq!(stage.runs(), 1);
    one_for_all(&stage, &drv).await;
}

/// The same from many sessions, with every setting that a session can bring.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_left_by_many_sessions() {
    let stage = Stage::new().await;
    let drv = chance();
    for variables in [
        &[][..],
        &[("FIRN_TIMEOUT", "3600")],
        &[("FIRN_REUSE_BUILD_FAILURES", "false")],
        &[("FIRN_KEEP_BUILDS_RUNNING", "false")],
    ] {
        let session = stage.mallory_with(variables).await;
        let mut asked = Asked::plain(&session, &drv);
        asked.saw("as it turns out").await;
        asked.leave().await;
    }
    assert_eq!(stage.runs(), 1);
    one_for_all(&stage, &drv).await;
}

/// Leaves by a limit of his own: so much log, and the run is over for him.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_left_by_a_log_limit() {
    let stage = Stage::new().await;
    let drv = chance();
    let limit = BuildOptions {
        max_log_size: Some(3),
        ..BuildOptions::default()
    };
    let asked = Asked::start(&stage.mallory, &drv, BuildMode::Normal, limit);
    assert_eq!(asked.answer().await.done().status, BuildStatus::LogLimitExceeded);
    one_for_all(&stage, &drv).await;
}

/// Leaves, and nobody comes before the run is stopped: what he runs then is his own, and he is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_left_until_they_are_stopped() {
    let stage = Stage::stopping().await;
    let drv = chance();
    left(&stage, &drv).await;
    left(&stage, &drv).await;
    stage.world.builder.release(1);
    let answered = build(&stage.mallory, &drv).await;
    let last = answered.lines().pop().unwrap();
    let told = "for this account alone: an earlier run of it was left by everybody before its end";
    assert!(last.contains(told), "{last}");
    answered.done();
    let asked = stage.world.requests("mallory").await;
    assert!(asked.last().unwrap().reason.contains(told), "{asked:?}");
    alices_own(&stage, &drv).await;
    // With hers there is nothing to choose any more.
    assert_eq!(stage.world.db.marks(), []);
    let bob = stage.world.account("bob").await;
    build(&bob, &drv).await.done();
    assert_eq!(stage.world.rungs("bob").await, [Some(Rung::Shared)]);
}

/// The same, and Alice asks while the one that suits is still running: she does not join it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_run_that_suits_is_joined() {
    let stage = Stage::stopping().await;
    let drv = chance();
    left(&stage, &drv).await;
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("as it turns out").await;
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("as it turns out").await;
    stage.world.builder.release(2);
    his.answer().await.done();
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    assert_eq!(stage.world.rungs("alice").await, [Some(Rung::Built)]);
}

/// With two accounts: who took part in the run that was stopped leads none, whoever left it last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_accounts_leave_by_turns() {
    for first_goes_first in [true, false] {
        let stage = Stage::stopping().await;
        let drv = chance();
        let other = stage.world.account("malcolm").await;
        let mut his = Asked::plain(&stage.mallory, &drv);
        his.saw("as it turns out").await;
        let mut others = Asked::plain(&other, &drv);
        others.saw("as it turns out").await;
        assert_eq!(stage.runs(), 1);
        let (first, last) = match first_goes_first {
            true => (his, others),
            false => (others, his),
        };
        first.leave().await;
        last.leave().await;
        stage.world.builder.until(|c| c.ended == 1).await;
        stage.world.marked(2).await;
        stage.world.builder.release(1);
        build(&other, &drv).await.done();
        assert_eq!(stage.world.db.shared_results(), 0);
        alices_own(&stage, &drv).await;
    }
}

/// The service is started again between the two: it remembers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_starts_again_between() {
    let mut stage = Stage::stopping().await;
    let drv = chance();
    left(&stage, &drv).await;
    stage.world.restart();
    stage.mallory = stage.world.client("mallory").await;
    stage.alice = stage.world.client("alice").await;
    stage.world.builder.release(1);
    build(&stage.mallory, &drv).await.done();
    assert_eq!(stage.world.db.shared_results(), 0);
    alices_own(&stage, &drv).await;
}

/// The database fails just when it is to remember.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_fails_in_between() {
    let stage = Stage::stopping().await;
    let drv = chance();
    stage.world.db.break_down(&["add_marks"]);
    left(&stage, &drv).await;
    assert_eq!(stage.world.db.marks(), []);
    stage.world.db.break_down(&[]);
    stage.world.builder.release(1);
    build(&stage.mallory, &drv).await.done();
    assert_eq!(stage.world.db.shared_results(), 0);
    alices_own(&stage, &drv).await;
}

/// A run of his breaks when it turns out otherwise than he wishes: by the machine, for want of memory, by the limit of the log, by a fault of the
/// service, by the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_without_an_outcome() {
    for step in [
        "break-first:no disk",
        "exhausted-first",
        "log-limit-first",
        "panic-first",
        "record_build",
    ] {
        let stage = Stage::new().await;
        let mut args = vec!["log:as it turns out\n", step, "random"];
        if step == "record_build" {
            args.remove(1);
            stage.world.db.break_down(&["record_build"]);
        }
        let drv = Drv::new("chance", &args, &[]);
        let first = build(&stage.mallory, &drv).await.done();
        assert!(!first.status.is_success(), "{step}: {first:?}");
        stage.world.idle().await;
        stage.world.db.break_down(&[]);
        let answered = build(&stage.mallory, &drv).await;
        let last = answered.lines().pop().unwrap();
        assert!(
            last.contains("for this account alone: an earlier run"),
            "{step}: {last}"
        );
        answered.done();
        assert_eq!(stage.world.db.shared_results(), 0, "{step}");
        alices_own(&stage, &drv).await;
    }
}

/// What is thrown away of a fixed output chooses nothing, and marks nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fixed_output_is_left() {
    let stage = Stage::stopping().await;
    let mut drv = fixed_without_path("source");
    drv.drv.args = vec![b"log:as it turns out\n".to_vec(), b"wait".to_vec()];
    left(&stage, &drv).await;
    assert_eq!(stage.world.db.marks(), []);
}

/// A marked account takes what is shared, even when it has run the same meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_left_takes_what_is_shared() {
    let stage = Stage::stopping().await;
    let drv = chance();
    left(&stage, &drv).await;
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("as it turns out").await;
    stage.world.builder.until(|c| c.waiting == 2).await;
    let hers = Asked::plain(&stage.alice, &drv);
    stage.world.builder.until(|c| c.waiting == 3).await;
    stage.world.builder.release(2);
    hers.answer().await.done();
    his.answer().await.done();
    assert_eq!(stage.world.db.shared_results(), 1);
    let again = stage.world.account("bob").await;
    build(&again, &drv).await.done();
    assert_eq!(
        bytes(&again, &drv.out()).await.unwrap(),
        bytes(&stage.alice, &drv.out()).await.unwrap()
    );
}

/// A result of his own, from a session that does not share, that is stored while a shared run of his goes on that Alice has joined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_of_his_own_in_the_place_of_the_joined_runs() {
    let stage = Stage::new().await;
    let drv = chance();
    let apart = stage.mallory_with(&[("FIRN_SHARE_BUILDS", "false")]).await;
    let mut own = Asked::plain(&apart, &drv);
    own.saw("as it turns out").await;
    stage.world.builder.until(|c| c.waiting == 1).await;
    let mut shared = Asked::plain(&stage.mallory, &drv);
    shared.saw("as it turns out").await;
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("as it turns out").await;
    assert_eq!(stage.runs(), 2);
    // His own ends first.
    stage.world.builder.until(|c| c.waiting == 2).await;
    stage.world.builder.release(1);
    own.answer().await.done();
    let his = bytes(&apart, &drv.out()).await.unwrap();
    stage.world.builder.release(2);
    shared.answer().await.done();
    assert!(hers.answer().await.done().status.is_success());
    assert_ne!(bytes(&stage.alice, &drv.out()).await.unwrap(), his);
    assert_eq!(bytes(&stage.mallory, &drv.out()).await.unwrap(), his);
}

/// Runs apart from the sharing until one suits, and then shares.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_from_apart_is_shared_later() {
    let stage = Stage::new().await;
    let drv = chance();
    stage.set("mallory", "share-builds", "false").await;
    stage.world.builder.release(1);
    build(&stage.mallory, &drv).await.done();
    stage.set("mallory", "share-builds", "true").await;
    let desk = stage.world.desk("mallory").await;
    desk.forget(&[drv.out().to_string()]).await.unwrap();
    build(&stage.mallory, &drv).await.done();
    alices_own(&stage, &drv).await;
}

/// The same with `private`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_result_is_shared_later() {
    let stage = Stage::new().await;
    let drv = chance();
    stage.set("mallory", "private", "true").await;
    stage.world.builder.release(1);
    build(&stage.mallory, &drv).await.done();
    stage.set("mallory", "private", "false").await;
    build(&stage.mallory, &drv).await.done();
    alices_own(&stage, &drv).await;
}

/// `--check` until one suits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_until_one_suits() {
    let stage = Stage::new().await;
    let drv = chance();
    stage.world.builder.release(3);
    for _ in 0..3 {
        check(&stage.mallory, &drv).await.done();
    }
    build(&stage.mallory, &drv).await.done();
    alices_own(&stage, &drv).await;
}

/// A check does not take the place of the shared result.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_in_the_place_of_the_shared_result() {
    let stage = Stage::new().await;
    let drv = chance();
    stage.world.builder.release(1);
    build(&stage.mallory, &drv).await.done();
    let first = bytes(&stage.mallory, &drv.out()).await.unwrap();
    stage.world.builder.release(2);
    for _ in 0..2 {
        let status = check(&stage.mallory, &drv).await.done().status;
        assert_eq!(status, BuildStatus::NotDeterministic);
    }
    let desk = stage.world.desk("mallory").await;
    desk.forget(&[drv.out().to_string()]).await.unwrap();
    stage.world.builder.release(1);
    check(&stage.mallory, &drv).await.done();
    build(&stage.alice, &drv).await.done();
    assert_eq!(bytes(&stage.alice, &drv.out()).await.unwrap(), first);
}

/// Forgets the shared result's output, to have another run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_result_is_forgotten_and_built_again() {
    let stage = Stage::new().await;
    let drv = chance();
    stage.world.builder.release(2);
    build(&stage.mallory, &drv).await.done();
    let first = bytes(&stage.mallory, &drv.out()).await.unwrap();
    let desk = stage.world.desk("mallory").await;
    for _ in 0..3 {
        desk.forget(&[drv.out().to_string()]).await.unwrap();
        build(&stage.mallory, &drv).await.done();
    }
    assert_eq!(stage.runs(), 1);
    build(&stage.alice, &drv).await.done();
    assert_eq!(bytes(&stage.alice, &drv.out()).await.unwrap(), first);
}

/// Hides a shared result, and shows it again: it is still the first one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_result_is_hidden_and_another_one_made() {
    let stage = Stage::new().await;
    let drv = chance();
    stage.world.builder.release(1);
    build(&stage.mallory, &drv).await.done();
    let first = bytes(&stage.mallory, &drv.out()).await.unwrap();
    stage.set("mallory", "private", "true").await;
    let desk = stage.world.desk("mallory").await;
    desk.forget(&[drv.out().to_string()]).await.unwrap();
    build(&stage.mallory, &drv).await.done();
    stage.set("mallory", "private", "false").await;
    assert_eq!(stage.runs(), 1);
    build(&stage.alice, &drv).await.done();
    assert_eq!(bytes(&stage.alice, &drv.out()).await.unwrap(), first);
}

/// A builder that does not hear the cancellation ends well after Mallory has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_left_run_that_ends_well() {
    let stage = Stage::stopping().await;
    let drv = Drv::new("chance", &["log:as it turns out\n", "deaf", "random"], &[]);
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("as it turns out").await;
    stage.world.builder.until(|c| c.waiting == 1).await;
    his.leave().await;
    stage.world.marked(1).await;
    stage.world.builder.release(1);
    stage.world.builder.until(|c| c.ended == 1).await;
    stage.world.idle().await;
    assert_eq!(stage.world.db.results(), 0);
    alices_own(&stage, &drv).await;
}

/// Joins a run of Alice's and leaves it: Alice's goes on, and is shared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alices_run_is_left() {
    let stage = Stage::new().await;
    let drv = chance();
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("as it turns out").await;
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("as it turns out").await;
    his.leave().await;
    stage.world.builder.release(1);
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    let bob = stage.world.account("bob").await;
    build(&bob, &drv).await.done();
    assert_eq!(stage.runs(), 1);
}

/// Who left a run may join one that somebody else started: that one is not shopped for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_left_joins_the_run_of_another() {
    let stage = Stage::stopping().await;
    let drv = chance();
    left(&stage, &drv).await;
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("as it turns out").await;
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("as it turns out").await;
    stage.world.builder.release(1);
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    his.answer().await.done();
    assert_eq!(
        stage.world.rungs("mallory").await.last(),
        Some(&Some(Rung::Joined))
    );
    assert_eq!(stage.runs(), 2);
}
