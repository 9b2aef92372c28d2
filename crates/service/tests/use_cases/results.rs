//! Shared results: recorded before they are told, withdrawn when lost, compared on demand, and kept from the sweep.

use firn_core::Rung;
use firn_nix::DerivationOutput;
use firn_protocol::{BuildStatus, DerivedPath, OutputsSpec, Store as _};
use firn_service::ports::Builds as _;

use crate::support::graphs::{Packages, build_all, send, told};
use crate::support::{
    Drv, World, build, bytes, check, fixed_without_path, is_valid, item, path, text_item, upload,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_with_a_lost_content_is_withdrawn_and_built_again() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let drv = Drv::new("thing", &["random"], &[]);
    build(&alice, &drv).await.done();
    let content = world.db.all_claims()[0].1.object.content;
    world.content.remove(&content).unwrap();
    assert_eq!(build(&bob, &drv).await.done().status, BuildStatus::Built);
    assert_eq!(world.rungs("bob").await, [Some(Rung::Built)]);
    assert_eq!(world.builder.counts().started, 2);
    // The run that lost its bytes did run, and what came out of it was something else.
    for name in ["alice", "bob"] {
        let runs = world.db.irreproducible(world.named(name).await.id, true, 9).await;
        assert_eq!(runs.unwrap().len(), 2, "{name}");
    }
    let his = bytes(&bob, &drv.out()).await.unwrap();
    // The new result is the shared one from now on.
    let carol = world.account("carol").await;
    build(&carol, &drv).await.done();
    assert_eq!(bytes(&carol, &drv.out()).await.unwrap(), his);
    assert_eq!(world.rungs("carol").await, [Some(Rung::Shared)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_fails_is_an_internal_error_and_nothing_is_claimed() {
    let input = item(&path("input"), "1", &[]);
    for broken in ["evidence", "result", "record_build", "record_claims"] {
        let world = World::new();
        let alice = world.account("alice").await;
        upload(&alice, &[&input]).await.unwrap();
        let claims = world.db.all_claims();
        let drv = Drv::new("thing", &[], &[&input.info.path]);
        world.db.break_down(&[broken]);
        let text = match build(&alice, &drv).await.result {
            Err(error) => error.message,
            Ok(result) => {
                assert_eq!(result.status, BuildStatus::TransientFailure, "{broken}");
                String::from_utf8(result.error_msg).unwrap()
            }
        };
        assert!(text.contains("the service's database failed"), "{broken}: {text}");
        assert!(!text.contains("fire"), "{broken}: {text}");
        world.db.break_down(&[]);
        assert_eq!(world.db.all_claims(), claims, "{broken}");
        world.idle().await;
        assert!(build(&alice, &drv).await.done().status.is_success());
        assert!(is_valid(&alice, &drv.out()).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_runs_and_compares() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (same, other) = (Drv::new("same", &[], &[]), Drv::new("other", &["random"], &[]));
    for drv in [&same, &other] {
        build(&alice, drv).await.done();
    }
    let before = (bytes(&alice, &other.out()).await.unwrap(), world.db.all_claims());
    assert_eq!(check(&alice, &same).await.done().status, BuildStatus::Built);
    let differs = check(&alice, &other).await.done();
    assert_eq!(differs.status, BuildStatus::NotDeterministic);
    let text = String::from_utf8(differs.error_msg).unwrap();
    assert!(text.contains(&other.out().to_string()), "{text}");
    assert_eq!(world.builder.counts().started, 4);
    // Neither her view nor what is shared has changed.
    assert_eq!(
        (bytes(&alice, &other.out()).await.unwrap(), world.db.all_claims()),
        before
    );
    build(&bob, &other).await.done();
    assert_eq!(bytes(&bob, &other.out()).await.unwrap(), before.0);
}

/// Otherwise an account could check until an outcome suits it and hand that to everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checked_result_is_not_shared() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let drv = Drv::new("thing", &["random"], &[]);
    assert_eq!(check(&alice, &drv).await.done().status, BuildStatus::Built);
    assert!(is_valid(&alice, &drv.out()).await);
    assert_eq!(world.db.results(), 0);
    build(&bob, &drv).await.done();
    assert_eq!(world.builder.counts().started, 2);
    assert_eq!(world.rungs("bob").await, [Some(Rung::Built)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_takes_only_what_nobody_speaks_of() {
    let shell = item(&path("shell"), "extra", &[]);
    let world = World::with(|s| s.extra.extend([("/bin/sh".into(), shell.info.nar_hash)]));
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (hers, lost) = (item(&path("hers"), "1", &[]), item(&path("lost"), "2", &[]));
    upload(&alice, &[&hers]).await.unwrap();
    let drv = Drv::new("thing", &[], &[]);
    build(&bob, &drv).await.done();
    // Only the result speaks of the output now.
    let bobs = firn_core::AccountName::parse("bob").unwrap();
    firn_service::ports::Accounts::remove_account(&world.db, &bobs)
        .await
        .unwrap();
    world.db.break_down(&["record_claims"]);
    for broken_off in [&shell, &lost] {
        upload(&alice, &[broken_off]).await.unwrap_err();
    }
    world.db.break_down(&[]);
    assert_eq!(world.content.list().count(), 4);

    let swept = world.house.sweep().await.unwrap();
    assert_eq!((swept.kept, swept.removed), (3, 1));
    assert!(!world.content.contains(&lost.info.nar_hash));
    assert!(world.content.contains(&shell.info.nar_hash));
    assert_eq!(bytes(&alice, &hers.info.path).await.unwrap(), hers.nar);
    build(&alice, &drv).await.done();
    assert_eq!(world.rungs("alice").await, [Some(Rung::Shared)]);
    assert_eq!(world.house.sweep().await.unwrap().removed, 0);

    world.db.break_down(&["contents"]);
    world.house.sweep().await.unwrap_err();
    assert_eq!(
        world.content.list().count(),
        3,
        "who does not know removes nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_without_a_known_path_is_not_valid_already() {
    let world = World::new();
    let alice = world.account("alice").await;
    let outputs = [
        DerivationOutput::Floating {
            method: firn_nix::CaMethod::Git,
            algo: firn_nix::HashAlgo::Sha1,
        },
        DerivationOutput::Impure {
            method: firn_nix::CaMethod::Nar,
            algo: firn_nix::HashAlgo::Sha256,
        },
        DerivationOutput::Deferred,
    ];
    for output in outputs {
        let mut drv = Drv::new("thing", &[], &[]);
        drv.drv.outputs.insert("out".into(), output.clone());
        let result = build(&alice, &drv).await.done();
        assert_eq!(result.status, BuildStatus::InputRejected, "{output:?}");
        let text = String::from_utf8(result.error_msg).unwrap();
        assert!(text.contains(&drv.path.to_string()), "{text}");
    }
    assert_eq!(world.builder.counts().started, 0);
}

/// The path of a fixed output follows from the derivation's name when the client leaves it out: two names, two builds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fixed_outputs_are_not_mixed_up_when_their_paths_are_left_out() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (hers, his) = (fixed_without_path("hers"), fixed_without_path("his"));
    assert_ne!(hers.out(), his.out());
    assert_eq!(build(&alice, &hers).await.done().status, BuildStatus::Built);
    assert_eq!(build(&bob, &his).await.done().status, BuildStatus::Built);
    assert!(is_valid(&alice, &hers.out()).await && !is_valid(&alice, &his.out()).await);
    assert!(is_valid(&bob, &his.out()).await && !is_valid(&bob, &hers.out()).await);
    assert_eq!(build(&bob, &his).await.done().status, BuildStatus::AlreadyValid);
    // Said or left out, it is one build.
    let mut said = hers.clone();
    let out = hers.out();
    let DerivationOutput::Fixed { path, .. } = said.drv.outputs.get_mut("out").unwrap() else {
        panic!()
    };
    *path = Some(out);
    build(&bob, &said).await.done();
    assert_eq!(world.rungs("bob").await.last(), Some(&Some(Rung::Shared)));
}

/// The same for the second look, after the outputs and before the inputs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_fails_is_not_an_input_that_is_missing() {
    let world = World::new();
    let alice = world.account("alice").await;
    let input = item(&path("input"), "1", &[]);
    upload(&alice, &[&input]).await.unwrap();
    world.db.break_down_after("evidence", 1);
    let drv = Drv::new("thing", &[], &[&input.info.path]);
    let text = build(&alice, &drv).await.result.unwrap_err().message;
    assert!(text.contains("the service's database failed"), "{text}");
}

/// Statistics are not worth an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_does_not_fail_because_it_cannot_be_counted() {
    let world = World::new();
    let alice = world.account("alice").await;
    let drv = Drv::new("thing", &[], &[]);
    world.db.break_down(&["record_request"]);
    assert_eq!(build(&alice, &drv).await.done().status, BuildStatus::Built);
    assert!(is_valid(&alice, &drv.out()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_derivation_without_that_output_is_not_valid() {
    let world = World::new();
    let alice = world.account("alice").await;
    let thing = Packages::default().add("thing", &[], &[], &[]);
    send(&alice, &[&thing]).await;
    build_all(&alice, &[&thing]).await;
    let target = |output: &str| DerivedPath::Built {
        drv_path: thing.path(),
        outputs: OutputsSpec::Names([output.to_owned()].into()),
    };
    let build_paths = async |output: &str| {
        let (log, _receive) = tokio::sync::mpsc::channel(1);
        alice
            .build_paths(vec![target(output)], Default::default(), Default::default(), log)
            .await
    };
    assert!(
        alice
            .query_missing(vec![target("out")])
            .await
            .unwrap()
            .will_build
            .is_empty()
    );
    assert_eq!(
        build_paths("out").await.unwrap()[0].status,
        BuildStatus::AlreadyValid
    );
    let expected = format!("derivation '{}' has no output 'dev'", thing.path());
    let refused = alice.query_missing(vec![target("dev")]).await.unwrap_err();
    assert_eq!(refused.message, expected);
    let results = build_paths("dev").await.unwrap();
    assert_eq!(
        (results[0].status, told(&results[0])),
        (BuildStatus::InputRejected, expected)
    );
}

/// The database's witness looks; see there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_valid_is_on_disk_first() {
    let world = World::new();
    let alice = world.account("alice").await;
    upload(&alice, &[&item(&path("a"), "1", &[]), &text_item("b", "2", &[])])
        .await
        .unwrap();
    check(&alice, &Drv::new("checked", &[], &[])).await.done();
    build(&alice, &Drv::new("built", &[], &[])).await.done();
    assert_eq!(world.db.all_claims().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_missing_output_is_reason_enough_to_build() {
    let world = World::new();
    let alice = world.account("alice").await;
    let mut drv = Drv::new("thing", &[], &[]);
    let dev = path("thing-dev");
    drv.drv
        .outputs
        .insert("dev".into(), DerivationOutput::InputAddressed(dev.clone()));
    upload(&alice, &[&item(&dev, "brought", &[])]).await.unwrap();
    assert_eq!(build(&alice, &drv).await.done().status, BuildStatus::Built);
    // Both are the build's now: what was built is believed before what was brought.
    assert_ne!(bytes(&alice, &dev).await.unwrap(), item(&dev, "brought", &[]).nar);
    assert_eq!(build(&alice, &drv).await.done().status, BuildStatus::AlreadyValid);
    assert_eq!(world.builder.counts().started, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_content_comes_back_when_it_is_built_again() {
    let world = World::new();
    let alice = world.account("alice").await;
    let drv = Drv::new("thing", &[], &[]);
    build(&alice, &drv).await.done();
    let before = bytes(&alice, &drv.out()).await.unwrap();
    world
        .content
        .remove(&world.db.all_claims()[0].1.object.content)
        .unwrap();
    let text = bytes(&alice, &drv.out()).await.unwrap_err().message;
    assert!(text.starts_with("internal error"), "{text}");
    assert_eq!(build(&alice, &drv).await.done().status, BuildStatus::Built);
    assert_eq!(bytes(&alice, &drv.out()).await.unwrap(), before);
}
