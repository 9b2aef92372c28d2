//! Lists of one account that are changed through two servers at the same moment.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use crate::support::{World, key};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_servers_lose_no_change() {
    const KEYS: u8 = 60;
    let world = World::new();
    world.account("alice").await;
    let account = world.named("alice").await;
    let houses = [world.beside(|_| {}), world.beside(|_| {})];
    let public = |n: u8| key(&format!("k-{n}"), n).public_key().to_string();
    // Every second key stays, the others are added and taken out again.
    let mut tasks = JoinSet::new();
    for n in 0..KEYS {
        let desk = houses[usize::from(n % 4 / 2)].desk(account.clone());
        let (key, cache) = (public(n), format!("https://cache-{n}.example"));
        tasks.spawn(async move {
            desk.add_trusted_key(&key).await.unwrap();
            desk.add_substituter(&cache).await.unwrap();
            tokio::task::yield_now().await;
            if n % 2 == 0 {
                desk.remove_trusted_key(&key).await.unwrap();
                desk.remove_substituter(&cache).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let desk = world.desk("alice").await;
    let trusted = desk.trusted_keys().await.unwrap();
    let trusted: BTreeSet<String> = trusted.iter().map(ToString::to_string).collect();
    let expected: BTreeSet<String> = (0..KEYS).filter(|n| n % 2 == 1).map(public).collect();
    assert_eq!(trusted, expected);
    assert_eq!(desk.substituters().await.unwrap().len(), usize::from(KEYS) / 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_that_are_rotated_at_two_servers_have_two_names() {
    let world = World::new();
    world.account("alice").await;
    let account = world.named("alice").await;
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        for house in [world.beside(|_| {}), world.beside(|_| {})] {
            let desk = house.desk(account.clone());
            tasks.spawn(async move { desk.rotate_signing_key().await.unwrap().public });
        }
    }
    let publics = tasks.join_all().await;
    let names: BTreeSet<&str> = publics.iter().filter_map(|p| p.split(':').next()).collect();
    assert_eq!(names.len(), 20, "{names:?}");
}
