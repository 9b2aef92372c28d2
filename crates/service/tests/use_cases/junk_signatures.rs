//! Signatures that nobody made: they cost who brought them, not who trusts a key of their name, and not everybody else.

use firn_protocol::Store as _;

use crate::support::{Client, Item, World, bytes, item, key, path, soon, upload};

/// Paths with 64 signatures each, by a key of that name that never signed them.
async fn bring_junk(client: &Client, paths: usize) {
    let wrong = key("k", 9);
    let items: Vec<Item> = (0..paths)
        .map(|n| {
            let mut junk = item(&path(&format!("junk-{n}")), "junk", &[]);
            let signatures = (0..64).map(|m| wrong.sign(format!("{n} {m}").as_bytes()).to_string());
            junk.info.signatures = signatures.collect();
            junk
        })
        .collect();
    let items: Vec<&Item> = items.iter().collect();
    upload(client, &items).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_signatures_to_be_checked_holds_up_nobody() {
    let world = World::new();
    let (mallory, bob) = (world.account("mallory").await, world.account("bob").await);
    world.account("alice").await;
    bring_junk(&mallory, 1).await;
    let permits = world.db.hold_up("open_signatures", 0);
    let alice = world.desk("alice").await;
    let trusting = tokio::spawn(async move {
        alice
            .add_trusted_key(&key("k", 1).public_key().to_string())
            .await
            .unwrap();
    });
    // She waits.
    while !world.db.is_held_up("open_signatures") {
        tokio::task::yield_now().await;
    }
    let desk = world.desk("bob").await;
    soon(desk.set(None, "timeout", Some("60"))).await.unwrap();
    soon(desk.add_trusted_key(&key("other", 1).public_key().to_string()))
        .await
        .unwrap();
    soon(upload(&bob, &[&item(&path("bobs"), "bobs", &[])]))
        .await
        .unwrap();
    assert!(!trusting.is_finished());
    permits.add_permits(1000);
    soon(trusting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_of_one_account_stands_before_nobody_elses_signatures() {
    let world = World::new();
    let (mallory, bob) = (world.account("mallory").await, world.account("bob").await);
    let carol = world.account("carol").await;
    let k = key("k", 1);
    // More than anybody waits for.
    bring_junk(&mallory, 80).await;
    let signed = item(&path("signed"), "signed", &[]).signed(&k);
    upload(&bob, &[&signed]).await.unwrap();
    let permits = world.db.hold_up("open_signatures", 20);
    let desk = world.desk("carol").await;
    soon(desk.add_trusted_key(&k.public_key().to_string()))
        .await
        .unwrap();
    assert_eq!(bytes(&carol, &signed.info.path).await.unwrap(), signed.nar);
    // What she does not wait for is looked at behind, and no second time.
    permits.add_permits(1000);
    let desk = world.desk("mallory").await;
    soon(desk.add_trusted_key(&k.public_key().to_string()))
        .await
        .unwrap();
    assert!(mallory.query_all_valid_paths().await.unwrap().len() >= 80);
}
