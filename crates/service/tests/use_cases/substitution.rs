//! What an account's binary caches give it, and nobody else for that.

use std::collections::BTreeSet;

use firn_core::Rung;
use firn_nix::StorePath;
use firn_nix::signature::SecretKey;
use firn_protocol::{BuildStatus, DerivedPath, Doing, LogEvent, Store as _};
use firn_service::ports::Login;

use crate::support::{
    Calls, Client, Drv, Item, World, build, bytes, entry, is_valid, item, key, path, soon, text_item, upload,
};

const FIRST: &str = "https://first.example";
const SECOND: &str = "https://second.example";

fn cache_key() -> SecretKey {
    key("cache", 1)
}

/// An account that asks these caches and believes the key.
async fn account(world: &World, name: &str, caches: &[&str]) -> Client {
    let client = world.account(name).await;
    let desk = world.desk(name).await;
    for cache in caches {
        desk.add_substituter(cache).await.unwrap();
    }
    desk.add_trusted_key(&cache_key().public_key().to_string())
        .await
        .unwrap();
    client
}

fn has(world: &World, cache: &str, items: &[&Item]) {
    world.caches.script(cache, |script| {
        for item in items {
            script.put(item, &[&cache_key()]);
        }
    });
}

async fn fetch(client: &Client, paths: &[&StorePath]) -> usize {
    let paths = paths.iter().map(|p| (*p).clone()).collect();
    client.query_valid_paths(paths, true).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cache_has_comes_with_its_references() {
    let world = World::new();
    let alice = account(&world, "alice", &[FIRST]).await;
    let (leaf, middle) = (
        item(&path("leaf"), "1", &[]),
        item(&path("middle"), "2", &[&path("leaf")]),
    );
    let mut top = item(&path("top"), "3", &[&path("middle"), &path("top")]);
    top.info.deriver = Some(path("top.drv"));
    has(&world, FIRST, &[&leaf, &middle, &top]);
    assert!(
        !is_valid(&alice, &top.info.path).await,
        "not without being asked for"
    );
    let targets = vec![
        DerivedPath::Opaque(top.info.path.clone()),
        DerivedPath::Opaque(path("no")),
    ];
    let missing = alice.query_missing(targets).await.unwrap();
    assert_eq!(missing.will_substitute.len(), 3);
    assert_eq!(missing.unknown, BTreeSet::from([path("no")]));
    assert_eq!(
        missing.nar_size,
        [&leaf, &middle, &top]
            .iter()
            .map(|i| i.info.nar_size)
            .sum::<u64>()
    );
    world.clock.set(6);
    assert_eq!(fetch(&alice, &[&top.info.path]).await, 1);
    assert_eq!(alice.query_all_valid_paths().await.unwrap().len(), 3);
    assert_eq!(bytes(&alice, &top.info.path).await.unwrap(), top.nar);
    let info = alice
        .query_path_infos(vec![top.info.path.clone()])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (info.deriver, info.registration_time),
        (top.info.deriver.clone(), 6)
    );
    assert_eq!(info.signatures, BTreeSet::from([top.signature(&cache_key())]));
    let explained = world
        .desk("alice")
        .await
        .explain(&top.info.path.to_string())
        .await
        .unwrap();
    assert_eq!(
        explained.candidates[0].why,
        "signed by the key 'cache', which you trust; fetched from https://first.example"
    );
    assert_eq!(world.caches.calls(FIRST).nar, 3);
    // Not again.
    assert_eq!(fetch(&alice, &[&top.info.path]).await, 1);
    assert_eq!(world.caches.calls(FIRST).nar, 3);
    // It was a signature that she believed, not the cache.
    world
        .desk("alice")
        .await
        .remove_trusted_key("cache")
        .await
        .unwrap();
    assert!(!is_valid(&alice, &top.info.path).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_are_asked_in_the_order_of_their_priority() {
    let one = item(&path("one"), "1", &[]);
    for (first, second, url, expected) in [
        (40, 30, FIRST.to_owned(), SECOND),
        (30, 40, FIRST.to_owned(), FIRST),
        (30, 30, FIRST.to_owned(), FIRST),
        (40, 30, format!("{FIRST}?priority=1"), FIRST),
    ] {
        let world = World::new();
        world.caches.script(FIRST, |s| s.priority = first);
        world.caches.script(SECOND, |s| s.priority = second);
        for cache in [FIRST, SECOND] {
            has(&world, cache, &[&one]);
        }
        let alice = account(&world, "alice", &[&url, SECOND]).await;
        assert_eq!(fetch(&alice, &[&one.info.path]).await, 1);
        for cache in [FIRST, SECOND] {
            let nars = usize::from(cache == expected);
            assert_eq!(world.caches.calls(cache).nar, nars, "{first} {second} {url}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_cache_is_asked_when_one_fails() {
    let (leaf, top) = (
        item(&path("leaf"), "1", &[]),
        item(&path("top"), "2", &[&path("leaf")]),
    );
    type Failure = fn(&World);
    let failures: [(&str, Failure); 5] = [
        ("is down", |world| world.caches.script(FIRST, |s| s.down = true)),
        ("wants a login", |world| {
            world.caches.script(FIRST, |s| {
                s.login = Some(Login {
                    user: "u".into(),
                    password: "p".into(),
                });
            });
        }),
        ("lacks the bytes", |world| {
            world.caches.script(FIRST, |s| s.nars.clear())
        }),
        ("sends others", |world| {
            world
                .caches
                .script(FIRST, |s| s.nars.values_mut().for_each(|nar| nar[100] ^= 1));
        }),
        ("sends more", |world| {
            world
                .caches
                .script(FIRST, |s| s.nars.values_mut().for_each(|nar| nar.extend([0; 8])));
        }),
    ];
    for (what, fail) in failures {
        for behind in [true, false] {
            let world = World::new();
            let alice = account(&world, "alice", &[FIRST, SECOND]).await;
            has(&world, FIRST, &[&leaf, &top]);
            world.caches.script(SECOND, |_| {});
            if behind {
                has(&world, SECOND, &[&leaf, &top]);
            }
            fail(&world);
            let got = fetch(&alice, &[&top.info.path, &leaf.info.path]).await;
            assert_eq!(got, if behind { 2 } else { 0 }, "{what}");
            if behind {
                assert_eq!(bytes(&alice, &top.info.path).await.unwrap(), top.nar);
            } else {
                assert_eq!(world.db.all_claims(), [], "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_trusted_key_has_signed_is_not_fetched() {
    let world = World::new();
    let alice = account(&world, "alice", &[FIRST, SECOND]).await;
    let one = item(&path("one"), "1", &[]);
    let other = item(&path("one"), "2", &[]);
    let wrong = [
        entry(&one, &[]),
        entry(&one, &[&key("other", 1)]),
        entry(&one, &[&key("cache", 2)]),
        // A right signature, over another entry.
        {
            let mut stolen = entry(&other, &[]);
            stolen.signatures = entry(&one, &[&cache_key()]).signatures;
            stolen
        },
    ];
    for info in wrong {
        world.caches.script(FIRST, |s| {
            s.nars.insert(
                info.url.clone(),
                if info.nar_hash == one.info.nar_hash {
                    one.nar.clone()
                } else {
                    other.nar.clone()
                },
            );
            s.entries.insert(info.path.clone(), info.clone());
        });
        world.caches.script(SECOND, |_| {});
        assert_eq!(fetch(&alice, &[&one.info.path]).await, 0);
    }
    assert_eq!(
        world.caches.calls(FIRST).nar,
        0,
        "its bytes are not even asked for"
    );
    has(&world, SECOND, &[&one]);
    assert_eq!(fetch(&alice, &[&one.info.path]).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_address_needs_no_signature_and_is_checked() {
    let world = World::new();
    let alice = account(&world, "alice", &[FIRST]).await;
    let (truth, other) = (text_item("t", "truth", &[]), text_item("t", "other", &[]));
    let put = |path_of: &Item, bytes_of: &Item| {
        let mut info = entry(path_of, &[]);
        (info.nar_hash, info.nar_size) = (bytes_of.info.nar_hash, bytes_of.info.nar_size);
        world.caches.script(FIRST, |s| {
            s.nars.insert(info.url.clone(), bytes_of.nar.clone());
            s.entries.insert(info.path.clone(), info.clone());
        });
    };
    put(&truth, &other);
    assert_eq!(fetch(&alice, &[&truth.info.path]).await, 0);
    assert_eq!(world.db.all_claims(), []);
    put(&truth, &truth);
    assert_eq!(fetch(&alice, &[&truth.info.path]).await, 1);
    assert_eq!(bytes(&alice, &truth.info.path).await.unwrap(), truth.nar);
    let explained = world
        .desk("alice")
        .await
        .explain(&truth.info.path.to_string())
        .await
        .unwrap();
    assert!(explained.candidates[0].why.starts_with("content-addressed: "));
    assert!(
        explained.candidates[0]
            .why
            .ends_with("; fetched from https://first.example")
    );
}

/// Two entries for one file at once: each is checked for what it says itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_the_same_file_is_checked_too() {
    let world = World::new();
    let alice = account(&world, "alice", &[FIRST]).await;
    let signed = item(&path("signed"), "anything", &[]);
    has(&world, FIRST, &[&signed]);
    // The path of a text, with the signed one's file.
    let mut lie = entry(&text_item("t", "truth", &[]), &[]);
    let honest = entry(&signed, &[]);
    (lie.nar_hash, lie.nar_size, lie.url) = (honest.nar_hash, honest.nar_size, honest.url);
    // And another path with the file, and another size.
    let mut size = entry(&item(&path("size"), "anything", &[]), &[]);
    size.nar_size += 8;
    let fingerprint = size.fingerprint();
    size.signatures = [cache_key().sign(fingerprint.as_bytes())].into();
    world.caches.script(FIRST, |s| {
        for info in [&lie, &size] {
            s.entries.insert(info.path.clone(), info.clone());
        }
        s.gated = true;
    });
    let paths = [&signed.info.path, &lie.path, &size.path];
    let asked = {
        let (alice, paths) = (alice.clone(), paths.map(Clone::clone));
        tokio::spawn(async move { fetch(&alice, &paths.each_ref()).await })
    };
    world.caches.until_waiting(3).await;
    world.caches.release(3);
    assert_eq!(soon(asked).await.unwrap(), 1);
    assert!(is_valid(&alice, &signed.info.path).await);
    assert!(!is_valid(&alice, &lie.path).await && !is_valid(&alice, &size.path).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_missing_reference_takes_with_it() {
    let world = World::new();
    let alice = account(&world, "alice", &[FIRST]).await;
    let (absent, broken) = (path("absent"), item(&path("broken"), "1", &[]));
    let user = item(&path("user"), "2", &[&absent]);
    let above = item(&path("above"), "3", &[&user.info.path]);
    let other = item(&path("other"), "4", &[&broken.info.path]);
    let free = item(&path("free"), "5", &[]);
    has(&world, FIRST, &[&user, &above, &broken, &other, &free]);
    world.caches.script(FIRST, |s| {
        let url = entry(&broken, &[]).url;
        s.nars.remove(&url);
    });
    let all = [&user, &above, &broken, &other, &free].map(|i| &i.info.path);
    assert_eq!(fetch(&alice, &all).await, 1);
    assert_eq!(world.db.all_claims().len(), 1);
    // What she has already need not come from a cache.
    upload(&alice, &[&item(&absent, "hers", &[])]).await.unwrap();
    assert_eq!(fetch(&alice, &all).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_want_one_path_are_one_fetch() {
    let world = World::new();
    let one = item(&path("one"), "1", &[]);
    has(&world, FIRST, &[&one]);
    world.caches.script(FIRST, |s| s.gated = true);
    let mut fetches = Vec::new();
    for n in 0..8 {
        let client = account(&world, &format!("account-{n}"), &[FIRST]).await;
        for _ in 0..3 {
            let (client, wanted) = (client.clone(), one.info.path.clone());
            fetches.push(tokio::spawn(async move { fetch(&client, &[&wanted]).await }));
        }
    }
    world.caches.until_waiting(1).await;
    // All have looked, and wait for the one that fetches.
    soon(async {
        while world.caches.calls(FIRST).narinfo < 24 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // From there to the wait nothing stands in their way; a late one would find the content fetched and fetch it again.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    world.caches.release(24);
    for fetch in fetches {
        assert_eq!(soon(fetch).await.unwrap(), 1);
    }
    assert_eq!(world.caches.calls(FIRST).nar, 1);
    assert_eq!(world.db.all_claims().len(), 8);
}

/// A cache behind a login.
fn closed(world: &World, items: &[&Item]) {
    has(world, FIRST, items);
    world.caches.script(FIRST, |s| {
        s.login = Some(Login {
            user: "user".into(),
            password: "password".into(),
        });
    });
}

async fn log_in(world: &World, name: &str) {
    let desk = world.desk(name).await;
    desk.set_login("first.example", "user", "password").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_login_fetched_is_for_that_login() {
    let world = World::new();
    let one = item(&path("one"), "1", &[]);
    closed(&world, &[&one]);
    let alice = account(&world, "alice", &[FIRST]).await;
    let bob = account(&world, "bob", &[FIRST]).await;
    log_in(&world, "alice").await;
    assert_eq!(fetch(&alice, &[&one.info.path]).await, 1);
    // He trusts the key and has the cache, but no login.
    assert!(!is_valid(&bob, &one.info.path).await);
    assert_eq!(fetch(&bob, &[&one.info.path]).await, 0);
    // A signature that she adds to it does not make it known, either.
    let signatures = BTreeSet::from([one.signature(&cache_key())]);
    alice
        .add_signatures(one.info.path.clone(), signatures)
        .await
        .unwrap();
    assert!(!is_valid(&bob, &one.info.path).await);
    world
        .desk("bob")
        .await
        .set_login("first.example", "user", "wrong")
        .await
        .unwrap();
    assert_eq!(fetch(&bob, &[&one.info.path]).await, 0);
    log_in(&world, "bob").await;
    assert_eq!(fetch(&bob, &[&one.info.path]).await, 1);
    assert_eq!(world.caches.calls(FIRST).nar, 2, "each fetched it");
    // Without a login it serves everybody who trusts the key.
    let carol = account(&world, "carol", &[]).await;
    assert!(!is_valid(&carol, &one.info.path).await);
    has(&world, SECOND, &[&one]);
    let dave = account(&world, "dave", &[SECOND]).await;
    assert_eq!(fetch(&dave, &[&one.info.path]).await, 1);
    assert!(is_valid(&carol, &one.info.path).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_same_login_shares_a_fetch() {
    let world = World::new();
    let one = item(&path("one"), "1", &[]);
    closed(&world, &[&one]);
    world.caches.script(FIRST, |s| s.gated = true);
    let mut fetches = Vec::new();
    for name in ["alice", "bob"] {
        let client = account(&world, name, &[FIRST]).await;
        log_in(&world, name).await;
        let wanted = one.info.path.clone();
        fetches.push(tokio::spawn(async move { fetch(&client, &[&wanted]).await }));
    }
    world.caches.until_waiting(1).await;
    soon(async {
        while world.caches.calls(FIRST).narinfo < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    world.caches.release(2);
    for fetch in fetches {
        assert_eq!(soon(fetch).await.unwrap(), 1);
    }
    assert_eq!(world.caches.calls(FIRST).nar, 1);
}

/// The bytes lie here, and the attacker knows their hash, size and name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_names_somebodys_content_has_to_send_it() {
    let world = World::new();
    let victim = world.account("victim").await;
    let secret = item(&path("secret"), "nobody else's", &[]);
    upload(&victim, &[&secret]).await.unwrap();
    let attacker = account(&world, "attacker", &[FIRST]).await;
    has(&world, FIRST, &[&secret]);
    for nar in [
        None,
        Some(Vec::new()),
        Some(secret.nar[..50].to_vec()),
        Some(vec![0; secret.nar.len()]),
    ] {
        world.caches.script(FIRST, |s| {
            let url = entry(&secret, &[]).url;
            match &nar {
                Some(nar) => drop(s.nars.insert(url, nar.clone())),
                None => drop(s.nars.remove(&url)),
            }
        });
        assert_eq!(fetch(&attacker, &[&secret.info.path]).await, 0);
        let text = bytes(&attacker, &secret.info.path).await.unwrap_err().message;
        assert!(text.ends_with("is not valid"), "{text}");
    }
    assert_eq!(
        bytes(&victim, &secret.info.path).await.unwrap(),
        secret.nar,
        "and is none the worse"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_a_cache_has_is_not_built() {
    let world = World::new();
    let alice = account(&world, "alice", &[FIRST]).await;
    let drv = Drv::new("thing", &[], &[&path("not-even-there")]);
    let out = item(&drv.out(), "from the cache", &[]);
    has(&world, FIRST, &[&out]);
    let answered = build(&alice, &drv).await;
    assert_eq!(
        answered.lines(),
        ["firn: fetched thing from https://first.example"]
    );
    let doing = |event: &LogEvent| match event {
        LogEvent::BuildStarted { doing, .. } => Some(*doing),
        _ => None,
    };
    assert_eq!(answered.events.iter().find_map(doing), Some(Doing::Fetching));
    assert_eq!(answered.done().status, BuildStatus::AlreadyValid);
    assert_eq!(
        build(&alice, &drv).await.lines(),
        ["firn: have thing: its outputs are valid already"]
    );
    assert_eq!(
        world.rungs("alice").await,
        [Some(Rung::Substituted), Some(Rung::AlreadyValid)]
    );
    assert_eq!(world.builder.counts().started, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cache_is_asked_where_that_is_turned_off() {
    let world = World::new();
    let alice = account(&world, "alice", &[FIRST]).await;
    let desk = world.desk("alice").await;
    let drv = |name: &str, attribute: Option<&str>| {
        let mut drv = Drv::new(name, &[], &[]);
        if let Some(value) = attribute {
            drv.drv.env.insert(b"FIRN_SUBSTITUTE".to_vec(), value.into());
        }
        has(&world, FIRST, &[&item(&drv.out(), name, &[])]);
        drv
    };
    let rung = async |drv: &Drv| {
        build(&alice, drv).await.done();
        world.rungs("alice").await.last().copied().unwrap()
    };
    desk.set(None, "settings-from-drv-env", Some("1")).await.unwrap();
    assert_eq!(rung(&drv("a", Some("0"))).await, Some(Rung::Built));
    desk.set(None, "substitute", Some("0")).await.unwrap();
    assert_eq!(rung(&drv("b", None)).await, Some(Rung::Built));
    assert_eq!(fetch(&alice, &[&drv("c", None).out()]).await, 0);
    assert_eq!(world.caches.calls(FIRST), Calls::default());
    // The derivation's word goes before the account's.
    assert_eq!(rung(&drv("d", Some("1"))).await, Some(Rung::Substituted));
}
