//! Every rung of the reuse ladder, and which one answers.

use std::collections::BTreeSet;

use firn_core::Rung;
use firn_protocol::{BuildStatus, Doing, LogEvent, Store as _};

use crate::support::{Asked, Drv, World, build, bytes, is_valid, item, path, upload};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn built_once_for_everybody_with_the_same_inputs() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let input = item(&path("input"), "1", &[]);
    upload(&alice, &[&input]).await.unwrap();
    upload(&bob, &[&input]).await.unwrap();
    let drv = Drv::new("thing", &[], &[&input.info.path]).referring(&[&input.info.path]);
    world.clock.set(50);
    let first = build(&alice, &drv).await.done();
    assert_eq!(first.status, BuildStatus::Built);
    assert_eq!(
        (first.times_built, first.start_time, first.stop_time),
        (1, 50, 50)
    );
    assert_eq!((first.cpu_user, first.cpu_system), (Some(7), Some(8)));
    assert!(
        !is_valid(&bob, &drv.out()).await,
        "what was built for alice is hers"
    );

    let again = build(&alice, &drv).await.done();
    assert_eq!(again.status, BuildStatus::AlreadyValid);
    let shared = build(&bob, &drv).await.done();
    assert_eq!(shared.status, BuildStatus::Built);
    assert_eq!(world.builder.counts().started, 1);
    assert_eq!(
        bytes(&alice, &drv.out()).await.unwrap(),
        bytes(&bob, &drv.out()).await.unwrap()
    );

    assert_eq!(
        world.rungs("alice").await,
        [Some(Rung::Built), Some(Rung::AlreadyValid)]
    );
    assert_eq!(world.rungs("bob").await, [Some(Rung::Shared)]);
    let (hers, his) = (world.requests("alice").await, world.requests("bob").await);
    assert_eq!(hers[0].build, his[0].build, "the run behind the answer");
    let info = bob.query_path_infos(vec![drv.out()]).await.unwrap().remove(0);
    assert_eq!(info.references, BTreeSet::from([input.info.path]));
    assert_eq!(info.deriver, Some(drv.path));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_content_behind_an_input_is_another_build() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (deep, input) = (path("deep"), path("input"));
    let top = item(&input, "same", &[&deep]);
    // Not even listed: it comes with the closure.
    upload(&alice, &[&top, &item(&deep, "hers", &[])]).await.unwrap();
    upload(&bob, &[&top, &item(&deep, "his", &[])]).await.unwrap();
    let drv = Drv::new("thing", &[], &[&input]);
    build(&alice, &drv).await.done();
    build(&bob, &drv).await.done();
    assert_eq!(world.builder.counts().started, 2);
    assert_eq!(world.rungs("bob").await, [Some(Rung::Built)]);
    assert_ne!(
        bytes(&alice, &drv.out()).await.unwrap(),
        bytes(&bob, &drv.out()).await.unwrap()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_client_lists_of_the_closure_does_not_matter() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (deep, input) = (path("deep"), path("input"));
    for client in [&alice, &bob] {
        upload(client, &[&item(&input, "1", &[&deep]), &item(&deep, "2", &[])])
            .await
            .unwrap();
    }
    let drv = Drv::new("thing", &[], &[&input]);
    let mut all_listed = drv.clone();
    all_listed.drv.input_srcs.insert(deep);
    build(&alice, &drv).await.done();
    build(&bob, &all_listed).await.done();
    assert_eq!(world.rungs("bob").await, [Some(Rung::Shared)]);
    let inputs: Vec<_> = world.builder.jobs()[0]
        .inputs
        .objects()
        .map(|o| o.path.clone())
        .collect();
    assert_eq!(BTreeSet::from_iter(inputs), all_listed.drv.input_srcs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_build_is_joined() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let drv = Drv::new("thing", &["log:one\n", "wait", "log:two\n", "random"], &[]);
    let first = Asked::plain(&alice, &drv);
    world.builder.until(|c| c.waiting == 1).await;
    let mut second = Asked::plain(&bob, &drv);
    second.saw("one").await;
    world.builder.release(1);
    let (first, second) = (first.answer().await, second.answer().await);
    assert_eq!(first.lines()[..2], ["one", "two"]);
    assert_eq!(second.lines()[..2], ["one", "two"]);
    assert!(
        second.lines()[2].starts_with("firn: joined thing"),
        "{:?}",
        second.lines()
    );
    assert_eq!(second.done().status, BuildStatus::Built);
    assert_eq!(world.rungs("alice").await, [Some(Rung::Built)]);
    assert_eq!(world.rungs("bob").await, [Some(Rung::Joined)]);
    assert_eq!(
        bytes(&alice, &drv.out()).await.unwrap(),
        bytes(&bob, &drv.out()).await.unwrap()
    );
    assert_eq!(world.house.running_builds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_requests_of_ten_accounts_are_one_run() {
    let world = World::new();
    let drv = Drv::new("thing", &["log:x\n", "wait", "random"], &[]);
    let mut requests = Vec::new();
    let mut clients = Vec::new();
    for n in 0..10 {
        let client = world.account(&format!("account-{n}")).await;
        requests.extend((0..5).map(|_| Asked::plain(&client, &drv)));
        clients.push(client);
    }
    world.builder.until(|c| c.waiting == 1).await;
    world.builder.release(1);
    for request in requests {
        let status = request.answer().await.done().status;
        assert!(status.is_success(), "{status:?}");
    }
    assert_eq!(world.builder.counts().started, 1);
    let expected = bytes(&clients[0], &drv.out()).await.unwrap();
    for client in &clients {
        assert_eq!(bytes(client, &drv.out()).await.unwrap(), expected);
    }
    let mut rungs = Vec::new();
    for n in 0..10 {
        rungs.extend(world.rungs(&format!("account-{n}")).await);
    }
    assert_eq!(rungs.len(), 50);
    assert_eq!(rungs.iter().filter(|r| **r == Some(Rung::Built)).count(), 1);
    assert_eq!(world.house.running_builds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_is_not_valid_is_named() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let input = item(&path("input"), "1", &[]);
    upload(&bob, &[&input]).await.unwrap();
    let drv = Drv::new("thing", &[], &[&input.info.path]);
    let result = build(&alice, &drv).await.done();
    assert_eq!(result.status, BuildStatus::InputRejected);
    let text = String::from_utf8(result.error_msg).unwrap();
    assert!(
        text.contains(&input.info.path.to_string()) && text.contains("not valid"),
        "{text}"
    );
    assert_eq!(world.builder.counts().started, 0);
    assert_eq!(world.rungs("alice").await, [None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_in_order() {
    let world = World::new();
    let alice = world.account("alice").await;
    let phase = "log:@nix { \"action\": \"setPhase\", \"phase\": \"buildPhase\" }\n";
    let drv = Drv::new("thing", &["log:a\nb", "log:c\n", phase, "log:end"], &[]);
    let line = |text: &str| LogEvent::BuildLine {
        id: 0,
        line: text.into(),
    };
    let expected = [
        LogEvent::BuildStarted {
            id: 0,
            drv_path: drv.path.clone(),
            doing: Doing::Building,
        },
        line("a"),
        line("bc"),
        LogEvent::BuildPhase {
            id: 0,
            phase: "buildPhase".into(),
        },
        line("end"),
        line("firn: built thing in 1.5 s"),
        LogEvent::BuildStopped { id: 0 },
    ];
    assert_eq!(build(&alice, &drv).await.events, expected);
    let again = build(&alice, &drv).await.events;
    let expected = [
        LogEvent::BuildStarted {
            id: 0,
            drv_path: drv.path.clone(),
            doing: Doing::Having,
        },
        line("firn: have thing: its outputs are valid already"),
        LogEvent::BuildStopped { id: 0 },
    ];
    assert_eq!(again, expected);
}

/// Nothing is called building that is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_activity_says_what_is_done() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (good, bad) = (Drv::new("good", &[], &[]), Drv::new("bad", &["fail:so"], &[]));
    for (client, drv, expected) in [
        (&alice, &good, Doing::Building),
        (&alice, &good, Doing::Having),
        (&bob, &good, Doing::Reusing),
        (&alice, &bad, Doing::Building),
        (&bob, &bad, Doing::Replaying),
    ] {
        let events = build(client, drv).await.events;
        assert!(
            matches!(&events[0], LogEvent::BuildStarted { doing, .. } if *doing == expected),
            "{expected:?}: {events:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_built_here_is_refused_with_the_reason() {
    let world = World::new();
    let alice = world.account("alice").await;
    let set = |name: &'static str, value: &'static str| {
        move |drv: &mut firn_nix::BasicDerivation| drop(drv.env.insert(name.into(), value.into()))
    };
    type Change = Box<dyn Fn(&mut firn_nix::BasicDerivation)>;
    let cases: [(Change, &str); 6] = [
        (
            Box::new(|d| d.platform = b"riscv64-linux".to_vec()),
            "on offer here: x86_64-linux",
        ),
        (
            Box::new(|d| d.builder = b"builtin:fetchurl".to_vec()),
            "its builder is 'builtin:fetchurl', on offer here: ",
        ),
        (Box::new(set("requiredSystemFeatures", "kvm")), "{kvm}"),
        (Box::new(set("__noChroot", "1")), "__noChroot"),
        (Box::new(|d| d.outputs.clear()), "at least one output"),
        (Box::new(|d| d.args = vec![b"a\0".to_vec()]), "NUL"),
    ];
    for (change, says) in cases {
        let mut drv = Drv::new("thing", &[], &[]);
        change(&mut drv.drv);
        let answered = build(&alice, &drv).await;
        let lines = answered.lines();
        let result = answered.done();
        assert_eq!(result.status, BuildStatus::InputRejected, "{says}");
        let text = String::from_utf8(result.error_msg).unwrap();
        assert!(
            text.contains(says) && text.contains(&drv.path.to_string()),
            "{text}"
        );
        assert_eq!(lines, [format!("firn: {text}")]);
    }
    assert_eq!(world.builder.counts().started, 0);
}
