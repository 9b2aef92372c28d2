//! Shortage on cue: Mallory makes the machine short of something while a build runs whose inputs he has, too. However it ends, Alice gets
//! nothing of it.

use firn_core::Rung;
use firn_protocol::BuildStatus;

use super::Stage;
use crate::support::{Asked, Drv, build, bytes};

/// Alice's build is her own run, and what she gets nobody has chosen.
async fn alices_own(stage: &Stage, drv: &Drv) {
    stage.world.idle().await;
    let before = stage.runs();
    let status = build(&stage.alice, drv).await.done().status;
    assert!(stage.runs() > before, "{status:?}");
    assert!(!stage.world.rungs("alice").await.contains(&Some(Rung::Shared)));
}

/// A probe fails for lack of space, and the build makes do and succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_during_a_shortage_is_nobodys() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["short"], &[]);
    let status = build(&stage.mallory, &drv).await.done().status;
    assert_eq!((status, stage.runs()), (BuildStatus::TransientFailure, 2));
    assert!(bytes(&stage.mallory, &drv.out()).await.is_err());
    alices_own(&stage, &drv).await;
}

/// A failure for lack of space, which is gone before the build ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_during_a_shortage_is_nobodys() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["short", "fail:no space left on device"], &[]);
    for n in 1..=2 {
        let status = build(&stage.mallory, &drv).await.done().status;
        assert_eq!((status, stage.runs()), (BuildStatus::TransientFailure, 2 * n));
    }
    alices_own(&stage, &drv).await;
}

/// One moment of shortage, and then none: the second run counts, for who asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_run_once_more() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["short-first"], &[]);
    let answer = build(&stage.alice, &drv).await;
    assert!(
        answer
            .lines()
            .iter()
            .any(|line| line.contains("was short of disk space")),
        "{:?}",
        answer.lines()
    );
    assert_eq!(answer.done().status, BuildStatus::Built);
    assert_eq!(stage.runs(), 2);
}

/// Has outcomes thrown away until one suits: that one is his own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throwing_away_is_leaving() {
    let stage = Stage::new().await;
    let drv = Drv::new(
        "chance",
        &["log:as it turns out\n", "short-first", "wait", "random"],
        &[],
    );
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("as it turns out").await;
    stage.world.builder.release(2);
    assert_eq!(his.answer().await.done().status, BuildStatus::Built);
    stage.world.builder.release(2);
    alices_own(&stage, &drv).await;
    let [his, hers] = [
        bytes(&stage.mallory, &drv.out()).await,
        bytes(&stage.alice, &drv.out()).await,
    ];
    assert_ne!(his.unwrap(), hers.unwrap());
}

/// The same while Alice waits for the same run: she gets one of her own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_joined_runs_alone_then() {
    let stage = Stage::new().await;
    let drv = Drv::new(
        "chance",
        &["log:as it turns out\n", "wait", "short-first", "random"],
        &[],
    );
    let mut his = Asked::plain(&stage.mallory, &drv);
    his.saw("as it turns out").await;
    let mut hers = Asked::plain(&stage.alice, &drv);
    hers.saw("as it turns out").await;
    stage.world.builder.release(4);
    assert_eq!(his.answer().await.done().status, BuildStatus::Built);
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    let [his, hers] = [
        bytes(&stage.mallory, &drv.out()).await,
        bytes(&stage.alice, &drv.out()).await,
    ];
    assert_ne!(his.unwrap(), hers.unwrap());
}

/// A time-out is remembered where the build had the machine to itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_out_beside_others_is_not_remembered() {
    for (args, runs) in [(&["time-out"][..], 1), (&["beside", "time-out"][..], 2)] {
        let stage = Stage::new().await;
        for who in ["alice", "mallory"] {
            stage.set(who, "reuse-build-timeouts", "true").await;
        }
        let drv = Drv::new("thing", args, &[]);
        for client in [&stage.mallory, &stage.alice] {
            assert_eq!(build(client, &drv).await.done().status, BuildStatus::TimedOut);
            stage.world.idle().await;
        }
        assert_eq!(stage.runs(), runs, "{args:?}");
    }
}
