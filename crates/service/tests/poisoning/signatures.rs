//! Signatures by a key that Alice trusts, in Mallory's hands.

use std::collections::BTreeSet;

use firn_nix::signature::SecretKey;
use firn_protocol::Store as _;

use super::{Stage, sources, victim};
use crate::support::{Item, build, bytes, is_valid, item, key, path, upload};

/// The key that Alice trusts.
fn trusted() -> SecretKey {
    key("trusted", 1)
}

async fn stage() -> Stage {
    let stage = Stage::new().await;
    let public = trusted().public_key().to_string();
    stage
        .world
        .desk("alice")
        .await
        .add_trusted_key(&public)
        .await
        .unwrap();
    stage
}

/// Mallory brings this; Alice does not see it, and her build from the right input is hers.
async fn not_believed(lie: &Item) {
    let stage = stage().await;
    let [input, deep] = sources();
    let _ = upload(&stage.mallory, &[&deep, lie]).await;
    let _ = build(&stage.mallory, &victim()).await.result;
    assert!(!is_valid(&stage.alice, &lie.info.path).await);
    stage.unharmed(&[&deep, &input], &victim()).await;
}

fn with(mut item: Item, signature: String) -> Item {
    item.info.signatures = BTreeSet::from([signature]);
    item
}

fn evil() -> Item {
    item(&path("input"), "evil", &[&path("deep")])
}

/// The signature of another path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_another_path() {
    let other = item(&path("other"), "evil", &[&path("deep")]);
    not_believed(&with(evil(), other.signature(&trusted()))).await;
}

/// The signature of the right bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_right_bytes() {
    let [input, _] = sources();
    not_believed(&with(evil(), input.signature(&trusted()))).await;
}

/// The right bytes and their signature with a reference less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_reference_less() {
    let [input, _] = sources();
    let lie = item(&path("input"), "input", &[]);
    not_believed(&with(lie, input.signature(&trusted()))).await;
}

/// With a reference more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_reference_more() {
    let [input, _] = sources();
    let lie = item(&path("input"), "input", &[&path("deep"), &path("input")]);
    not_believed(&with(lie, input.signature(&trusted()))).await;
}

/// By another key of the trusted key's name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_key_of_the_same_name() {
    not_believed(&with(evil(), evil().signature(&key("trusted", 2)))).await;
}

/// By such a key, which Mallory trusts and signs with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_key_of_the_same_name_that_he_trusts() {
    let stage = stage().await;
    let [input, deep] = sources();
    let own = key("trusted", 2);
    let desk = stage.world.desk("mallory").await;
    desk.import_signing_key(&own.to_secret_text()).await.unwrap();
    desk.add_trusted_key(&own.public_key().to_string()).await.unwrap();
    upload(&stage.mallory, &[&deep.signed(&own), &evil().signed(&own)])
        .await
        .unwrap();
    build(&stage.mallory, &victim()).await.done();
    assert!(!is_valid(&stage.alice, &path("input")).await);
    assert!(!is_valid(&stage.alice, &victim().out()).await);
    stage.unharmed(&[&deep, &input], &victim()).await;
}

/// By a key of a name that is the trusted one's in another case.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_key_of_a_similar_name() {
    not_believed(&with(evil(), evil().signature(&key("Trusted", 1)))).await;
}

/// The trusted key's own bytes under another name: a key is its name and its bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_same_key_under_another_name() {
    let [input, deep] = sources();
    let stage = stage().await;
    let other = key("other", 1);
    upload(&stage.mallory, &[&deep.signed(&other), &input.signed(&other)])
        .await
        .unwrap();
    assert!(!is_valid(&stage.alice, &path("input")).await);
}

/// Added later, to bytes that were uploaded without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn added_later() {
    let stage = stage().await;
    let [input, deep] = sources();
    upload(&stage.mallory, &[&deep, &evil()]).await.unwrap();
    let signature = BTreeSet::from([input.signature(&trusted())]);
    let _ = stage.mallory.add_signatures(path("input"), signature).await;
    assert!(!is_valid(&stage.alice, &path("input")).await);
    stage.unharmed(&[&deep, &input], &victim()).await;
}

/// Stripped, and the right object brought besides: Alice sees what is signed, whatever came first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stripped() {
    let stage = stage().await;
    let [input, deep] = sources();
    upload(&stage.mallory, &[&deep, &evil()]).await.unwrap();
    let bob = stage.world.account("bob").await;
    upload(&bob, &[&deep.signed(&trusted()), &input.signed(&trusted())])
        .await
        .unwrap();
    assert_eq!(bytes(&stage.alice, &path("input")).await.unwrap(), input.nar);
    let got = stage.answered(&victim()).await;
    assert_eq!(got, super::alone(&[&deep, &input], &victim()).await);
}

/// On Alice's own output, while it is built: what Mallory signs with his key is nothing to her.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_alices_output() {
    let stage = stage().await;
    let [input, deep] = sources();
    let lie = item(&victim().out(), "evil", &[]).signed(&key("mallory", 1));
    upload(&stage.mallory, &[&lie]).await.unwrap();
    stage.unharmed(&[&deep, &input], &victim()).await;
}

/// A key that Mallory trusts in one session is trusted in no session of Alice's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_key_of_his_session() {
    let stage = stage().await;
    let [input, deep] = sources();
    let own = key("own", 1);
    let public = own.public_key().to_string();
    let session = stage.mallory_with(&[("FIRN_TRUSTED_PUBLIC_KEYS", &public)]).await;
    upload(&session, &[&deep.signed(&own), &evil().signed(&own)])
        .await
        .unwrap();
    assert!(!is_valid(&stage.alice, &path("input")).await);
    stage.unharmed(&[&deep, &input], &victim()).await;
}
