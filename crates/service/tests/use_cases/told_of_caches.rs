//! What an account is told of its binary caches: in the build's log, in errors, in `explain`, in the list.

use firn_nix::StorePath;
use firn_nix::narinfo::NarInfo;
use firn_nix::signature::SecretKey;
use firn_protocol::{BuildMode, BuildOptions, DerivedPath, LogEvent, Store as _};
use firn_service::ports::Trouble;

use crate::support::graphs::{Packages, realise, send, source};
use crate::support::{Client, Drv, Item, World, build, entry, item, key, path, upload};

const CACHE: &str = "https://cache.example";

fn cache_key() -> SecretKey {
    key("cache", 1)
}

async fn account(world: &World) -> Client {
    world.caches.script(CACHE, |_| {});
    let client = world.account("alice").await;
    let desk = world.desk("alice").await;
    desk.add_substituter(CACHE).await.unwrap();
    desk.add_trusted_key(&cache_key().public_key().to_string())
        .await
        .unwrap();
    client
}

/// Puts an item into the cache as it is after a change.
fn put(world: &World, item: &Item, change: impl FnOnce(&mut NarInfo)) {
    world.caches.script(CACHE, |script| {
        script.put(item, &[]);
        if let Some(entry) = script.entries.get_mut(&item.info.path) {
            change(entry);
        }
    });
}

fn sign(info: &mut NarInfo, key: &SecretKey) {
    let fingerprint = info.fingerprint();
    info.signatures.insert(key.sign(fingerprint.as_bytes()));
}

/// The error of a client that asks for a path.
async fn error(client: &Client, path: &StorePath) -> String {
    let ensured = client.ensure_path(path.clone()).await.unwrap_err().message;
    let (log, mut events) = tokio::sync::mpsc::channel(64);
    let targets = vec![DerivedPath::Opaque(path.clone())];
    let built = client.build_paths(targets, BuildMode::Normal, BuildOptions::default(), log);
    let (built, ()) = tokio::join!(built, async { while events.recv().await.is_some() {} });
    let built = built.unwrap().remove(0);
    let told = String::from_utf8(built.error_msg).unwrap();
    let nothing = format!("{ensured}, and no cache of the account has it");
    assert!(told == ensured || told == nothing, "{told}");
    ensured
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_an_entry_is_said_with_the_next_step() {
    type Change = Box<dyn FnOnce(&mut NarInfo)>;
    let changes: [(Change, &[&str]); 5] = [
        (
            Box::new(|_| {}),
            &["unsigned", "not signed by any of your trusted-keys"],
        ),
        (
            Box::new(|info| sign(info, &key("other-1", 3))),
            &[
                "not signed by any of your trusted-keys, but by 'other-1'",
                "trusted-keys add other-1:…",
            ],
        ),
        (
            Box::new(|info| sign(info, &key("cache", 2))),
            &["in the name of 'cache'", "trusted-keys remove cache"],
        ),
        (
            Box::new(|info| {
                sign(info, &cache_key());
                info.nar_size = u64::MAX;
            }),
            &["more than is taken here"],
        ),
        (
            Box::new(|info| info.unreadable_signatures = 2),
            &["none of its 2 signatures can be read"],
        ),
    ];
    for (change, parts) in changes {
        let world = World::new();
        let alice = account(&world).await;
        let one = item(&path("one"), "1", &[]);
        put(&world, &one, change);
        let text = error(&alice, &one.info.path).await;
        contains(&text, &[CACHE, &one.info.path.to_string()]);
        contains(&text, parts);
        let desk = world.desk("alice").await;
        let explained = desk.explain(&one.info.path.to_string()).await.unwrap();
        contains(&explained.caches.join("\n"), parts);
        let states = desk.cache_states();
        assert_eq!(states[CACHE].trouble, None);
        contains(&states[CACHE].refused.as_ref().unwrap().1, parts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_cache_is_said_once_a_session_and_not_per_path() {
    for (trouble, part) in [
        (
            Trouble::Login {
                status: 401,
                shown: false,
            },
            "wants a login (401); to keep one: logins set HOST USER",
        ),
        (
            Trouble::WebPage("nix-cache-info"),
            "sends a web page in the place of nix-cache-info",
        ),
        (
            Trouble::NoCacheInfo { status: Some(404) },
            "is not a binary cache: it has no nix-cache-info (404)",
        ),
        (
            Trouble::UnknownHost("cache.example".into()),
            "the name 'cache.example' does not resolve",
        ),
    ] {
        let world = World::new();
        let alice = account(&world).await;
        world
            .caches
            .script(CACHE, |script| script.trouble = Some(trouble.clone()));
        let drvs = ["a", "b"].map(|name| Drv::new(name, &[], &[]));
        let lines = build(&alice, &drvs[0]).await.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        contains(&lines[0], &["firn: the cache 'https://cache.example' ", part]);
        let lines = build(&alice, &drvs[1]).await.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        // The record has it, for `explain`.
        let requests = world.requests("alice").await;
        contains(&requests[0].reason, &["; not fetched: ", part]);
        // Another session is told, too.
        let again = world.house.store(world.named("alice").await);
        let lines = build(&again, &Drv::new("c", &[], &[])).await.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        contains(&error(&alice, &path("nowhere")).await, &[part]);
        let desk = world.desk("alice").await;
        contains(desk.cache_states()[CACHE].trouble.as_ref().unwrap(), &[part]);
        desk.refresh_substituters();
        assert_eq!(desk.cache_states().len(), 0);
    }
}

/// A remote store's client does not see the logs of builds, unless it asks for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_graph_built_is_told_before_the_builds() {
    let world = World::new();
    let alice = account(&world).await;
    let source = source("source", "int main");
    upload(&alice, &[&source]).await.unwrap();
    let mut packages = Packages::default();
    let low = packages.add("low", &[], &[], &[&source.info.path]);
    let high = packages.add("high", &[], &[&low], &[]);
    send(&alice, &[&low, &high]).await;
    for package in [&low, &high] {
        put(&world, &item(&package.out(), "1", &[]), |info| {
            sign(info, &key("other-1", 3));
        });
    }
    let (results, events) = realise(&alice, &[high.target()], BuildMode::Normal).await;
    assert!(results.unwrap()[0].status.is_success());
    let told = events.iter().filter_map(|event| match event {
        LogEvent::Message(text) => Some(text.clone()),
        LogEvent::BuildLine { line, .. } => String::from_utf8(line.clone()).ok(),
        _ => None,
    });
    let told: Vec<String> = told.filter(|text| text.contains("the cache")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    contains(&told[0], &["firn: the cache", "by 'other-1'"]);
    assert!(
        events
            .iter()
            .any(|event| matches!(event, LogEvent::Message(text) if *text == told[0]))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_not_believed_is_asked_for_again_soon() {
    let world = World::new();
    let alice = account(&world).await;
    let one = item(&path("one"), "1", &[]);
    put(&world, &one, |_| {});
    error(&alice, &one.info.path).await;
    assert!(world.caches.not_believed.lock().unwrap().contains(&one.info.path));
    put(&world, &one, |info| sign(info, &cache_key()));
    alice.ensure_path(one.info.path.clone()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dependency_or_the_file_is_named() {
    let world = World::new();
    let alice = account(&world).await;
    let dep = item(&path("dep"), "1", &[]);
    let middle = item(&path("middle"), "2", &[&dep.info.path]);
    let top = item(&path("top"), "3", &[&middle.info.path]);
    for item in [&middle, &top] {
        put(&world, item, |info| sign(info, &cache_key()));
    }
    let text = error(&alice, &top.info.path).await;
    contains(&text, &["but none has", "-dep, which it needs"]);
    // It has it, unsigned.
    put(&world, &dep, |_| {});
    let text = error(&alice, &top.info.path).await;
    contains(&text, &["-top needs", "-dep unsigned"]);
    // Its file is gone, or is another one.
    put(&world, &dep, |info| sign(info, &cache_key()));
    let url = entry(&dep, &[]).url;
    world
        .caches
        .script(CACHE, |script| drop(script.nars.remove(&url)));
    let text = error(&alice, &top.info.path).await;
    contains(
        &text,
        &["-top needs", "does not have the NAR of", "-dep that it names"],
    );
    world
        .caches
        .script(CACHE, |script| drop(script.nars.insert(url, b"other".to_vec())));
    let text = error(&alice, &top.info.path).await;
    contains(&text, &["-top needs", "sends what is not", "-dep: "]);
    // What no cache has is said as before.
    let text = error(&alice, &path("nowhere")).await;
    assert!(text.ends_with("is not valid"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_is_tried_when_it_is_added() {
    let world = World::new();
    world.account("alice").await;
    let desk = world.desk("alice").await;
    let down = desk.add_substituter("https://down.example").await.unwrap();
    contains(
        &down.trouble.unwrap().to_string(),
        &["https://down.example", "does not answer"],
    );
    assert_eq!(desk.substituters().await.unwrap().len(), 1);
    for trouble in [
        Trouble::PrivateNetwork("10.0.0.1".into()),
        Trouble::Directory,
        Trouble::OtherStore("/gnu/store".into()),
    ] {
        let text = trouble.to_string();
        world
            .caches
            .script(CACHE, |script| script.trouble = Some(trouble));
        let refused = desk.add_substituter(CACHE).await.unwrap_err().message;
        contains(&refused, &[&text, "it is not added"]);
    }
    assert_eq!(desk.substituters().await.unwrap().len(), 1);
    world.caches.script(CACHE, |script| script.trouble = None);
    assert_eq!(desk.add_substituter(CACHE).await.unwrap().trouble, None);
    assert_eq!(desk.cache_states()[CACHE].trouble, None);
    // Each time it was asked anew; removing forgets as well.
    let refreshed = || *world.caches.refreshed.lock().unwrap();
    assert_eq!(refreshed(), 5);
    desk.remove_substituter(CACHE).await.unwrap();
    assert_eq!(refreshed(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_says_for_how_long_misses_are_remembered() {
    let world = World::new();
    let alice = account(&world).await;
    let wished = || world.caches.misses.lock().unwrap().last().copied().unwrap();
    alice.ensure_path(path("one")).await.unwrap_err();
    assert_eq!(wished(), None);
    alice.remember_misses(std::time::Duration::ZERO);
    alice.ensure_path(path("one")).await.unwrap_err();
    assert_eq!(wished(), Some(std::time::Duration::ZERO));
}
