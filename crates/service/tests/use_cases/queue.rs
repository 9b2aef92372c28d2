//! Which build runs next, and what is told to those who wait.

use std::time::Duration;

use firn_core::Rung;
use firn_protocol::{BuildStatus, LogEvent};
use firn_service::Room;

use crate::support::{Asked, Client, Drv, World, build, soon};

const MIB: u64 = 1 << 20;

/// Starts requests one after the other, each when the one before is in the queue.
async fn queued(world: &World, client: &Client, drvs: &[Drv]) -> Vec<Asked> {
    let mut asked = Vec::new();
    for drv in drvs {
        let (running, waiting) = world.house.queue();
        asked.push(Asked::plain(client, drv));
        reaches(world, running + waiting + 1).await;
    }
    asked
}

/// Returns when so many builds are in the queue, running ones included.
async fn reaches(world: &World, builds: usize) {
    soon(async {
        loop {
            let (running, waiting) = world.house.queue();
            if running + waiting == builds {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// What was run so far, by name.
fn order(world: &World) -> Vec<String> {
    let jobs = world.builder.jobs();
    let names = jobs
        .iter()
        .map(|job| job.drv_path.derivation_name().unwrap().to_owned());
    names.collect()
}

/// Lets everything that waits at the gate go on, until all have their answers.
async fn finish(world: &World, asked: Vec<Asked>) {
    world.builder.release(asked.len());
    for asked in asked {
        assert_eq!(asked.answer().await.done().status, BuildStatus::Built);
    }
    assert_eq!(world.house.queue(), (0, 0));
}

fn waits(name: &str) -> Drv {
    Drv::new(name, &["wait"], &[])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_by_one_account_delays_nobody_beyond_the_next_free_slot() {
    let world = World::with(|s| s.max_jobs = 2);
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let flood: Vec<Drv> = (0..40).map(|n| waits(&format!("flood-{n}"))).collect();
    let mut asked = queued(&world, &alice, &flood).await;
    world.builder.until(|c| c.waiting == 2).await;
    asked.extend(queued(&world, &bob, &[waits("single-1")]).await);
    world.builder.release(1);
    world.builder.until(|c| c.waiting == 3).await;
    assert_eq!(order(&world)[2], "single-1");
    finish(&world, asked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_runs_as_many_as_it_and_the_operator_allow() {
    let world = World::with(|s| s.max_jobs = 4);
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let desk = world.desk("alice").await;
    let operator = world.house.operators_desk(world.named("alice").await);
    operator.set(None, "build-quota", Some("2")).await.unwrap();
    desk.set(None, "max-builds", Some("3")).await.unwrap();
    let drvs: Vec<Drv> = (0..5).map(|n| waits(&format!("hers-{n}"))).collect();
    let mut asked = queued(&world, &alice, &drvs).await;
    world.builder.until(|c| c.waiting == 2).await;
    assert_eq!(world.house.queue(), (2, 3));
    asked.extend(queued(&world, &bob, &[waits("his-1")]).await);
    world.builder.until(|c| c.waiting == 3).await;
    assert_eq!(order(&world)[2], "his-1");
    // She may have fewer.
    desk.set(None, "max-builds", Some("1")).await.unwrap();
    asked.extend(queued(&world, &alice, &[waits("hers-5")]).await);
    world.builder.release(2);
    world.builder.until(|c| c.ended == 2).await;
    assert!(world.house.queue().0 <= 2, "{:?}", world.house.queue());
    finish(&world, asked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_operator_grants_is_not_the_accounts_to_set() {
    let world = World::new();
    world.account("alice").await;
    let desk = world.desk("alice").await;
    let operator = world.house.operators_desk(world.named("alice").await);
    let row = async |name: &str| {
        let rows = desk.settings(None).await.unwrap();
        let row = rows.into_iter().find(|row| row.name == name).unwrap();
        format!("{} by {}", row.value, row.level.name())
    };
    for (name, default) in [("build-quota", "0"), ("build-weight", "100")] {
        assert_eq!(row(name).await, format!("{default} by system"));
        operator.set(None, name, Some("7")).await.unwrap();
        for value in [Some("900"), None] {
            let error = desk.set(None, name, value).await.unwrap_err().message;
            assert!(error.contains("cannot be set by the account"), "{error}");
        }
        assert_eq!(row(name).await, "7 by operator");
    }
    let terms = world
        .house
        .session(world.named("alice").await, None, Vec::new())
        .await
        .unwrap();
    let share = terms.settings().await.unwrap().share();
    assert_eq!((share.weight, share.max_runs), (7, Some(7)));
    for wrong in ["0", "1001", "-1", "much"] {
        let error = operator.set(None, "build-weight", Some(wrong)).await.unwrap_err();
        assert!(error.message.contains("from 1 to 1000"), "{}", error.message);
    }
    operator.set(None, "build-weight", None).await.unwrap();
    assert_eq!(row("build-weight").await, "100 by system");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_kept_by_what_the_package_took_before() {
    let world = World::with(|s| {
        s.max_jobs = 4;
        s.room = Room {
            memory: Some(100 * MIB),
            unknown_memory: MIB,
            ..Room::default()
        };
    });
    let alice = world.account("alice").await;
    let peak = format!("peak:{}", 60 * MIB);
    let known = build(&alice, &Drv::new("big-1.0", &[&peak], &[])).await;
    assert_eq!(known.done().status, BuildStatus::Built);
    // With a margin, two do not fit.
    let drvs = [waits("big-1.1"), waits("big-2.0"), waits("small-1")];
    let mut asked = queued(&world, &alice, &drvs).await;
    world.builder.until(|c| c.waiting == 2).await;
    assert_eq!(order(&world), ["big-1.0", "big-1.1", "small-1"]);
    let says = |event: &LogEvent| matches!(event, LogEvent::Waiting { text, .. } if text.starts_with("waiting for memory (19 MiB of 100 MiB free"));
    asked[1].told(says).await;
    finish(&world, asked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_took_longest_before_is_first() {
    let world = World::with(|s| s.max_jobs = 1);
    let alice = world.account("alice").await;
    for (name, wall) in [
        ("quick-1", "wall:10"),
        ("slow-1", "wall:90000"),
        ("middle-1", "wall:500"),
    ] {
        build(&alice, &Drv::new(name, &[wall], &[])).await.done();
    }
    let drvs = ["busy-1", "unknown-1", "quick-2", "slow-2", "middle-2"].map(waits);
    let asked = queued(&world, &alice, &drvs).await;
    finish(&world, asked).await;
    assert_eq!(
        order(&world)[3..],
        ["busy-1", "slow-2", "middle-2", "quick-2", "unknown-1"]
    );
}

/// A builder that is killed for lack of memory on a full machine is run once more, when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_was_short_of_memory_is_run_once_more() {
    let world = World::with(|s| {
        s.limits.memory_bytes = Some(80 * MIB);
        s.room = Room {
            memory: Some(100 * MIB),
            unknown_memory: 10 * MIB,
            ..Room::default()
        };
    });
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let steps = ["log:one\n", "wait", "starve-first"];
    let drv = Drv::new("hungry-1", &steps, &[]);
    let first = Asked::plain(&alice, &drv);
    world.builder.until(|c| c.waiting == 1).await;
    let mut second = Asked::plain(&bob, &drv);
    second.saw("one").await;
    // It needs a place again, with all that one build may have: beside 30 that is not there.
    let other = queued(&world, &bob, &["a-1", "b-1", "c-1"].map(waits)).await;
    world.builder.until(|c| c.waiting == 4).await;
    // The gate is first in, first out.
    world.builder.release(1);
    second
        .told(|event| matches!(event, LogEvent::Waiting { text, .. } if text.contains("waiting for memory")))
        .await;
    world.builder.release(3);
    for asked in other {
        asked.answer().await.done();
    }
    world.builder.until(|c| c.waiting == 5).await;
    second
        .told(|event| matches!(event, LogEvent::WaitingEnded { .. }))
        .await;
    world.builder.release(1);
    for (asked, rung) in [(first, "built"), (second, "joined")] {
        let answered = asked.answer().await;
        let lines = answered.lines();
        let note =
            "firn: the build was short of memory; it is run once more, with as much as a build may have";
        assert_eq!(lines[..4], ["one", "", note, "one"]);
        assert!(lines[4].contains(rung), "{lines:?}");
        assert_eq!(answered.done().status, BuildStatus::Built);
    }
    assert_eq!(world.rungs("alice").await, [Some(Rung::Built)]);
    let jobs = world.builder.jobs();
    assert_eq!(jobs.len(), 5);
    assert_eq!(jobs[0].limits, jobs[4].limits);
    assert_eq!(jobs[0].class, jobs[4].class);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_may_be_limited_to_what_is_kept_for_it() {
    let world = World::with(|s| {
        s.limits.memory_bytes = Some(80 * MIB);
        s.room = Room {
            memory: Some(100 * MIB),
            unknown_memory: 10 * MIB,
            limit_to_reservation: true,
            ..Room::default()
        };
    });
    let alice = world.account("alice").await;
    let needs = |name, bytes: u64| {
        let (starves, peak) = (format!("starve-below:{bytes}"), format!("peak:{bytes}"));
        Drv::new(name, &[&starves, &peak], &[])
    };
    assert_eq!(
        build(&alice, &needs("thing-1", 40 * MIB)).await.done().status,
        BuildStatus::Built
    );
    // What it took is known now.
    assert_eq!(
        build(&alice, &needs("thing-2", 50 * MIB)).await.done().status,
        BuildStatus::Built
    );
    let failed = build(&alice, &needs("huge-1", 81 * MIB)).await;
    assert_eq!(failed.done().status, BuildStatus::TransientFailure);
    let limits: Vec<u64> = world
        .builder
        .jobs()
        .iter()
        .map(|j| j.limits.memory_bytes.unwrap() / MIB)
        .collect();
    assert_eq!(limits, [10, 80, 50, 10, 80]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_is_not_run_again_where_it_would_fare_no_better() {
    let full = Room {
        memory: Some(100 * MIB),
        unknown_memory: 100 * MIB,
        ..Room::default()
    };
    let some = Room {
        unknown_memory: 10 * MIB,
        ..full
    };
    let at_its_limit = format!("peak:{}", 79 * MIB);
    for (room, peak, runs) in [
        // It had everything, or went over what it may have by itself.
        (full, "peak:1000", 1),
        (some, at_its_limit.as_str(), 1),
        (some, "peak:1000", 2),
    ] {
        let world = World::with(|s| {
            s.limits.memory_bytes = Some(80 * MIB);
            s.room = room;
        });
        let alice = world.account("alice").await;
        let drv = Drv::new("hungry-1", &[peak, "starve"], &[]);
        for n in 1..=2 {
            let answered = build(&alice, &drv).await;
            assert_eq!(answered.done().status, BuildStatus::TransientFailure);
            // Never replayed.
            assert_eq!(world.builder.counts().started, n * runs);
        }
        assert_eq!(world.house.queue(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_waits_for_its_second_try_can_be_left() {
    let world = World::with(|s| {
        s.finish_left_builds = Duration::ZERO;
        s.room = Room {
            memory: Some(100 * MIB),
            unknown_memory: 10 * MIB,
            ..Room::default()
        };
    });
    let alice = world.account("alice").await;
    let mut asked = queued(&world, &alice, &[waits("busy-1")]).await;
    world.builder.until(|c| c.waiting == 1).await;
    let hungry = Drv::new("hungry-1", &["starve"], &[]);
    let mut left = Asked::plain(&alice, &hungry);
    left.told(|event| matches!(event, LogEvent::Waiting { .. })).await;
    left.leave().await;
    reaches(&world, 1).await;
    assert_eq!(world.builder.counts().started, 2);
    // What it kept is free again.
    asked.extend(queued(&world, &alice, &[waits("other-1")]).await);
    world.builder.until(|c| c.waiting == 2).await;
    finish(&world, asked).await;
}

#[tokio::test(start_paused = true)]
async fn everybody_who_waits_is_told_for_what_until_it_begins() {
    let world = World::with(|s| s.max_jobs = 1);
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let mut asked = queued(
        &world,
        &alice,
        &[waits("busy-1"), waits("next-1"), waits("last-1")],
    )
    .await;
    let joined = Asked::plain(&bob, &waits("last-1"));
    // Sooner than in a second nobody is told.
    tokio::time::sleep(Duration::from_millis(900)).await;
    let told = |asked: &Asked| {
        let texts = asked.events().into_iter().filter_map(|event| match event {
            LogEvent::Waiting { text, .. } => Some(text),
            LogEvent::WaitingEnded { .. } => Some("-".to_owned()),
            _ => None,
        });
        texts.collect::<Vec<String>>()
    };
    for asked in &asked {
        assert!(told(asked).is_empty());
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(told(&asked[0]).is_empty());
    // Bob's claim is better than Alice's.
    assert_eq!(
        told(&asked[1]),
        ["waiting for a free slot (1 of 1 in use, 1 before it)"]
    );
    assert_eq!(told(&asked[2]), ["waiting for a free slot (1 of 1 in use)"]);
    assert_eq!(told(&joined), told(&asked[2]));
    // The same is not told again.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(told(&joined).len(), 1);
    world.builder.release(1);
    world.builder.until(|c| c.waiting == 2).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(told(&joined), ["waiting for a free slot (1 of 1 in use)", "-"]);
    assert_eq!(
        told(&asked[1]),
        [
            "waiting for a free slot (1 of 1 in use, 1 before it)",
            "waiting for a free slot (1 of 1 in use)"
        ]
    );
    asked.push(joined);
    finish(&world, asked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_queue_frees_nothing_twice() {
    let world = World::with(|s| s.max_jobs = 1);
    let alice = world.account("alice").await;
    let busy = queued(&world, &alice, &[waits("busy-1")]).await;
    world.builder.until(|c| c.waiting == 1).await;
    for asked in queued(&world, &alice, &["a-1", "b-1", "c-1"].map(waits)).await {
        asked.leave().await;
    }
    reaches(&world, 1).await;
    let asked = queued(&world, &alice, &["d-1", "e-1"].map(waits)).await;
    assert_eq!(world.house.queue(), (1, 2));
    finish(&world, busy.into_iter().chain(asked).collect()).await;
    assert_eq!(order(&world), ["busy-1", "d-1", "e-1"]);
}
