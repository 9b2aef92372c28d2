//! What a requester chooses besides derivation and inputs: none of it is in the build key, and none of it reaches a build.

use std::collections::BTreeSet;

use firn_core::Rung;
use firn_protocol::{BuildMode, BuildOptions};

use super::{Stage, sources, victim};
use crate::support::{Asked, Client, Drv, upload};

/// Alice's inputs, derivation and the job that comes of them; then another account asks in its own way, and it is the same build.
async fn the_same_build<F>(other: impl FnOnce(Stage, Client, Drv) -> F)
where
    F: Future<Output = Stage>,
{
    let stage = Stage::new().await;
    let [input, deep] = sources();
    upload(&stage.alice, &[&deep, &input]).await.unwrap();
    stage.answered(&victim()).await;
    let bob = stage.world.account("bob").await;
    let stage = other(stage, bob, victim()).await;
    assert_eq!(stage.runs(), 1);
    assert_eq!(stage.world.rungs("bob").await, [Some(Rung::Shared)]);
}

async fn ask(client: &Client, drv: &Drv, options: BuildOptions) {
    let asked = Asked::start(client, drv, BuildMode::Normal, options);
    assert!(asked.answer().await.done().status.is_success());
}

/// Time limits and the limit of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits() {
    the_same_build(async |stage, bob, drv| {
        let [input, deep] = sources();
        upload(&bob, &[&deep, &input]).await.unwrap();
        let options = BuildOptions {
            max_silent_time: Some(3),
            timeout: Some(4),
            max_log_size: Some(5000),
        };
        ask(&bob, &drv, options).await;
        stage
    })
    .await;
}

/// Settings of the account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_account() {
    the_same_build(async |stage, bob, drv| {
        let [input, deep] = sources();
        upload(&bob, &[&deep, &input]).await.unwrap();
        for (name, value) in [
            ("timeout", "77"),
            ("max-silent-time", "78"),
            ("max-build-log-size", "7900"),
            ("keep-builds-running", "true"),
            ("reuse-build-timeouts", "true"),
            ("settings-from-drv-env", "true"),
            ("substitute", "false"),
        ] {
            stage.set("bob", name, value).await;
        }
        ask(&bob, &drv, BuildOptions::default()).await;
        stage
    })
    .await;
}

/// The environment of the SSH session, settings and others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ssh_environment() {
    the_same_build(async |stage, bob, drv| {
        let [input, deep] = sources();
        upload(&bob, &[&deep, &input]).await.unwrap();
        let environment = [
            ("FIRN_TIMEOUT", "60"),
            ("FIRN_KEEP_BUILDS_RUNNING", "1"),
            ("PATH", "/evil"),
            ("LD_PRELOAD", "/evil.so"),
            ("NIX_BUILD_CORES", "64"),
            ("http_proxy", "http://evil"),
            ("LANG", "tlh"),
        ];
        let bob = stage.session("bob", &environment).await;
        ask(&bob, &drv, BuildOptions::default()).await;
        stage
    })
    .await;
}

/// The order of uploads, one at a time, with others in between, and the derivers, signatures and times that come with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_inputs_came() {
    the_same_build(async |stage, bob, drv| {
        let [mut input, deep] = sources();
        stage.world.clock.set(12345);
        input.info.deriver = Some(crate::support::path("input.drv"));
        input.info.registration_time = 99;
        input.info.ultimate = true;
        upload(
            &bob,
            &[&crate::support::item(
                &crate::support::path("other"),
                "other",
                &[],
            )],
        )
        .await
        .unwrap();
        upload(&bob, &[&deep.signed(&crate::support::key("bob", 1))])
            .await
            .unwrap();
        upload(&bob, &[&input]).await.unwrap();
        upload(&bob, &[&input, &deep]).await.unwrap();
        ask(&bob, &drv, BuildOptions::default()).await;
        stage
    })
    .await;
}

/// The name of the derivation, and which inputs of the closure are listed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_lists() {
    the_same_build(async |stage, bob, drv| {
        let [input, deep] = sources();
        upload(&bob, &[&deep, &input]).await.unwrap();
        let mut drv = drv.under_another_path();
        drv.drv.input_srcs = BTreeSet::from([input.info.path, deep.info.path]);
        ask(&bob, &drv, BuildOptions::default()).await;
        stage
    })
    .await;
}

/// Whatever a requester chooses, the job is the same but for its number, its name and the list of roots.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_itself() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    stage.set("alice", "share-builds", "false").await;
    upload(&stage.alice, &[&deep, &input]).await.unwrap();
    upload(&stage.mallory, &[&deep, &input]).await.unwrap();
    stage.answered(&victim()).await;
    let session = stage
        .mallory_with(&[
            ("FIRN_TIMEOUT", "60"),
            ("FIRN_MAX_BUILD_LOG_SIZE", "7000"),
            ("PATH", "/evil"),
        ])
        .await;
    let options = BuildOptions {
        timeout: Some(9),
        ..BuildOptions::default()
    };
    ask(&session, &victim().under_another_path(), options).await;
    let [first, second] = &stage.world.builder.jobs()[..] else {
        panic!("not two runs")
    };
    assert_eq!(first.drv, second.drv);
    assert_eq!(first.inputs, second.inputs);
    assert_eq!(first.class, second.class);
    assert_eq!(first.limits, second.limits);
}
