//! The life of a run: it goes on while anybody waits, and everybody is told how it ended.

use std::time::Duration;

use firn_core::{AccountId, Rung};
use firn_protocol::{BuildMode, BuildOptions, BuildStatus};

use crate::support::{Asked, Drv, World, build, bytes, is_valid, soon};

/// Where the operator wants runs to end with their last client.
fn stopping() -> World {
    World::with(|s| s.finish_left_builds = Duration::ZERO)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_one_who_leaves_ends_the_run_where_the_operator_says_so() {
    let world = stopping();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let drv = Drv::new("thing", &["log:one\n", "wait"], &[]);
    let mut first = Asked::plain(&alice, &drv);
    first.saw("one").await;
    let mut second = Asked::plain(&bob, &drv);
    second.saw("one").await;
    first.leave().await;
    // Who comes now joins the same run.
    let mut third = Asked::plain(&alice, &drv);
    third.saw("one").await;
    second.leave().await;
    assert_eq!(world.builder.counts().cancelled, 0, "somebody waits");
    assert_eq!(world.builder.counts().started, 1);
    third.leave().await;
    world.builder.until(|c| c.cancelled == 1 && c.ended == 1).await;
    world.idle().await;
    // All who took part, when they left whatever the order.
    world.marked(2).await;
    assert_eq!(world.db.all_claims(), []);
    assert_eq!(world.db.results(), 0);
    soon(async {
        while world.logs() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// What it gives is everybody's, as if they had stayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_everybody_has_left_is_finished_in_the_background() {
    for (step, success) in [("random", true), ("fail:so", false)] {
        let world = World::new();
        let (alice, bob) = (world.account("alice").await, world.account("bob").await);
        let drv = Drv::new("thing", &["log:one\n", "wait", step], &[]);
        let mut asked = Asked::plain(&alice, &drv);
        asked.saw("one").await;
        asked.leave().await;
        let running = world.desk("alice").await.running();
        assert!(running.len() == 1 && running[0].detached, "{running:?}");
        assert!(world.desk("bob").await.running().is_empty());
        world.builder.release(1);
        world.idle().await;
        assert_eq!(world.builder.counts().cancelled, 0);
        assert_eq!(world.db.marks(), []);
        let noted = world.requests("alice").await;
        assert!(
            noted.len() == 1 && noted[0].reason.contains("after its client had left"),
            "{noted:?}"
        );
        for client in [&bob, &alice] {
            assert_eq!(build(client, &drv).await.done().status.is_success(), success);
        }
        assert_eq!(world.builder.counts().started, 1);
        let rung = if success { Rung::Shared } else { Rung::Failed };
        assert_eq!(world.rungs("bob").await, [Some(rung)]);
    }
}

/// Until then whoever comes joins it, and it has its time anew when that one leaves.
#[tokio::test(start_paused = true)]
async fn the_background_has_an_end() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let drv = Drv::new("thing", &["log:one\n", "wait", "random"], &[]);
    let mut asked = Asked::plain(&alice, &drv);
    asked.saw("one").await;
    asked.leave().await;
    tokio::time::sleep(Duration::from_secs(899)).await;
    let mut joined = Asked::plain(&bob, &drv);
    joined.saw("one").await;
    tokio::time::sleep(Duration::from_secs(2000)).await;
    joined.leave().await;
    tokio::time::sleep(Duration::from_secs(899)).await;
    assert_eq!(world.builder.counts().cancelled, 0);
    assert_eq!(world.db.marks(), []);
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.builder.until(|c| c.cancelled == 1 && c.ended == 1).await;
    world.idle().await;
    world.marked(2).await;
    for name in ["alice", "bob"] {
        let noted = world.requests(name).await;
        assert_eq!(noted[0].reason, "stopped thing after its client had left");
        assert_eq!(world.desk(name).await.running().len(), 0);
    }
    assert_eq!(world.logs(), 0);
}

/// One that an account has for itself ends with its last client, and marks nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_ones_own_ends_when_it_is_left() {
    for (name, value) in [("share-builds", "false"), ("private", "true")] {
        let world = World::new();
        let alice = world.account("alice").await;
        let desk = world.desk("alice").await;
        desk.set(None, name, Some(value)).await.unwrap();
        let mut asked = Asked::plain(&alice, &Drv::new("thing", &["log:one\n", "wait"], &[]));
        asked.saw("one").await;
        asked.leave().await;
        world.builder.until(|c| c.cancelled == 1 && c.ended == 1).await;
        world.idle().await;
        assert_eq!(world.db.marks(), []);
    }
    let world = World::new();
    let alice = world.account("alice").await;
    let drv = Drv::new("thing", &["log:one\n", "wait"], &[]);
    let mut asked = Asked::start(&alice, &drv, BuildMode::Check, BuildOptions::default());
    asked.saw("one").await;
    asked.leave().await;
    world.builder.until(|c| c.cancelled == 1 && c.ended == 1).await;
    assert_eq!(world.db.marks(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_a_cancelled_run_dies_gets_a_run_of_its_own() {
    let world = stopping();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let drv = Drv::new("thing", &["log:one\n", "stubborn", "log:two\n"], &[]);
    let mut first = Asked::plain(&alice, &drv);
    first.saw("one").await;
    first.leave().await;
    // The first run has heard it and is not gone yet.
    world.builder.until(|c| c.cancelled == 1).await;
    let mut second = Asked::plain(&bob, &drv);
    second.saw("one").await;
    // One step for each, in whichever order they take them.
    world.builder.until(|c| c.waiting == 3).await;
    assert_eq!(world.builder.counts().ended, 0);
    world.builder.release(2);
    let answered = second.answer().await;
    assert_eq!(answered.lines()[..2], ["one", "two"]);
    assert_eq!(answered.done().status, BuildStatus::Built);
    world.builder.until(|c| c.ended == 2).await;
    world.idle().await;
    assert_eq!(world.rungs("bob").await, [Some(Rung::Built)]);
    assert!(is_valid(&bob, &drv.out()).await);
    assert!(!is_valid(&alice, &drv.out()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_dying_run_does_not_take_its_successor_from_the_registry() {
    let world = World::with(|s| {
        (s.max_jobs, s.finish_left_builds) = (2, Duration::ZERO);
    });
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let drv = Drv::new("thing", &["log:one\n", "stubborn", "log:two\n", "wait"], &[]);
    let mut first = Asked::plain(&alice, &drv);
    first.saw("one").await;
    first.leave().await;
    world.builder.until(|c| c.cancelled == 1 && c.waiting == 2).await;
    let mut second = Asked::plain(&bob, &drv);
    world.builder.until(|c| c.waiting == 3).await;
    // Both go on: the first ends, the second comes to its next step.
    world.builder.release(2);
    world.builder.until(|c| c.ended == 1 && c.waiting == 4).await;
    second.saw("two").await;
    let mut third = Asked::plain(&alice, &drv);
    third.saw("two").await;
    assert_eq!(world.builder.counts().started, 2, "the third joined the second");
    world.builder.release(1);
    assert_eq!(second.answer().await.done().status, BuildStatus::Built);
    assert_eq!(third.answer().await.done().status, BuildStatus::Built);
}

/// A builder that does not hear a cancellation has built all the same; its result and that of the next run must not mix.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_result_for_everybody_even_when_two_runs_of_a_key_overlap() {
    let world = stopping();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let drv = Drv::new("thing", &["log:one\n", "deaf", "random"], &[]);
    let mut first = Asked::plain(&alice, &drv);
    first.saw("one").await;
    world.builder.until(|c| c.waiting == 1).await;
    first.leave().await;
    world.marked(1).await;
    let second = Asked::plain(&bob, &drv);
    world.builder.until(|c| c.waiting == 2).await;
    world.builder.release(2);
    assert_eq!(second.answer().await.done().status, BuildStatus::Built);
    world.builder.until(|c| c.ended == 2).await;
    world.idle().await;
    assert_eq!(build(&alice, &drv).await.done().status, BuildStatus::Built);
    assert_eq!(
        bytes(&alice, &drv.out()).await.unwrap(),
        bytes(&bob, &drv.out()).await.unwrap()
    );
    assert_eq!(world.builder.counts().started, 2);
    assert_eq!(world.db.results(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_for_a_slot_can_be_cancelled() {
    let world = World::with(|s| s.max_jobs = 1);
    let alice = world.account("alice").await;
    let (busy, queued) = (Drv::new("busy", &["wait"], &[]), Drv::new("queued", &[], &[]));
    let first = Asked::plain(&alice, &busy);
    world.builder.until(|c| c.waiting == 1).await;
    let second = Asked::plain(&alice, &queued);
    while world.house.running_builds() < 2 {
        tokio::task::yield_now().await;
    }
    second.leave().await;
    while world.house.running_builds() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.builder.counts().started, 1);
    world.builder.release(1);
    assert_eq!(first.answer().await.done().status, BuildStatus::Built);
    // The slot is free again.
    assert_eq!(build(&alice, &queued).await.done().status, BuildStatus::Built);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_told_of_a_failure_and_only_the_builders_own_is_remembered() {
    for (step, status, says) in [
        ("fail:status 3", BuildStatus::PermanentFailure, "status 3"),
        ("break:no disk", BuildStatus::TransientFailure, "no disk"),
        (
            "panic",
            BuildStatus::TransientFailure,
            "the build was lost; try again",
        ),
    ] {
        let world = World::new();
        let (alice, bob) = (world.account("alice").await, world.account("bob").await);
        let drv = Drv::new("thing", &["log:one\n", "wait", "log:two", step], &[]);
        let mut first = Asked::plain(&alice, &drv);
        first.saw("one").await;
        let mut second = Asked::plain(&bob, &drv);
        second.saw("one").await;
        world.builder.release(1);
        for asked in [first, second] {
            let answered = asked.answer().await;
            let lines = answered.lines();
            assert_eq!(lines[0], "one", "{step}");
            let last = lines.last().unwrap();
            assert!(
                last.starts_with("firn: failed thing: ") && last.contains(says),
                "{lines:?}"
            );
            let result = answered.done();
            assert_eq!(result.status, status, "{step}");
            let text = String::from_utf8(result.error_msg).unwrap();
            assert!(text.contains(says), "{text}");
        }
        assert_eq!(world.rungs("bob").await, [None]);
        // Who was told finds nothing to join.
        assert_eq!(world.house.running_builds(), 0);
        assert_eq!(world.db.results(), 0);
        assert_eq!(world.logs(), 1, "who failed wants to know why");
        world.builder.release(1);
        let again = build(&alice, &drv).await;
        // A builder that panics may not have written its log.
        if step != "panic" {
            assert_eq!(again.lines()[0], "one", "{step}");
        }
        assert_eq!(again.done().status, status);
        let replayed = step.starts_with("fail");
        assert_eq!(world.builder.counts().started, if replayed { 1 } else { 2 });
        let rung = replayed.then_some(firn_core::Rung::Failed);
        assert!(world.rungs("alice").await.contains(&rung), "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_requesters_time_limits_end_only_its_waiting() {
    let limits = [
        BuildOptions {
            timeout: Some(10),
            ..BuildOptions::default()
        },
        BuildOptions {
            max_silent_time: Some(10),
            ..BuildOptions::default()
        },
    ];
    for options in limits {
        let world = World::new();
        let (alice, bob) = (world.account("alice").await, world.account("bob").await);
        // Silent from its start.
        let drv = Drv::new("thing", &["wait"], &[]);
        let patient = Asked::plain(&alice, &drv);
        world.builder.until(|c| c.waiting == 1).await;
        let result = Asked::start(&bob, &drv, BuildMode::Normal, options)
            .answer()
            .await
            .done();
        assert_eq!(result.status, BuildStatus::TimedOut);
        let text = String::from_utf8(result.error_msg).unwrap();
        assert!(text.contains("timed out after 10 seconds"), "{text}");
        assert_eq!(world.rungs("bob").await, [None]);
        world.builder.release(1);
        assert_eq!(patient.answer().await.done().status, BuildStatus::Built);
        assert!(!is_valid(&bob, &drv.out()).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_names_the_derivation_as_the_requester_does() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let hers = Drv::new("thing", &["log:one\n", "wait", "fail:so"], &[]);
    let his = hers.under_another_path();
    let mut first = Asked::plain(&alice, &hers);
    first.saw("one").await;
    let mut second = Asked::plain(&bob, &his);
    second.saw("one").await;
    world.builder.release(1);
    for (asked, drv) in [(first, &hers), (second, &his)] {
        let text = String::from_utf8(asked.answer().await.done().error_msg).unwrap();
        assert_eq!(text, format!("builder for '{}' failed: so", drv.path));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requesters_log_limit_ends_only_its_waiting() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let drv = Drv::new("thing", &["log:one\n", "wait"], &[]);
    let mut patient = Asked::plain(&alice, &drv);
    patient.saw("one").await;
    let limit = |bytes| BuildOptions {
        max_log_size: Some(bytes),
        ..BuildOptions::default()
    };
    let result = Asked::start(&bob, &drv, BuildMode::Normal, limit(3))
        .answer()
        .await
        .done();
    assert_eq!(result.status, BuildStatus::LogLimitExceeded);
    let mut enough = Asked::start(&bob, &drv, BuildMode::Normal, limit(4));
    enough.saw("one").await;
    world.builder.release(1);
    assert_eq!(enough.answer().await.done().status, BuildStatus::Built);
    assert_eq!(patient.answer().await.done().status, BuildStatus::Built);
}

/// What Nix says of a forbidden reference is a list below a line that ends in a colon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reason_of_several_lines_is_told_in_one() {
    let world = World::new();
    let alice = world.account("alice").await;
    let why = "fail:output '/o' refers to the following paths:\n  /a\n  /b\n  /c";
    let drv = Drv::new("thing", &[why], &[]);
    for end in ["/a, /b and 1 more", "it failed before"] {
        let answered = build(&alice, &drv).await;
        let told = answered.lines().pop().unwrap();
        assert!(
            told.contains("refers to the following paths: /a, /b and 1 more") && told.contains(end),
            "{told}"
        );
        assert_eq!(
            world.requests("alice").await.pop().unwrap().reason,
            told["firn: ".len()..]
        );
        // The client is told all of it.
        let text = String::from_utf8(answered.done().error_msg).unwrap();
        assert!(text.ends_with("/a\n  /b\n  /c"), "{text}");
    }
}

/// Nix counts from the start of the builder, and so must a service that has a queue.
#[tokio::test(start_paused = true)]
async fn time_in_the_queue_is_not_time_of_the_build() {
    let world = World::with(|s| s.max_jobs = 1);
    let alice = world.account("alice").await;
    let busy = Asked::plain(&alice, &Drv::new("busy", &["wait"], &[]));
    world.builder.until(|c| c.waiting == 1).await;
    let options = BuildOptions {
        timeout: Some(10),
        max_silent_time: Some(10),
        max_log_size: None,
    };
    let queued = Asked::start(&alice, &Drv::new("queued", &[], &[]), BuildMode::Normal, options);
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.builder.release(1);
    busy.answer().await.done();
    assert_eq!(queued.answer().await.done().status, BuildStatus::Built);
}

/// Clients that come and go in any order: what was begun comes to its end, everybody who stays gets one and the same result, and nothing
/// is left over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_clients_that_come_and_go() {
    for round in 0..30 {
        let world = World::with(|s| s.max_jobs = 2);
        let stayed = storm(&world, round).await;
        assert!(
            stayed.iter().all(|(_, bytes)| *bytes == stayed[0].1),
            "two results for one key in round {round}"
        );
        assert_eq!(world.db.results(), 1);
        assert_eq!(world.db.shared_results(), 1);
        assert_eq!(world.db.marks(), []);
        logs_come_to(&world, 1).await;
    }
}

/// The same where runs end with their last client: there is one shared result at most. Whoever has not thrown a run away has that one, and
/// whoever has, one of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_that_ends_runs() {
    for round in 0..30 {
        let world = World::with(|s| (s.max_jobs, s.finish_left_builds) = (2, Duration::ZERO));
        let stayed = storm(&world, round).await;
        assert!(world.db.shared_results() <= 1, "round {round}");
        let marked = world.db.ever_marked();
        let innocent = || stayed.iter().filter(|(account, _)| !marked.contains(account));
        assert!(
            innocent().all(|(_, bytes)| Some(bytes) == innocent().next().map(|(_, bytes)| bytes)),
            "two results for one key in round {round}"
        );
        for account in marked {
            let mut own = stayed.iter().filter(|(other, _)| *other == account);
            let first = own.next();
            assert!(
                own.all(|(_, bytes)| Some(bytes) == first.map(|(_, bytes)| bytes)),
                "two results for {account:?} in round {round}"
            );
        }
        logs_come_to(&world, world.db.results()).await;
    }
}

/// Four accounts ask for one build, 24 times in all; every third client or so goes away early. What the others have then.
async fn storm(world: &World, round: u64) -> Vec<(AccountId, Vec<u8>)> {
    let mut clients = Vec::new();
    for n in 0..4 {
        let name = format!("account-{n}");
        clients.push((world.account(&name).await, world.named(&name).await.id));
    }
    let drv = Drv::new("thing", &["log:x\n", "nap", "log:y\n", "random"], &[]);
    let mut storm = tokio::task::JoinSet::new();
    for n in 0..24u64 {
        let ((client, id), drv) = (clients[n as usize % 4].clone(), drv.clone());
        // Any sequence does, as long as the rounds differ.
        let dice = (round * 31 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        storm.spawn(async move {
            for _ in 0..dice % 50 {
                tokio::task::yield_now().await;
            }
            let asked = Asked::plain(&client, &drv);
            if dice.is_multiple_of(3) {
                for _ in 0..dice % 70 {
                    tokio::task::yield_now().await;
                }
                asked.leave().await;
                return None;
            }
            let answered = asked.answer().await;
            assert!(answered.lines().last().unwrap().starts_with("firn: "));
            assert!(answered.done().status.is_success());
            Some((id, bytes(&client, &drv.out()).await.unwrap()))
        });
    }
    let stayed: Vec<_> = soon(storm.join_all()).await.into_iter().flatten().collect();
    assert!(!stayed.is_empty());
    world.idle().await;
    let counts = world.builder.counts();
    world.builder.until(|c| c.ended == counts.started).await;
    stayed
}

/// A run that was replaced while it died stands nowhere; its log is the last of it.
async fn logs_come_to(world: &World, logs: usize) {
    soon(async {
        while world.logs() != logs {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
