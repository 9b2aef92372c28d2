//! Nothing that one account does shows in another's evidence.

use firn_service::ports::Database;

use crate::backend::Bench;
use crate::sample::{Short, account, alone, build, claim, content, name, path, request, ssh_key, texts};

pub async fn one_path_two_contents<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    db.record(alice, &[claim(1, 1)]).await.unwrap();
    db.record(bob, &[claim(1, 2)]).await.unwrap();
    assert_eq!(db.claims(alice, &[path(1)]).await.unwrap(), [claim(1, 1)]);
    assert_eq!(db.claims(bob, &[path(1)]).await.unwrap(), [claim(1, 2)]);
    assert_eq!(db.claims(alice, &[path(1)]).await.unwrap(), [claim(1, 1)]);
    assert_eq!(db.claims(bob, &[path(1)]).await.unwrap(), [claim(1, 2)]);
}

/// What the methods of an account answer about `path(1)` to `path(3)`.
async fn seen(db: &impl Short, account: firn_core::AccountId) -> impl PartialEq + std::fmt::Debug {
    let paths = [path(1), path(2), path(3)];
    let mut seen = (
        db.claims(account, &paths).await.unwrap(),
        db.paths(&alone(account)).await.unwrap(),
        Vec::new(),
    );
    for path in paths {
        seen.2.push((
            db.paths_by_hash_part(&alone(account), path.hash_part())
                .await
                .unwrap(),
            db.referrers(&alone(account), &path).await.unwrap(),
            db.derivers(&alone(account), &path).await.unwrap(),
        ));
    }
    seen
}

pub async fn same_object_is_shared_but_not_believed<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let nothing = seen(&db, carol).await;
    db.record(alice, &[claim(1, 1), claim(2, 2)]).await.unwrap();
    let alices = seen(&db, alice).await;

    let mut bobs = claim(1, 1);
    bobs.deriver = None;
    bobs.signatures = texts(&["bob:1"]);
    bobs.registered = 1;
    db.record(bob, &[bobs.clone(), claim(3, 3)]).await.unwrap();
    bobs.signatures = texts(&["bob:2"]);
    db.record(bob, std::slice::from_ref(&bobs)).await.unwrap();
    db.record_build(&build(1, 1, &[1, 2, 3]), bob, true, true)
        .await
        .unwrap();

    assert_eq!(seen(&db, alice).await, alices);
    assert_eq!(seen(&db, carol).await, nothing);
    bobs.signatures = texts(&["bob:1", "bob:2"]);
    assert_eq!(db.claims(bob, &[path(1)]).await.unwrap(), [bobs]);
}

pub async fn order_is_not_anothers_doing<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    // Bob has the same objects first, the other way round.
    db.record(bob, &[claim(1, 2)]).await.unwrap();
    db.record(bob, &[claim(1, 1)]).await.unwrap();
    db.record(alice, &[claim(1, 1), claim(1, 2)]).await.unwrap();
    assert_eq!(
        db.claims(alice, &[path(1)]).await.unwrap(),
        [claim(1, 1), claim(1, 2)]
    );
}

pub async fn removal_leaves_others_evidence<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    for account in [alice, bob] {
        db.record(account, &[claim(1, 1), claim(2, 2)]).await.unwrap();
        db.record_request(&request(account, 1, 1)).await.unwrap();
    }
    db.add_key(bob, &ssh_key(1)).await.unwrap();
    db.record(alice, &[claim(3, 3)]).await.unwrap();
    let bobs = seen(&db, bob).await;
    db.remove_account(&name("alice")).await.unwrap();
    assert_eq!(seen(&db, bob).await, bobs);
    assert_eq!(db.keys(bob).await.unwrap(), [ssh_key(1)]);
    assert_eq!(db.requests(bob, 9).await.unwrap(), [request(bob, 1, 1)]);
    assert_eq!(
        db.contents().await.unwrap(),
        [1, 2].map(content).into_iter().collect()
    );

    // A new account of the old name starts empty.
    let alice = account(&db, "alice").await;
    assert_eq!(db.claims(alice, &[path(1), path(2), path(3)]).await.unwrap(), []);
    db.record(alice, &[claim(3, 3)]).await.unwrap();
    assert_eq!(db.claims(alice, &[path(3)]).await.unwrap(), [claim(3, 3)]);
}
