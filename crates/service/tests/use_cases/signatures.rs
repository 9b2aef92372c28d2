//! What a signature by a trusted key makes usable, whoever brought it; and from when to when.

use std::collections::BTreeSet;

use firn_protocol::Store as _;

use crate::support::{Client, Drv, Item, World, build, bytes, is_valid, item, key, path, text_item, upload};

async fn trust_key(world: &World, name: &str, public: &str) {
    world.desk(name).await.add_trusted_key(public).await.unwrap();
}

async fn refused(client: &Client, item: &Item) -> String {
    upload(client, &[item]).await.unwrap_err().message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_upload_serves_everybody_who_trusts_the_key() {
    let world = World::new();
    let (alice, bob, carol) = (
        world.account("alice").await,
        world.account("bob").await,
        world.account("carol").await,
    );
    let k = key("k", 1);
    let one = item(&path("one"), "1", &[]).signed(&k);
    trust_key(&world, "bob", &k.public_key().to_string()).await;
    upload(&alice, &[&one]).await.unwrap();
    assert_eq!(bytes(&bob, &one.info.path).await.unwrap(), one.nar);
    assert!(
        !is_valid(&carol, &one.info.path).await,
        "she does not trust the key"
    );
    // She trusts it later, and takes it back: both hold at once.
    trust_key(&world, "carol", &k.public_key().to_string()).await;
    assert_eq!(bytes(&carol, &one.info.path).await.unwrap(), one.nar);
    world.desk("carol").await.remove_trusted_key("k").await.unwrap();
    assert!(!is_valid(&carol, &one.info.path).await);
    assert!(is_valid(&bob, &one.info.path).await && is_valid(&alice, &one.info.path).await);
    // What only a key has signed is found by its name, and listed nowhere.
    assert_eq!(bob.query_all_valid_paths().await.unwrap(), BTreeSet::new());
    let hash = one.info.path.hash_part().to_owned();
    assert_eq!(
        bob.query_path_from_hash_part(hash).await.unwrap(),
        Some(one.info.path)
    );
}

/// Nobody had trusted the key when the signature came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_becomes_known_later_makes_old_signatures_count() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (right, other) = (key("k", 1), key("k", 2));
    let below = item(&path("below"), "0", &[]).signed(&right);
    let one = item(&path("one"), "1", &[&below.info.path]).signed(&right);
    upload(&alice, &[&below, &one]).await.unwrap();
    // Another key of the same name first.
    trust_key(&world, "bob", &other.public_key().to_string()).await;
    assert!(!is_valid(&bob, &one.info.path).await);
    world.desk("bob").await.remove_trusted_key("k").await.unwrap();
    trust_key(&world, "bob", &right.public_key().to_string()).await;
    assert_eq!(bytes(&bob, &one.info.path).await.unwrap(), one.nar);
    let closure = bob
        .query_closure(BTreeSet::from([one.info.path.clone()]), false)
        .await;
    assert_eq!(closure.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_signatures() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let k = key("k", 1);
    trust_key(&world, "bob", &k.public_key().to_string()).await;
    let one = item(&path("one"), "1", &[]);
    let with = |signature: String| {
        let mut item = one.clone();
        item.info.signatures.insert(signature);
        item
    };
    for malformed in ["", "k", "k:", "k:AAAA", ":AAAA", "k 1:AAAA"] {
        let text = refused(&alice, &with(malformed.into())).await;
        assert!(text.contains(&one.info.path.to_string()), "{malformed}: {text}");
    }
    // Over another path, other bytes, other references; by another key of that name.
    let others = [
        item(&path("two"), "1", &[]).signature(&k),
        item(&path("one"), "2", &[]).signature(&k),
        item(&path("one"), "1", &[&path("one")]).signature(&k),
        one.signature(&key("k", 2)),
    ];
    for wrong in &others {
        let wrong = with(wrong.clone());
        let text = refused(&bob, &wrong).await;
        assert!(
            text.contains("by the key 'k', which you trust, is not over this path"),
            "{text}"
        );
        assert_eq!(world.db.all_claims(), []);
        assert_eq!(world.content.list().count(), 0, "what is refused leaves nothing");
    }
    // For who does not trust the key, it is a text.
    for wrong in others {
        upload(&alice, &[&with(wrong)]).await.unwrap();
    }
    assert!(is_valid(&alice, &one.info.path).await && !is_valid(&bob, &one.info.path).await);
}

/// Otherwise an upload would tell which keys others trust.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_a_signature_is_refused_does_not_depend_on_what_others_trust() {
    for others_trust_it in [false, true] {
        let world = World::new();
        let (alice, _bob) = (world.account("alice").await, world.account("bob").await);
        let (hers, his) = (key("k", 1), key("k", 2));
        trust_key(&world, "alice", &hers.public_key().to_string()).await;
        if others_trust_it {
            trust_key(&world, "bob", &his.public_key().to_string()).await;
        }
        let text = refused(&alice, &item(&path("one"), "1", &[]).signed(&his)).await;
        assert!(
            text.contains("which you trust, is not over"),
            "{others_trust_it}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_may_come_later() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let k = key("k", 1);
    trust_key(&world, "bob", &k.public_key().to_string()).await;
    let one = item(&path("one"), "1", &[]);
    upload(&alice, &[&one]).await.unwrap();
    assert!(!is_valid(&bob, &one.info.path).await);
    let signatures = BTreeSet::from([one.signature(&k)]);
    alice
        .add_signatures(one.info.path.clone(), signatures.clone())
        .await
        .unwrap();
    assert_eq!(bytes(&bob, &one.info.path).await.unwrap(), one.nar);
    // What one has from another one only is not one's own to sign.
    let text = bob
        .add_signatures(one.info.path.clone(), signatures)
        .await
        .unwrap_err()
        .message;
    assert!(text.contains("upload it to sign it"), "{text}");

    // Of a build, the outputs can be signed, and stay the build's.
    let drv = Drv::new("thing", &[], &[]);
    build(&alice, &drv).await.done();
    let info = alice.query_path_infos(vec![drv.out()]).await.unwrap().remove(0);
    assert!(!is_valid(&bob, &drv.out()).await);
    let signature = k.sign(info.fingerprint().as_bytes()).to_string();
    alice
        .add_signatures(drv.out(), BTreeSet::from([signature.clone()]))
        .await
        .unwrap();
    assert!(is_valid(&bob, &drv.out()).await);
    let after = alice.query_path_infos(vec![drv.out()]).await.unwrap().remove(0);
    assert_eq!(after.signatures.len(), 2);
    assert!(after.signatures.contains(&signature) && after.signatures.is_superset(&info.signatures));
    assert_eq!(after.deriver, Some(drv.path));
}

/// An account's own key signs what was built for it, for its clients; nobody gets it for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_signs_what_it_built() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let desk = world.desk("alice").await;
    let first = desk.signing_keys().await.unwrap();
    assert_eq!(first.len(), 1);
    assert!(first[0].active && first[0].public.starts_with("firn-alice-1:"));
    let public: firn_nix::signature::PublicKey = first[0].public.parse().unwrap();
    let signed_by = async |out: &firn_nix::StorePath, public: &firn_nix::signature::PublicKey| {
        let info = alice.query_path_infos(vec![out.clone()]).await.unwrap().remove(0);
        let mut signatures = info.signatures.iter().map(|s| s.parse().unwrap());
        signatures.any(|s| public.verify(info.fingerprint().as_bytes(), &s))
    };
    trust_key(&world, "bob", &first[0].public).await;
    let before = Drv::new("before", &[], &[]);
    build(&alice, &before).await.done();
    assert!(signed_by(&before.out(), &public).await);
    assert!(!is_valid(&bob, &before.out()).await);

    world.clock.set(9);
    let second = desk.rotate_signing_key().await.unwrap();
    assert!(second.active && second.created == 9 && second.public.starts_with("firn-alice-2:"));
    let after = Drv::new("after", &[], &[]);
    build(&alice, &after).await.done();
    assert!(signed_by(&after.out(), &second.public.parse().unwrap()).await);
    assert!(!signed_by(&after.out(), &public).await);
    assert!(
        signed_by(&before.out(), &public).await,
        "what came before keeps its signature"
    );
    let keys = desk.signing_keys().await.unwrap();
    assert_eq!(keys.iter().map(|k| k.active).collect::<Vec<_>>(), [true, false]);

    let own = key("my-own", 3);
    desk.import_signing_key(&own.to_secret_text()).await.unwrap();
    let imported = Drv::new("imported", &[], &[]);
    build(&alice, &imported).await.done();
    assert!(signed_by(&imported.out(), &own.public_key()).await);
    desk.import_signing_key("my-own:AAAA").await.unwrap_err();
}

/// The order of the policy decides, not the order of coming.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_key_of_the_policy_is_preferred() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (a, b) = (key("a", 1), key("b", 2));
    let p = path("p");
    let (by_a, by_b) = (item(&p, "a", &[]).signed(&a), item(&p, "b", &[]).signed(&b));
    upload(&alice, &[&by_b]).await.unwrap();
    upload(&alice, &[&by_a]).await.unwrap();
    upload(&bob, &[&item(&p, "own", &[])]).await.unwrap();
    let desk = world.desk("bob").await;
    for (keys, expected) in [([&a, &b], &by_a), ([&b, &a], &by_b)] {
        let keys = keys.map(|k| k.public_key().to_string()).join(" ");
        desk.set(None, "trusted-public-keys", Some(&keys)).await.unwrap();
        assert_eq!(bytes(&bob, &p).await.unwrap(), expected.nar);
        let explained = desk.explain(&p.to_string()).await.unwrap();
        let words: Vec<&str> = explained.candidates.iter().map(|c| c.why.as_str()).collect();
        let first = if expected.nar == by_a.nar {
            ["a", "b"]
        } else {
            ["b", "a"]
        };
        assert_eq!(
            words,
            [
                &format!("signed by the key '{}', which you trust", first[0]),
                &format!("signed by the key '{}', which you trust", first[1]),
                "uploaded by you"
            ]
        );
        assert_eq!(explained.candidates.iter().filter(|c| c.chosen).count(), 1);
    }
    desk.set(None, "trusted-public-keys", None).await.unwrap();
    assert_eq!(bytes(&bob, &p).await.unwrap(), item(&p, "own", &[]).nar);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explanations_name_what_is_missing() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let k = key("k", 1);
    trust_key(&world, "bob", &k.public_key().to_string()).await;
    let below = item(&path("below"), "0", &[]);
    let one = item(&path("one"), "1", &[&below.info.path, &path("one")]).signed(&k);
    upload(&alice, &[&below, &one]).await.unwrap();
    let desk = world.desk("bob").await;
    let explained = desk.explain(&one.info.path.to_string()).await.unwrap();
    assert!(!explained.valid && !explained.candidates[0].chosen);
    assert_eq!(
        explained.candidates[0].missing,
        BTreeSet::from([below.info.path.clone()])
    );
    let nothing = desk.explain(&path("nothing").to_string()).await.unwrap();
    assert!(!nothing.valid && nothing.candidates.is_empty());
    let text = desk.explain("/nix/store/what").await.unwrap_err().message;
    assert!(text.contains("is not a store path"), "{text}");

    let text_file = text_item("t", "text", &[]);
    upload(&bob, &[&below, &text_file]).await.unwrap();
    let explained = desk.explain(&one.info.path.to_string()).await.unwrap();
    assert!(explained.valid && explained.candidates[0].missing.is_empty());
    let explained = desk.explain(&text_file.info.path.to_string()).await.unwrap();
    assert_eq!(
        explained.candidates[0].why,
        "content-addressed: the path commits to these bytes"
    );
}
