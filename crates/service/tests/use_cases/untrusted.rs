//! `trusted = false`: an account whose clients are not believed.

use firn_protocol::{BuildStatus, Store as _, Upload as _};

use crate::support::graphs::{Packages, build_all, send, source};
use crate::support::{
    Client, Drv, World, build, fixed_without_path, is_valid, item, key, path, text_item, upload,
};

async fn untrusted(world: &World) -> Client {
    let alice = world.account("alice").await;
    let desk = world.desk("alice").await;
    desk.set(None, "trusted", Some("false")).await.unwrap();
    alice
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_proven_is_taken() {
    let world = World::new();
    let alice = untrusted(&world).await;
    let desk = world.desk("alice").await;
    let (known, unknown) = (key("known", 1), key("unknown", 2));
    desk.add_trusted_key(&known.public_key().to_string())
        .await
        .unwrap();

    let text = text_item("text", "text", &[]);
    let source = source("source", "int main");
    upload(&alice, &[&text, &source]).await.unwrap();

    let plain = item(&path("plain"), "plain", &[]);
    let text = upload(&alice, &[&plain]).await.unwrap_err().message;
    assert!(
        text.contains("'trusted' is false") && text.contains("plain"),
        "{text}"
    );
    let by_another = plain.clone().signed(&unknown);
    upload(&alice, &[&by_another]).await.unwrap_err();
    assert!(!is_valid(&alice, &plain.info.path).await);
    let signed = plain.clone().signed(&known);
    upload(&alice, &[&signed]).await.unwrap();
    assert!(is_valid(&alice, &plain.info.path).await);

    // A signature over other bytes, and a content address that is none, vouch for nothing.
    let mut other = item(&path("other"), "other", &[]);
    other.info.signatures = item(&path("other"), "true", &[]).signed(&known).info.signatures;
    upload(&alice, &[&other]).await.unwrap_err();
    let mut other = item(&path("other"), "other", &[]);
    other.info.ca = text_item("other", "other", &[]).info.ca;
    upload(&alice, &[&other]).await.unwrap_err();
    assert!(!is_valid(&alice, &path("other")).await);

    // As `nix-store --import` over ssh:// has it: without any proof.
    let import = item(&path("import"), "import", &[]);
    let mut all = alice.begin_upload().await.unwrap();
    let mut nar = &import.nar[..];
    let added = all.add_unsized(path("import"), [].into(), None, &mut nar).await;
    added.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_derivation_comes_with_its_graph() {
    let world = World::new();
    let alice = untrusted(&world).await;
    let source = source("source", "int main");
    upload(&alice, &[&source]).await.unwrap();
    let drv = Drv::new("thing", &[], &[&source.info.path]);
    let text = build(&alice, &drv).await.result.unwrap_err().message;
    assert!(
        text.contains("'trusted' is false") && text.contains("Nix 2.15"),
        "{text}"
    );
    assert_eq!(world.builder.counts().started, 0);

    // What is checked against a hash proves itself.
    let fixed = build(&alice, &fixed_without_path("fixed")).await.done();
    assert!(fixed.status.is_success());

    let mut packages = Packages::default();
    let low = packages.add("low", &[], &[], &[&source.info.path]);
    let high = packages.add("high", &[], &[&low], &[]);
    send(&alice, &[&low, &high]).await;
    let results = build_all(&alice, &[&high]).await;
    assert_eq!(results[0].status, BuildStatus::Built);
    assert!(is_valid(&alice, &high.out()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_not_for_a_session_to_say() {
    let world = World::new();
    let alice = untrusted(&world).await;
    let environment = vec![(b"FIRN_TRUSTED".to_vec(), b"true".to_vec())];
    let account = world.named("alice").await;
    let opened = world.house.session(account, None, environment).await;
    assert!(opened.err().unwrap().message.contains("'trusted'"));
    let desk = world.desk("alice").await;
    assert!(desk.set(Some("SHA256:x"), "trusted", Some("true")).await.is_err());
    // What came before stays.
    desk.set(None, "trusted", Some("true")).await.unwrap();
    let plain = item(&path("plain"), "plain", &[]);
    upload(&alice, &[&plain]).await.unwrap();
    desk.set(None, "trusted", Some("false")).await.unwrap();
    assert!(is_valid(&alice, &plain.info.path).await);
}
