//! Binary caches that lie, and caches that only Mallory asks.

use firn_nix::signature::SecretKey;
use firn_nix::{Hash, NarHash, StorePath};
use firn_protocol::Store as _;
use firn_service::ports::Login;

use super::{Stage, sources, victim};
use crate::support::{
    Client, Drv, Item, Script, build, bytes, entry, is_valid, item, key, path, soon, upload,
};

const CACHE: &str = "https://cache.example";
const EVIL: &str = "https://evil.example";

/// The key that Alice trusts.
fn trusted() -> SecretKey {
    key("cache", 1)
}

/// Both ask the cache and believe its key; Mallory asks another one besides, and believes that one's, too.
async fn stage() -> Stage {
    let stage = Stage::new().await;
    for name in ["alice", "mallory"] {
        let desk = stage.world.desk(name).await;
        desk.add_substituter(CACHE).await.unwrap();
        desk.add_trusted_key(&trusted().public_key().to_string())
            .await
            .unwrap();
    }
    let desk = stage.world.desk("mallory").await;
    desk.add_substituter(EVIL).await.unwrap();
    desk.add_trusted_key(&key("evil", 1).public_key().to_string())
        .await
        .unwrap();
    stage.world.caches.script(EVIL, |_| {});
    stage
}

async fn fetch(client: &Client, path: &StorePath) -> bool {
    let asked = [path.clone()].into();
    client
        .query_valid_paths(asked, true)
        .await
        .unwrap()
        .contains(path)
}

/// The cache does this; Alice gets nothing of it, and her build from her own input is hers.
async fn nothing_comes_of(lie: impl FnOnce(&mut Script)) {
    let stage = stage().await;
    let [input, deep] = sources();
    stage.world.caches.script(CACHE, lie);
    fetch(&stage.mallory, &path("input")).await;
    assert!(!fetch(&stage.alice, &path("input")).await);
    stage.unharmed(&[&deep, &input], &victim()).await;
}

fn evil() -> Item {
    item(&path("input"), "evil", &[])
}

/// An entry without a signature.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsigned_entry() {
    nothing_comes_of(|s| s.put(&evil(), &[])).await;
}

/// An entry signed by another key of the trusted name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_signed_by_a_key_of_the_same_name() {
    nothing_comes_of(|s| s.put(&evil(), &[&key("cache", 2)])).await;
}

/// The right entry and other bytes, of the announced length.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_than_the_entry_says() {
    nothing_comes_of(|s| {
        let right = item(&path("input"), "good", &[]);
        s.put(&right, &[&trusted()]);
        s.nars.insert(entry(&right, &[]).url, evil().nar);
    })
    .await;
}

/// The right bytes and more behind them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_behind_the_end() {
    nothing_comes_of(|s| {
        let right = item(&path("input"), "good", &[]);
        s.put(&right, &[&trusted()]);
        s.nars
            .insert(entry(&right, &[]).url, [&right.nar[..], b"evil"].concat());
    })
    .await;
}

/// Other references under the signature of the right ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_references_under_the_same_signature() {
    nothing_comes_of(|s| {
        let right = item(&path("input"), "good", &[]);
        s.put(&right, &[&trusted()]);
        let entry = s.entries.get_mut(&path("input")).unwrap();
        entry.references.insert(path("input"));
    })
    .await;
}

/// The signed entry of another path, in the place of this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_entry_of_another_path() {
    nothing_comes_of(|s| {
        let other = item(&path("other"), "evil", &[]);
        s.put(&other, &[&trusted()]);
        let mut entry = s.entries[&path("other")].clone();
        s.entries.insert(path("input"), entry.clone());
        // Or renamed, which the signature does not cover.
        entry.path = path("input");
        s.entries.insert(path("deep"), entry);
    })
    .await;
}

/// A content address that is not that of the bytes, in the place of a signature.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_address_that_is_not_true() {
    let right = crate::support::text_item("input", "good", &[]);
    let stage = stage().await;
    let mut lie = item(&right.info.path, "evil", &[]);
    lie.info.ca = right.info.ca;
    stage.world.caches.script(CACHE, |s| s.put(&lie, &[]));
    assert!(!fetch(&stage.mallory, &right.info.path).await);
    assert!(!fetch(&stage.alice, &right.info.path).await);
    upload(&stage.alice, &[&right]).await.unwrap();
    assert_eq!(bytes(&stage.alice, &right.info.path).await.unwrap(), right.nar);
}

/// A cache that only Mallory asks, with a key that only he trusts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_of_his_own() {
    let stage = stage().await;
    let [input, deep] = sources();
    stage
        .world
        .caches
        .script(EVIL, |s| s.put(&evil(), &[&key("evil", 1)]));
    assert!(fetch(&stage.mallory, &path("input")).await);
    build(&stage.mallory, &Drv::new("thing", &[], &[&path("input")]))
        .await
        .done();
    assert!(!fetch(&stage.alice, &path("input")).await);
    stage
        .unharmed(&[&deep, &input], &Drv::new("thing", &[], &[&path("input")]))
        .await;
    assert_eq!(stage.runs(), 2);
}

/// The output of Alice's derivation in a cache of his own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_in_a_cache_of_his_own() {
    let stage = stage().await;
    let [input, deep] = sources();
    let lie = item(&victim().out(), "evil", &[]);
    stage
        .world
        .caches
        .script(EVIL, |s| s.put(&lie, &[&key("evil", 1)]));
    assert!(build(&stage.mallory, &victim()).await.done().status.is_success());
    assert_eq!(stage.runs(), 0, "he fetched it");
    stage.unharmed(&[&deep, &input], &victim()).await;
    assert_eq!(stage.runs(), 1);
}

/// An entry for a path of his own that names the content of a private object of Alice's: he gets what the cache sends, or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_names_alices_content() {
    let stage = stage().await;
    let secret = item(&path("secret"), "secret", &[]);
    upload(&stage.alice, &[&secret]).await.unwrap();
    let mut named = item(&path("bait"), "bait", &[]);
    named.info.nar_hash = secret.info.nar_hash;
    named.info.nar_size = secret.info.nar_size;
    stage
        .world
        .caches
        .script(EVIL, |s| s.put(&named, &[&key("evil", 1)]));
    assert!(!fetch(&stage.mallory, &path("bait")).await);
    assert!(!is_valid(&stage.alice, &path("bait")).await);
}

/// A fetch of his that is under way with other bytes, of the same entry from the cache of the same address behind another login.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_under_way_with_his_login() {
    let stage = stage().await;
    let right = item(&path("input"), "good", &[]);
    let desk = stage.world.desk("mallory").await;
    desk.set_login("cache.example", "mallory", "x").await.unwrap();
    stage.world.caches.script(CACHE, |s| {
        s.put(&right, &[&trusted()]);
        s.gated = true;
        s.login = Some(Login {
            user: "mallory".into(),
            password: "x".into(),
        });
    });
    let his = {
        let mallory = stage.mallory.clone();
        tokio::spawn(async move { fetch(&mallory, &path("input")).await })
    };
    stage.world.caches.until_waiting(1).await;
    // The cache does not know her.
    assert!(!fetch(&stage.alice, &path("input")).await);
    stage.world.caches.release(1);
    assert!(soon(his).await.unwrap());
    assert!(!is_valid(&stage.alice, &path("input")).await);
}

/// The same bytes as a signed entry says, with its signature, from Mallory's upload: it is the key's word, whoever brings it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_bytes_from_him() {
    let stage = stage().await;
    let [input, deep] = sources();
    let hash = Hash::sha256(&input.nar);
    assert_eq!(
        input.info.nar_hash,
        NarHash::new(hash.bytes().try_into().unwrap())
    );
    upload(
        &stage.mallory,
        &[&deep.signed(&trusted()), &input.signed(&trusted())],
    )
    .await
    .unwrap();
    assert_eq!(bytes(&stage.alice, &path("input")).await.unwrap(), input.nar);
    let got = stage.answered(&victim()).await;
    assert_eq!(got, super::alone(&[&deep, &input], &victim()).await);
}
