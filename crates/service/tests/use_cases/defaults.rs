//! What the operator sets for all accounts holds for those that are there, from the next start on.

use firn_core::Rung;
use firn_service::ports::Policies as _;

use crate::support::{Drv, World, build, is_valid, item, key, path, upload};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_give_what_follows_from_todays_settings() {
    let k = key("k", 1);
    let world = World::with(|s| s.defaults.trusted_public_keys = vec![k.public_key()]);
    let bob = world.account("bob").await;
    for name in ["alice", "carol"] {
        world.account(name).await;
    }
    let signed = item(&path("one"), "1", &[]).signed(&k);
    upload(&bob, &[&signed]).await.unwrap();
    let drvs = [0, 1, 2, 3].map(|n| Drv::new(&format!("thing-{n}"), &[], &[]));
    for drv in &drvs {
        build(&bob, drv).await.done();
    }
    // Carol has said for herself that she is not private.
    let carols = world.desk("carol").await;
    carols.set(None, "private", Some("false")).await.unwrap();

    let mut seen = Vec::new();
    let settings = [(true, true), (false, true), (false, false), (false, true)];
    for ((private, share_builds), drv) in settings.into_iter().zip(&drvs) {
        let house = world.beside(|s| {
            s.defaults.private = private;
            s.defaults.share_builds = share_builds;
        });
        let before = world.db.epoch().await.unwrap();
        let changed = house.settle_gives().await.unwrap();
        assert!(
            world.db.epoch().await.unwrap() > before,
            "who has a view has to look again"
        );
        assert_eq!(house.settle_gives().await.unwrap(), 0);
        let rows = house.desk(world.named("bob").await).settings(None).await.unwrap();
        let shown = rows.iter().find(|row| row.name == "private").unwrap();
        assert_eq!(shown.value, private.to_string());
        let alice = house.store(world.named("alice").await);
        build(&alice, drv).await.done();
        let rung = world.rungs("alice").await.pop().unwrap();
        seen.push((changed, is_valid(&alice, &signed.info.path).await, rung.unwrap()));
    }
    // Alice and Bob; and Carol, where it is about what she has not said.
    let expected = [
        (2, false, Rung::Built),
        (2, true, Rung::Shared),
        (3, true, Rung::Built),
        (3, true, Rung::Shared),
    ];
    assert_eq!(seen, expected);
}
