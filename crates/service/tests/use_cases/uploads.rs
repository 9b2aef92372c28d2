//! What comes in is seen by who brought it, whole or not at all.

use std::collections::BTreeSet;

use firn_nix::{CaMethod, HashAlgo};
use firn_protocol::{Store as _, Upload as _};

use crate::support::{Item, World, bytes, is_valid, item, key, path, text_item, upload};

const ABSENT: &[u8] = b"";

fn message(result: Result<(), firn_protocol::StoreError>) -> String {
    result.unwrap_err().message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_uploaded_is_there_with_its_references() {
    let world = World::new();
    let alice = world.account("alice").await;
    let (leaf, top) = (path("leaf"), path("top"));
    let mut first = item(&leaf, "1", &[&leaf]);
    first = first.signed(&key("k", 1));
    first.info.deriver = Some(path("leaf.drv"));
    let second = item(&top, "2", &[&leaf]);
    world.clock.set(77);
    // The order within an upload does not matter.
    upload(&alice, &[&second, &first]).await.unwrap();

    let infos = alice
        .query_path_infos(vec![top.clone(), path("no"), leaf.clone()])
        .await
        .unwrap();
    let mut expected = [second.info.clone(), first.info.clone()];
    for info in &mut expected {
        info.registration_time = 77;
    }
    assert_eq!(infos, expected);
    assert_eq!(bytes(&alice, &leaf).await.unwrap(), first.nar);
    let both = BTreeSet::from([leaf.clone(), top.clone()]);
    assert_eq!(alice.query_all_valid_paths().await.unwrap(), both);
    assert_eq!(
        alice
            .query_closure(BTreeSet::from([top.clone()]), false)
            .await
            .unwrap(),
        both
    );
    assert_eq!(alice.query_referrers(leaf.clone()).await.unwrap(), both);
    let found = alice.query_path_from_hash_part(top.hash_part().to_owned()).await;
    assert_eq!(found.unwrap(), Some(top));
    // The deriver is not valid itself.
    assert_eq!(alice.query_valid_derivers(leaf).await.unwrap(), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_reference_refuses_the_whole_upload() {
    let world = World::new();
    let alice = world.account("alice").await;
    let (good, bad, missing) = (path("good"), path("bad"), path("missing"));
    let good = item(&good, "1", &[]);
    let bad = item(&bad, "2", &[&missing]);
    let text = message(upload(&alice, &[&good, &bad]).await);
    for named in [bad.info.path.to_string(), missing.to_string()] {
        assert!(text.contains(&named), "{text}");
    }
    assert!(!is_valid(&alice, &good.info.path).await);
    assert_eq!(world.db.all_claims(), []);
    assert_eq!(world.content.list().count(), 0);
    // Somebody else's path is as good as none.
    let bob = world.account("bob").await;
    upload(&bob, &[&item(&missing, "3", &[])]).await.unwrap();
    assert_eq!(message(upload(&alice, &[&bad]).await), text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lies_are_refused() {
    let world = World::new();
    let alice = world.account("alice").await;
    let truth = text_item("text", "truth", &[]);
    let other = text_item("text", "other", &[]);
    let lie = |change: &dyn Fn(&mut Item)| {
        let mut item = truth.clone();
        change(&mut item);
        item
    };
    let cases = [
        // The path of one text with the bytes of another.
        lie(&|i| {
            i.info = firn_nix::PathInfo {
                path: i.info.path.clone(),
                ca: i.info.ca,
                ..other.info.clone()
            };
            i.nar.clone_from(&other.nar);
        }),
        // The address of one text, the path of another.
        lie(&|i| i.info.ca = other.info.ca),
        lie(&|i| i.info.path = other.info.path.clone()),
        // References that the path does not commit to.
        lie(&|i| i.info.references = BTreeSet::from([i.info.path.clone()])),
        lie(&|i| i.info.references = BTreeSet::from([path("x")])),
        lie(&|i| i.info.nar_hash = other.info.nar_hash),
        lie(&|i| i.info.nar_size -= 8),
        lie(&|i| i.info.nar_size = 1 << 30),
        lie(&|i| i.nar[20] ^= 1),
        lie(&|i| i.nar.truncate(40)),
        lie(&|i| i.nar = ABSENT.to_vec()),
    ];
    for (n, case) in cases.iter().enumerate() {
        let text = message(upload(&alice, &[case]).await);
        assert!(text.contains(&case.info.path.to_string()), "case {n}: {text}");
    }
    assert_eq!(world.db.all_claims(), []);
    assert_eq!(world.content.list().count(), 0);
    upload(&alice, &[&truth]).await.unwrap();
    assert_eq!(bytes(&alice, &truth.info.path).await.unwrap(), truth.nar);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let world = World::new();
    let alice = world.account("alice").await;
    let one = item(&path("one"), "1", &[]);
    let mut begun = alice.begin_upload().await.unwrap();
    begun.add(one.info.clone(), &mut &one.nar[..]).await.unwrap();
    drop(begun);
    assert!(!is_valid(&alice, &one.info.path).await);
    assert_eq!(world.content.list().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_accounts_two_contents_of_one_path() {
    let world = World::new();
    let (alice, bob, carol) = (
        world.account("alice").await,
        world.account("bob").await,
        world.account("carol").await,
    );
    let name = path("p");
    let (hers, his) = (item(&name, "hers", &[]), item(&name, "his", &[]));
    upload(&alice, &[&hers]).await.unwrap();
    upload(&bob, &[&his]).await.unwrap();
    assert_eq!(bytes(&alice, &name).await.unwrap(), hers.nar);
    assert_eq!(bytes(&bob, &name).await.unwrap(), his.nar);
    // "Not there" and "not yours" are the same answer.
    let not_hers = bytes(&carol, &name).await.unwrap_err().message;
    let not_there = bytes(&carol, &path("q")).await.unwrap_err().message;
    assert_eq!(
        not_hers.replace(&name.to_string(), "X"),
        not_there.replace(&path("q").to_string(), "X")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_upload_of_a_path_stays() {
    let world = World::new();
    let alice = world.account("alice").await;
    let name = path("p");
    upload(&alice, &[&item(&name, "old", &[])]).await.unwrap();
    upload(&alice, &[&item(&name, "new", &[])]).await.unwrap();
    assert_eq!(bytes(&alice, &name).await.unwrap(), item(&name, "old", &[]).nar);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checked_content_address_is_preferred() {
    let world = World::new();
    let alice = world.account("alice").await;
    let truth = text_item("text", "truth", &[]);
    // Without its address it is an upload like any other, and may be anything.
    upload(&alice, &[&item(&truth.info.path, "lie", &[])])
        .await
        .unwrap();
    upload(&alice, &[&truth]).await.unwrap();
    assert_eq!(bytes(&alice, &truth.info.path).await.unwrap(), truth.nar);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_become_the_path_that_follows_from_them() {
    let world = World::new();
    let alice = world.account("alice").await;
    let expected = text_item("note.txt", "text", &[]);
    let add = |method, algo, body: &'static [u8]| {
        let alice = alice.clone();
        async move {
            alice
                .add_to_store("note.txt".into(), method, algo, BTreeSet::new(), &mut &body[..])
                .await
        }
    };
    let info = add(CaMethod::Text, HashAlgo::Sha256, b"text").await.unwrap();
    assert_eq!(info, expected.info);
    assert_eq!(bytes(&alice, &info.path).await.unwrap(), expected.nar);
    for algo in HashAlgo::ALL {
        let flat = add(CaMethod::Flat, algo, b"text").await.unwrap();
        assert_eq!(bytes(&alice, &flat.path).await.unwrap(), expected.nar);
        // A client that brings the same with its address is believed after the check.
        let bob = world.account(&format!("bob-{}", algo.name())).await;
        let nar = expected.nar.clone();
        upload(&bob, &[&Item { info: flat, nar }]).await.unwrap();
    }
    assert!(add(CaMethod::Text, HashAlgo::Sha1, b"text").await.is_err());
    assert!(add(CaMethod::Git, HashAlgo::Sha1, b"text").await.is_err());
    assert!(add(CaMethod::Nar, HashAlgo::Sha256, b"text").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_of_added_text_must_be_valid() {
    let world = World::new();
    let alice = world.account("alice").await;
    let missing = path("missing");
    let references = BTreeSet::from([missing.clone()]);
    let add = async || {
        let (body, references) = (&mut &b"x"[..], references.clone());
        alice
            .add_to_store("t".into(), CaMethod::Text, HashAlgo::Sha256, references, body)
            .await
    };
    let text = add().await.unwrap_err().message;
    assert!(text.contains(&missing.to_string()), "{text}");
    upload(&alice, &[&item(&missing, "1", &[])]).await.unwrap();
    assert_eq!(
        add().await.unwrap().path,
        text_item("t", "x", &[&missing]).info.path
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_are_kept_with_the_claim_of_who_brought_them() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let one = item(&path("one"), "1", &[]);
    upload(&alice, &[&one]).await.unwrap();
    upload(&bob, &[&one]).await.unwrap();
    let signatures = BTreeSet::from([one.signature(&key("k", 1))]);
    alice
        .add_signatures(one.info.path.clone(), signatures.clone())
        .await
        .unwrap();
    let of = |infos: Vec<firn_nix::PathInfo>| infos[0].signatures.clone();
    assert_eq!(
        of(alice.query_path_infos(vec![one.info.path.clone()]).await.unwrap()),
        signatures
    );
    assert_eq!(
        of(bob.query_path_infos(vec![one.info.path.clone()]).await.unwrap()),
        BTreeSet::new()
    );
    assert!(alice.add_signatures(path("no"), signatures).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_database_nothing_is_claimed() {
    let world = World::new();
    let alice = world.account("alice").await;
    let one = item(&path("one"), "1", &[&path("one")]);
    world.db.break_down(&["record_claims"]);
    let text = message(upload(&alice, &[&one]).await);
    assert!(
        text.starts_with("internal error") && !text.contains("fire"),
        "{text}"
    );
    world.db.break_down(&[]);
    assert!(!is_valid(&alice, &one.info.path).await);
    upload(&alice, &[&one]).await.unwrap();
    assert!(is_valid(&alice, &one.info.path).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_had_come_whole_at_a_checkpoint_stays() {
    let world = World::new();
    let alice = world.account("alice").await;
    let low = item(&path("low"), "low", &[]);
    let top = item(&path("top"), "top", &[&low.info.path]);
    let late = item(&path("late"), "late", &[]);
    let early = item(&path("early"), "early", &[&late.info.path]);
    let mut broken = alice.begin_upload().await.unwrap();
    for item in [&low, &top] {
        broken.add(item.info.clone(), &mut &item.nar[..]).await.unwrap();
    }
    broken.checkpoint().await.unwrap();
    broken.checkpoint().await.unwrap();
    // What refers to something that has not come waits.
    broken.add(early.info.clone(), &mut &early.nar[..]).await.unwrap();
    broken.checkpoint().await.unwrap();
    drop(broken);
    let valid = [&low, &top, &early].map(|item| item.info.path.clone());
    let valid = alice.query_valid_paths(valid.into(), false).await.unwrap();
    assert_eq!(valid, [&low, &top].map(|item| item.info.path.clone()).into());

    let mut whole = alice.begin_upload().await.unwrap();
    whole.add(early.info.clone(), &mut &early.nar[..]).await.unwrap();
    whole.checkpoint().await.unwrap();
    whole.add(late.info.clone(), &mut &late.nar[..]).await.unwrap();
    whole.checkpoint().await.unwrap();
    assert!(is_valid(&alice, &early.info.path).await);
    whole.commit().await.unwrap();
}
