//! What does not build reproducibly is remembered and shown to whom it concerns.

use firn_content::Change;
use firn_protocol::BuildStatus;

use crate::support::{Drv, World, build, bytes, check, item, key};

const CACHE: &str = "https://cache.example";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_differs_stands_in_the_ledger() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (drv, same) = (Drv::new("thing", &["random"], &[]), Drv::new("same", &[], &[]));
    build(&alice, &drv).await.done();
    build(&alice, &same).await.done();
    assert!(
        world
            .desk("alice")
            .await
            .reproducibility()
            .await
            .unwrap()
            .builds
            .is_empty()
    );
    let first = bytes(&alice, &drv.out()).await.unwrap();
    for _ in 0..2 {
        let result = check(&alice, &drv).await.done();
        assert_eq!(result.status, BuildStatus::NotDeterministic);
    }
    check(&alice, &same).await.done();
    assert_eq!(world.builder.counts().started, 5, "a check runs");

    let ledger = world.desk("alice").await.reproducibility().await.unwrap();
    assert!(ledger.caches.is_empty());
    assert_eq!(ledger.builds.len(), 1);
    let row = &ledger.builds[0];
    assert_eq!((row.drv_path.as_ref(), &row.path), (Some(&drv.path), &drv.out()));
    assert_eq!(row.contents.len(), 3);
    assert!(row.contents.iter().all(|content| content.runs == 1));
    assert!(
        matches!(row.differences[0].change, Change::Bytes { .. }),
        "{row:?}"
    );

    // A shared result is never replaced, and who asked for nothing is told nothing.
    assert!(
        world
            .desk("bob")
            .await
            .reproducibility()
            .await
            .unwrap()
            .builds
            .is_empty()
    );
    build(&bob, &drv).await.done();
    assert_eq!(bytes(&bob, &drv.out()).await.unwrap(), first);
    let his = world.desk("bob").await.reproducibility().await.unwrap();
    assert_eq!(his.builds.len(), 1, "he asked for the same build");

    let compared = world.desk("alice").await;
    let path = drv.out().to_string();
    let found = compared.compare_contents(&path, None, 10).await.unwrap();
    assert_eq!(found.contents.len(), 3);
    assert_eq!(found.differences.len(), 1);
    let third = found.contents[2].hex();
    let found = compared
        .compare_contents(&path, Some(&third[..20]), 10)
        .await
        .unwrap();
    assert_eq!(found.second.hex(), third);
    for (path, other) in [
        (path.as_str(), Some("sha256:00")),
        (&same.out().to_string(), None),
        ("/etc/passwd", None),
    ] {
        compared.compare_contents(path, other, 10).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_with_other_bytes_is_named() {
    let world = World::new();
    let alice = world.account("alice").await;
    let desk = world.desk("alice").await;
    let signer = key("cache", 1);
    desk.add_substituter(CACHE).await.unwrap();
    desk.add_trusted_key(&signer.public_key().to_string())
        .await
        .unwrap();
    let drv = Drv::new("thing", &[], &[]);
    let theirs = item(&drv.out(), "what the cache has", &[]);
    world
        .caches
        .script(CACHE, |script| script.put(&theirs, &[&signer]));
    build(&alice, &drv).await.done();
    assert_eq!(world.builder.counts().started, 0, "it was fetched");
    assert!(desk.reproducibility().await.unwrap().caches.is_empty());

    let result = check(&alice, &drv).await.done();
    assert_eq!(result.status, BuildStatus::NotDeterministic);
    let ledger = desk.reproducibility().await.unwrap();
    assert!(ledger.builds.is_empty(), "one run alone differs from nothing");
    assert_eq!(ledger.caches.len(), 1);
    let row = &ledger.caches[0];
    assert_eq!((&row.path, row.cached), (&drv.out(), theirs.info.nar_hash));
    assert_eq!(row.key.as_deref(), Some("cache"));
    assert!(row.cache.as_deref().is_some_and(|cache| cache.starts_with(CACHE)));
    assert_eq!(row.differences.len(), 1);
    // She still has what the cache has.
    assert_eq!(bytes(&alice, &drv.out()).await.unwrap(), theirs.nar);
}
