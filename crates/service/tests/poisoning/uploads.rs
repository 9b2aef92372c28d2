//! Uploads of other bytes, and of lies about them.

use std::collections::BTreeSet;

use firn_nix::{CaMethod, ContentAddress, Hash, HashAlgo, StorePath};
use firn_protocol::{BuildStatus, Store as _, Upload as _};

use super::{Stage, alone, got, sources, victim};
use crate::support::{Asked, Drv, Item, World, build, bytes, is_valid, item, path, text_item, upload};

/// Mallory has these instead of Alice's inputs and builds Alice's derivation first.
async fn built_first_from(items: &[&Item]) {
    let stage = Stage::new().await;
    upload(&stage.mallory, items).await.unwrap();
    let drv = victim();
    build(&stage.mallory, &drv).await.done();
    let [input, deep] = sources();
    let before = stage.runs();
    stage.unharmed(&[&deep, &input], &drv).await;
    assert_eq!(stage.runs(), before + 1, "Alice's build was not run");
}

/// Other bytes under an input's path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_of_an_input() {
    let [_, deep] = sources();
    built_first_from(&[&deep, &item(&path("input"), "evil", &[&path("deep")])]).await;
}

/// Other bytes below an input, which the derivation does not name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_deep_in_the_closure() {
    let [input, _] = sources();
    built_first_from(&[&item(&path("deep"), "evil", &[]), &input]).await;
}

/// References left out: a part of the closure is not there, and the builder finds no file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_references() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    let drv = Drv::new("thing", &[], &[&input.info.path]);
    upload(&stage.mallory, &[&item(&path("input"), "input", &[])])
        .await
        .unwrap();
    assert!(build(&stage.mallory, &drv).await.done().status.is_success());
    stage.unharmed(&[&deep, &input], &drv).await;
    assert_eq!(stage.runs(), 2);
}

/// References too many: a file more in the sandbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_references() {
    let [_, deep] = sources();
    let more = item(&path("more"), "more", &[]);
    let input = item(&path("input"), "input", &[&path("deep"), &path("more")]);
    built_first_from(&[&deep, &more, &input]).await;
}

/// The same files with other references between them, which only a graph shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_in_a_circle() {
    let [input, _] = sources();
    built_first_from(&[&item(&path("deep"), "deep", &[&path("input")]), &input]).await;
}

/// A reference to itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_to_itself() {
    let [input, _] = sources();
    built_first_from(&[&item(&path("deep"), "deep", &[&path("deep")]), &input]).await;
}

/// The contents of two inputs exchanged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contents_exchanged() {
    built_first_from(&[
        &item(&path("deep"), "input", &[]),
        &item(&path("input"), "deep", &[&path("deep")]),
    ])
    .await;
}

/// A root left out that the closure has anyway changes nothing; one that it has not is another build.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_left_out() {
    let stage = Stage::new().await;
    let (a, b) = (item(&path("a"), "a", &[]), item(&path("b"), "b", &[]));
    upload(&stage.mallory, &[&a, &b]).await.unwrap();
    let drv = Drv::new("thing", &[], &[&a.info.path, &b.info.path]);
    let mut other = drv.clone();
    other.drv.input_srcs.remove(&b.info.path);
    build(&stage.mallory, &other).await.done();
    stage.unharmed(&[&a, &b], &drv).await;
    assert_eq!(stage.runs(), 2);
}

/// A root more, which the builder can see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_added() {
    let stage = Stage::new().await;
    let (a, b) = (item(&path("a"), "a", &[]), item(&path("b"), "b", &[]));
    upload(&stage.mallory, &[&a, &b]).await.unwrap();
    let drv = Drv::new("thing", &[], &[&a.info.path]);
    let mut other = drv.clone();
    other.drv.input_srcs.insert(b.info.path.clone());
    build(&stage.mallory, &other).await.done();
    stage.unharmed(&[&a, &b], &drv).await;
    assert_eq!(stage.runs(), 2);
}

/// An input with the hash part of Alice's and another name, in the place of hers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_with_the_same_hash_part() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    let digest = firn_nix::base32::decode::<20>(path("input").hash_part().as_bytes()).unwrap();
    let twin = item(
        &StorePath::new(&digest, "inpuu").unwrap(),
        "input",
        &[&path("deep")],
    );
    upload(&stage.mallory, &[&deep, &twin]).await.unwrap();
    let drv = victim();
    let mut other = drv.clone();
    other.drv.input_srcs = BTreeSet::from([twin.info.path.clone()]);
    build(&stage.mallory, &other).await.done();
    stage.unharmed(&[&deep, &input], &drv).await;
    assert_eq!(stage.runs(), 2);
}

/// Bytes under the path that Alice's build will have: she does not find it valid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_under_the_output_path() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    let drv = victim();
    upload(&stage.mallory, &[&item(&drv.out(), "evil", &[])])
        .await
        .unwrap();
    assert!(!is_valid(&stage.alice, &drv.out()).await);
    stage.unharmed(&[&deep, &input], &drv).await;
    assert_eq!(stage.runs(), 1);
}

/// Bytes under the path of a derivation's `.drv`, without and with the content address that it must have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_derivation_under_its_path() {
    let stage = Stage::new().await;
    let right = text_item("thing.drv", "Derive(…)", &[]);
    let mut wrong = item(&right.info.path, "Derive(evil)", &[]);
    upload(&stage.mallory, &[&wrong]).await.unwrap();
    wrong.info.ca = right.info.ca;
    let refused = upload(&stage.mallory, &[&wrong]).await.unwrap_err().message;
    assert!(refused.contains("its content address says"), "{refused}");
    assert!(!is_valid(&stage.alice, &right.info.path).await);
    upload(&stage.alice, &[&right]).await.unwrap();
    assert_eq!(bytes(&stage.alice, &right.info.path).await.unwrap(), right.nar);
}

/// A content address that is true of the bytes and belongs to another path: another name, method or set of references.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_addresses_of_other_paths() {
    let stage = Stage::new().await;
    let right = text_item("source", "text", &[]);
    let digest = firn_nix::base32::decode::<20>(right.info.path.hash_part().as_bytes()).unwrap();
    let renamed = StorePath::new(&digest, "sourcf").unwrap();
    let deep = item(&path("deep"), "deep", &[]);
    let referring = text_item("source", "text", &[&deep.info.path]);
    let flat = ContentAddress {
        method: CaMethod::Flat,
        hash: HashAlgo::Sha256.digest(b"text"),
    };
    let recursive = ContentAddress {
        method: CaMethod::Nar,
        hash: Hash::sha256(&right.nar),
    };
    let lies = [
        (&renamed, right.info.ca),
        (&referring.info.path, right.info.ca),
        (&right.info.path, Some(flat)),
        (&right.info.path, Some(recursive)),
    ];
    for (path, ca) in lies {
        let mut lie = item(path, "text", &[]);
        lie.info.ca = ca;
        let refused = upload(&stage.mallory, &[&lie]).await.unwrap_err().message;
        assert!(refused.contains("belongs to path"), "{refused}");
    }
    assert_eq!(stage.world.db.all_claims(), []);
}

/// An object that names its content address, and the same one that does not: which of both Mallory used is not Alice's concern.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_address_left_out() {
    let stage = Stage::new().await;
    let said = text_item("source", "text", &[]);
    let mut unsaid = said.clone();
    unsaid.info.ca = None;
    upload(&stage.mallory, &[&unsaid]).await.unwrap();
    let mut drv = Drv::new("thing", &[], &[&said.info.path]);
    let graph = format!("graph {}", said.info.path);
    drv.drv.env.insert(b"exportReferencesGraph".into(), graph.into());
    build(&stage.mallory, &drv).await.done();
    stage.unharmed(&[&said], &drv).await;
    assert_eq!(stage.runs(), 2);
}

/// Other bytes under an input's path while Alice's build waits for a slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_while_the_build_is_queued() {
    let stage = Stage::on(World::with(|s| s.max_jobs = 1)).await;
    let [input, deep] = sources();
    upload(&stage.alice, &[&deep, &input]).await.unwrap();
    let busy = Asked::plain(&stage.mallory, &Drv::new("busy", &["wait"], &[]));
    stage.world.builder.until(|c| c.waiting == 1).await;
    let drv = victim();
    let hers = Asked::plain(&stage.alice, &drv);
    while stage.world.house.running_builds() < 2 {
        tokio::task::yield_now().await;
    }
    let evil = item(&path("input"), "evil", &[&path("deep")]);
    upload(&stage.mallory, &[&deep, &evil]).await.unwrap();
    let his = Asked::plain(&stage.mallory, &drv);
    stage.world.builder.release(1);
    busy.answer().await.done();
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    his.answer().await.done();
    let got = bytes(&stage.alice, &drv.out()).await.unwrap();
    assert_eq!(got, alone(&[&deep, &input], &drv).await.1[0].1);
}

/// The same while it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_while_the_build_runs() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    upload(&stage.alice, &[&deep, &input]).await.unwrap();
    let drv = Drv::new("thing", &["wait"], &[&path("input")]);
    let hers = Asked::plain(&stage.alice, &drv);
    stage.world.builder.until(|c| c.waiting == 1).await;
    let evil = item(&path("input"), "evil", &[&path("deep")]);
    upload(&stage.mallory, &[&deep, &evil]).await.unwrap();
    upload(&stage.mallory, &[&item(&drv.out(), "evil", &[])])
        .await
        .unwrap();
    stage.world.builder.release(1);
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    let inputs = stage.world.builder.jobs()[0].inputs.clone();
    let mapped = inputs.objects().find(|o| o.path == path("input")).unwrap();
    assert_eq!(mapped.content, input.info.nar_hash);
    let nar = bytes(&stage.alice, &path("input")).await.unwrap();
    assert_eq!(nar, input.nar);
}

/// An upload that breaks off after its bytes leaves nothing, neither to Mallory nor to anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_breaks_off() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    let evil = item(&path("deep"), "evil", &[]);
    let mut begun = stage.mallory.begin_upload().await.unwrap();
    begun.add(evil.info.clone(), &mut &evil.nar[..]).await.unwrap();
    drop(begun);
    assert!(!is_valid(&stage.mallory, &path("deep")).await);
    stage.unharmed(&[&deep, &input], &victim()).await;
}

/// Bytes that are not those of the announced hash, with the length of those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_those_of_the_hash() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    let mut lie = deep.clone();
    lie.nar = item(&path("deep"), "evil", &[]).nar;
    upload(&stage.mallory, &[&lie]).await.unwrap_err();
    stage.unharmed(&[&deep, &input], &victim()).await;
}

/// A log for Alice's derivation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_wrote() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["log:true\n"], &[]);
    let mut lie = &b"lie\n"[..];
    stage
        .mallory
        .add_build_log(drv.path.clone(), &mut lie)
        .await
        .unwrap();
    let lines = build(&stage.alice, &drv).await.lines();
    assert_eq!(lines[0], "true");
    assert!(!lines.iter().any(|line| line.contains("lie")));
}

/// A deriver for a path of Alice's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deriver_that_is_none() {
    let stage = Stage::new().await;
    let [_, deep] = sources();
    let mut lie = deep.clone();
    lie.info.deriver = Some(path("evil.drv"));
    upload(&stage.mallory, &[&lie, &item(&path("evil.drv"), "evil", &[])])
        .await
        .unwrap();
    upload(&stage.alice, &[&deep]).await.unwrap();
    let derivers = stage.alice.query_valid_derivers(path("deep")).await.unwrap();
    assert_eq!(derivers, BTreeSet::new());
    let info = stage
        .alice
        .query_path_infos(vec![path("deep")])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(info.deriver, None);
}

/// Alice forgets an input while her build uses it and Mallory has another one: the build goes on with hers, and stands on nothing of his.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_is_forgotten_while_the_build_runs() {
    let stage = Stage::new().await;
    let deep = item(&path("deep"), "deep", &[]);
    upload(&stage.alice, &[&deep]).await.unwrap();
    let drv = Drv::new("thing", &["wait"], &[&path("deep")]).referring(&[&path("deep")]);
    let hers = Asked::plain(&stage.alice, &drv);
    stage.world.builder.until(|c| c.waiting == 1).await;
    let desk = stage.world.desk("alice").await;
    assert_eq!(desk.forget(&[path("deep").to_string()]).await.unwrap(), 1);
    upload(&stage.mallory, &[&item(&path("deep"), "evil", &[])])
        .await
        .unwrap();
    stage.world.builder.release(2);
    hers.answer().await.done();
    // Its reference is gone: it is not closed, and comes back with it.
    assert!(!is_valid(&stage.alice, &drv.out()).await);
    upload(&stage.alice, &[&deep]).await.unwrap();
    assert!(is_valid(&stage.alice, &drv.out()).await);
    let world = World::new();
    let alice = world.account("alice").await;
    world.builder.release(1);
    upload(&alice, &[&deep]).await.unwrap();
    let expected = got(&alice, &drv).await;
    assert_eq!(bytes(&stage.alice, &drv.out()).await.unwrap(), expected.1[0].1);
}

/// A stored content that is lost: the result is withdrawn, not answered with something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_result_that_is_lost() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    upload(&stage.mallory, &[&deep, &input]).await.unwrap();
    let drv = victim();
    build(&stage.mallory, &drv).await.done();
    let claims = stage.world.db.all_claims();
    let built = claims.iter().find(|(_, c)| c.object.path == drv.out()).unwrap();
    stage.world.content.remove(&built.1.object.content).unwrap();
    upload(&stage.mallory, &[&item(&drv.out(), "evil", &[])])
        .await
        .unwrap();
    stage.unharmed(&[&deep, &input], &drv).await;
    assert_eq!(stage.runs(), 2);
}
