//! Accounts that trust each other, or keep to themselves.

use std::collections::BTreeSet;

use firn_core::{AccountName, Rung, Trust};
use firn_protocol::{BuildStatus, Store as _};
use firn_service::ports::Accounts as _;

use crate::support::{Drv, World, build, bytes, is_valid, item, key, path, upload};

/// Alice trusts Bob, and Bob lets her read, each so far.
async fn relate(world: &World, trust: Option<Trust>, read: Option<Trust>) {
    world.desk("alice").await.trust("bob", trust).await.unwrap();
    world.desk("bob").await.let_read("alice", read).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_have_to_want_it_and_the_lower_level_holds() {
    let one = item(&path("one"), "1", &[]);
    let drv = Drv::new("thing", &["random"], &[]);
    let begin = async || {
        let world = World::new();
        let (alice, bob) = (world.account("alice").await, world.account("bob").await);
        upload(&bob, &[&one]).await.unwrap();
        build(&bob, &drv).await.done();
        (world, alice, bob)
    };
    let levels = [None, Some(Trust::Builds), Some(Trust::Uploads)];
    for trust in levels {
        for read in levels {
            let (world, alice, bob) = begin().await;
            relate(&world, trust, read).await;
            let holds = trust.and_then(|t| read.map(|r| t.min(r)));
            let sees = (
                is_valid(&alice, &drv.out()).await,
                is_valid(&alice, &one.info.path).await,
            );
            let expected = (holds.is_some(), holds == Some(Trust::Uploads));
            assert_eq!(sees, expected, "{trust:?} {read:?}");
            assert!(!is_valid(&bob, &path("hers")).await);
        }
    }
    // At once, from either side; but what she was told is hers to keep, as long as she believes it.
    let (world, alice, _bob) = begin().await;
    let (hers, his) = (world.desk("alice").await, world.desk("bob").await);
    relate(&world, Some(Trust::Uploads), Some(Trust::Uploads)).await;
    his.let_read("alice", None).await.unwrap();
    assert!(!is_valid(&alice, &one.info.path).await);
    his.let_read("alice", Some(Trust::Uploads)).await.unwrap();
    assert_eq!(bytes(&alice, &one.info.path).await.unwrap(), one.nar);
    his.let_read("alice", None).await.unwrap();
    assert!(is_valid(&alice, &one.info.path).await && !is_valid(&alice, &drv.out()).await);
    hers.trust("bob", Some(Trust::Builds)).await.unwrap();
    assert!(!is_valid(&alice, &one.info.path).await);
    hers.trust("bob", Some(Trust::Uploads)).await.unwrap();
    assert!(is_valid(&alice, &one.info.path).await);
    hers.trust("bob", None).await.unwrap();
    assert!(!is_valid(&alice, &one.info.path).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_trusted_account_built_is_had_without_a_build() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let input = item(&path("input"), "1", &[]);
    upload(&bob, &[&input]).await.unwrap();
    let drv = Drv::new("thing", &[], &[&input.info.path]);
    build(&bob, &drv).await.done();
    relate(&world, Some(Trust::Builds), Some(Trust::Builds)).await;
    // She does not even have the input.
    let answered = build(&alice, &drv).await;
    assert_eq!(
        answered.lines(),
        ["firn: have thing from account 'bob', which you trust"]
    );
    assert_eq!(answered.done().status, BuildStatus::AlreadyValid);
    assert_eq!(world.rungs("alice").await, [Some(Rung::Trusted)]);
    let explained = world
        .desk("alice")
        .await
        .explain(&drv.out().to_string())
        .await
        .unwrap();
    assert_eq!(
        explained.candidates[0].why,
        "built for account 'bob', which you trust"
    );
    let relations = world.desk("alice").await.relations().await.unwrap();
    assert_eq!(relations[0].may_read, Some(Trust::Builds));
    assert_eq!(
        world.desk("bob").await.relations().await.unwrap()[0].may_read,
        None
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_goes_one_step() {
    let world = World::new();
    let (alice, bob, carol) = (
        world.account("alice").await,
        world.account("bob").await,
        world.account("carol").await,
    );
    let carols = item(&path("carols"), "1", &[]);
    upload(&carol, &[&carols]).await.unwrap();
    relate(&world, Some(Trust::Uploads), Some(Trust::Uploads)).await;
    world
        .desk("bob")
        .await
        .trust("carol", Some(Trust::Uploads))
        .await
        .unwrap();
    world
        .desk("carol")
        .await
        .let_read("bob", Some(Trust::Uploads))
        .await
        .unwrap();
    world
        .desk("carol")
        .await
        .let_read("alice", Some(Trust::Uploads))
        .await
        .unwrap();
    assert!(is_valid(&bob, &carols.info.path).await);
    assert!(!is_valid(&alice, &carols.info.path).await);
    // What Bob makes of it is his, and closed only for who has the rest.
    let top = item(&path("top"), "2", &[&carols.info.path]);
    upload(&bob, &[&top]).await.unwrap();
    assert!(!is_valid(&alice, &top.info.path).await);
    upload(&alice, &[&carols]).await.unwrap();
    assert!(is_valid(&alice, &top.info.path).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_account_serves_nobody() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let k = key("k", 1);
    world
        .desk("alice")
        .await
        .add_trusted_key(&k.public_key().to_string())
        .await
        .unwrap();
    relate(&world, Some(Trust::Uploads), Some(Trust::Uploads)).await;
    let his = world.desk("bob").await;
    let private = async |on: &str| his.set(None, "private", Some(on)).await.unwrap();
    private("true").await;
    let signed = item(&path("signed"), "1", &[]).signed(&k);
    let plain = item(&path("plain"), "2", &[]);
    let quiet = [
        item(&path("quiet"), "3", &[]).signed(&k),
        item(&path("plain-quiet"), "4", &[]),
    ];
    upload(&bob, &[&signed, &plain, &quiet[0], &quiet[1]])
        .await
        .unwrap();
    let drv = Drv::new("thing", &["random"], &[]);
    build(&bob, &drv).await.done();
    let sees = async || {
        let paths = BTreeSet::from([signed.info.path.clone(), plain.info.path.clone(), drv.out()]);
        alice.query_valid_paths(paths, false).await.unwrap().len()
    };
    assert_eq!(sees().await, 0);
    // The signature is no secret of his for himself.
    his.add_trusted_key(&k.public_key().to_string()).await.unwrap();
    let explained = his.explain(&signed.info.path.to_string()).await.unwrap();
    assert!(explained.candidates[0].why.starts_with("signed by the key 'k'"));
    // Both ways at once.
    private("false").await;
    assert_eq!(sees().await, 3);
    private("true").await;
    for item in &quiet {
        assert!(!is_valid(&alice, &item.info.path).await, "nobody was told");
    }
    // What she was told stays, and nothing more.
    assert_eq!(sees().await, 3);
    // Nor does a result of a build serve others, not even later: it was not meant to.
    private("false").await;
    world.desk("alice").await.trust("bob", None).await.unwrap();
    build(&alice, &drv).await.done();
    assert_eq!(world.builder.counts().started, 2);
    assert_eq!(world.rungs("alice").await, [Some(Rung::Built)]);
    // He takes what others share, though.
    private("true").await;
    let other = Drv::new("other", &[], &[]);
    build(&alice, &other).await.done();
    build(&bob, &other).await.done();
    assert_eq!(world.rungs("bob").await, [Some(Rung::Built), Some(Rung::Shared)]);
}

/// The same object, which she has herself without a signature.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_signature_is_not_seen_by_who_has_the_same_bytes() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let k = key("k", 1);
    world
        .desk("alice")
        .await
        .add_trusted_key(&k.public_key().to_string())
        .await
        .unwrap();
    world
        .desk("bob")
        .await
        .set(None, "private", Some("1"))
        .await
        .unwrap();
    let one = item(&path("one"), "1", &[]);
    upload(&bob, &[&one.signed(&k)]).await.unwrap();
    upload(&alice, &[&one]).await.unwrap();
    let info = alice
        .query_path_infos(vec![one.info.path.clone()])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(info.signatures, BTreeSet::new());
    let explained = world
        .desk("alice")
        .await
        .explain(&one.info.path.to_string())
        .await
        .unwrap();
    assert_eq!(explained.candidates[0].why, "uploaded by you");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_share_neither_gives_nor_takes() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let share = async |name: &str, on: &str| {
        let desk = world.desk(name).await;
        desk.set(None, "share-builds", Some(on)).await.unwrap();
    };
    let drv = |name: &str| Drv::new(name, &["random"], &[]);
    let (first, second, third) = (drv("first"), drv("second"), drv("third"));
    build(&alice, &first).await.done();
    share("bob", "false").await;
    build(&bob, &first).await.done();
    build(&bob, &second).await.done();
    assert_eq!(world.rungs("bob").await, [Some(Rung::Built), Some(Rung::Built)]);
    build(&alice, &second).await.done();
    assert_eq!(world.rungs("alice").await[1], Some(Rung::Built));
    // Its own is its own.
    world
        .desk("bob")
        .await
        .forget(&[first.out().to_string()])
        .await
        .unwrap();
    build(&bob, &first).await.done();
    assert_eq!(world.rungs("bob").await[2], Some(Rung::Shared));
    // What was shared is not any more, and is again.
    build(&alice, &third).await.done();
    share("alice", "false").await;
    let carol = world.account("carol").await;
    build(&carol, &first).await.done();
    assert_eq!(world.rungs("carol").await, [Some(Rung::Built)]);
    share("alice", "true").await;
    build(&carol, &third).await.done();
    assert_eq!(world.rungs("carol").await[1], Some(Rung::Shared));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_share_joins_only_its_own_runs() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    world
        .desk("bob")
        .await
        .set(None, "share-builds", Some("false"))
        .await
        .unwrap();
    let drv = Drv::new("thing", &["log:one\n", "wait", "random"], &[]);
    let hers = crate::support::Asked::plain(&alice, &drv);
    world.builder.until(|c| c.waiting == 1).await;
    let his = crate::support::Asked::plain(&bob, &drv);
    world.builder.until(|c| c.waiting == 2).await;
    let mut again = crate::support::Asked::plain(&bob, &drv);
    again.saw("one").await;
    assert_eq!(world.builder.counts().started, 2);
    world.builder.release(2);
    for asked in [hers, his, again] {
        assert_eq!(asked.answer().await.done().status, BuildStatus::Built);
    }
    assert_ne!(
        bytes(&alice, &drv.out()).await.unwrap(),
        bytes(&bob, &drv.out()).await.unwrap()
    );
    let mut rungs = world.rungs("bob").await;
    rungs.sort();
    assert_eq!(rungs, [Some(Rung::Joined), Some(Rung::Built)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forgotten_is_gone_with_what_needs_it() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let k = key("k", 1);
    world
        .desk("bob")
        .await
        .add_trusted_key(&k.public_key().to_string())
        .await
        .unwrap();
    let below = item(&path("below"), "0", &[]).signed(&k);
    let top = item(&path("top"), "1", &[&below.info.path]);
    upload(&alice, &[&below, &top]).await.unwrap();
    let desk = world.desk("alice").await;
    let forget =
        async |item: &crate::support::Item| desk.forget(&[item.info.path.to_string()]).await.unwrap();
    assert_eq!(forget(&below).await, 1);
    assert!(!is_valid(&alice, &top.info.path).await && !is_valid(&bob, &below.info.path).await);
    assert_eq!(alice.query_all_valid_paths().await.unwrap(), BTreeSet::new());
    assert_eq!(forget(&below).await, 0);
    upload(&alice, &[&below]).await.unwrap();
    assert!(is_valid(&alice, &top.info.path).await && is_valid(&bob, &below.info.path).await);
    // From then on it is his, too, to forget.
    assert_eq!(forget(&below).await, 1);
    assert!(!is_valid(&alice, &top.info.path).await && is_valid(&bob, &below.info.path).await);
    let below = [below.info.path.to_string()];
    assert_eq!(world.desk("bob").await.forget(&below).await.unwrap(), 1);
    assert!(!is_valid(&bob, &path("below")).await);
    desk.forget(&["nonsense".into()]).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_goes_leaves_what_it_shared() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let carol = world.account("carol").await;
    let k = key("k", 1);
    for name in ["alice", "carol"] {
        let desk = world.desk(name).await;
        let added = desk.add_trusted_key(&k.public_key().to_string()).await;
        added.unwrap();
        desk.trust("bob", Some(Trust::Uploads)).await.unwrap();
        let his = world.desk("bob").await;
        his.let_read(name, Some(Trust::Uploads)).await.unwrap();
    }
    let (signed, plain) = (
        item(&path("signed"), "1", &[]).signed(&k),
        item(&path("plain"), "2", &[]),
    );
    let (shared, own) = (Drv::new("shared", &[], &[]), Drv::new("own", &[], &[]));
    upload(&bob, &[&signed, &plain]).await.unwrap();
    build(&bob, &shared).await.done();
    let his = world.desk("bob").await;
    his.set(None, "share-builds", Some("0")).await.unwrap();
    build(&bob, &own).await.done();
    his.set(None, "share-builds", Some("1")).await.unwrap();
    let own_out = own.out();
    let valid = async |path| is_valid(&alice, path).await;
    assert!(valid(&signed.info.path).await && valid(&plain.info.path).await && valid(&own_out).await);

    world
        .db
        .remove_account(&AccountName::parse("bob").unwrap())
        .await
        .unwrap();
    // Alice was told. Carol was not, and gets what a key has signed and what he shared.
    assert!(is_valid(&carol, &signed.info.path).await);
    assert!(!is_valid(&carol, &plain.info.path).await && !is_valid(&carol, &own_out).await);
    assert!(valid(&signed.info.path).await && valid(&plain.info.path).await && valid(&own_out).await);
    build(&carol, &shared).await.done();
    build(&carol, &own).await.done();
    assert_eq!(
        world.rungs("carol").await,
        [Some(Rung::Shared), Some(Rung::Built)]
    );
    let answered = build(&alice, &own).await;
    assert_eq!(
        answered.lines(),
        ["firn: have own from an account that you trusted and that is removed"]
    );
    // The sweep knows.
    world.house.sweep().await.unwrap();
    for item in [&signed, &plain] {
        assert_eq!(bytes(&alice, &item.info.path).await.unwrap(), item.nar);
    }
    // His sessions are over, and one of his name is somebody else.
    let text = upload(&bob, &[&plain]).await.unwrap_err().message;
    assert!(text.contains("does not exist any more"), "{text}");
    let other = world.account("bob").await;
    assert_eq!(other.query_all_valid_paths().await.unwrap(), BTreeSet::new());
    let more = item(&path("more"), "3", &[]);
    upload(&other, &[&more]).await.unwrap();
    assert!(
        !valid(&more.info.path).await,
        "it was another Bob that she trusted"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_account_is_as_private_as_the_operators_default() {
    let world = World::with(|s| s.defaults.private = true);
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let k = key("k", 1);
    world
        .desk("alice")
        .await
        .add_trusted_key(&k.public_key().to_string())
        .await
        .unwrap();
    let signed = item(&path("signed"), "1", &[]).signed(&k);
    upload(&bob, &[&signed]).await.unwrap();
    assert!(!is_valid(&alice, &signed.info.path).await);
    relate(&world, Some(Trust::Uploads), Some(Trust::Uploads)).await;
    assert!(!is_valid(&alice, &signed.info.path).await);
    world
        .desk("bob")
        .await
        .set(None, "private", Some("false"))
        .await
        .unwrap();
    assert!(is_valid(&alice, &signed.info.path).await);
}
