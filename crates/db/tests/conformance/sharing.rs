//! Whose results answer whom.

use firn_service::ports::{Database, Gives};

use crate::backend::Bench;
use crate::sample::{GIVES, KEEPS, Short as _, account, build, content, key, name};

pub async fn own_before_shared<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let (kept, shared, bobs) = (build(1, 1, &[1]), build(2, 1, &[2]), build(3, 1, &[3]));
    // Each that keeps its results has its own.
    assert_eq!(db.record_build(&kept, alice, false, false).await.unwrap(), kept);
    assert_eq!(db.result(&key(1), bob, true).await.unwrap(), None);
    assert_eq!(db.record_build(&bobs, bob, false, false).await.unwrap(), bobs);
    assert_eq!(db.record_build(&shared, carol, true, true).await.unwrap(), shared);
    for (account, takes, expected) in [
        (alice, true, Some(&kept)),
        (alice, false, Some(&kept)),
        (bob, true, Some(&bobs)),
        (carol, false, Some(&shared)),
    ] {
        let answer = db.result(&key(1), account, takes).await.unwrap();
        assert_eq!(answer.as_ref(), expected);
    }
    let dave = account(&db, "dave").await;
    assert_eq!(
        db.result(&key(1), dave, true).await.unwrap(),
        Some(shared.clone())
    );
    assert_eq!(db.result(&key(1), dave, false).await.unwrap(), None);
    // One that shares is given the shared one; one that does not gets its own; and a second of one's own changes nothing.
    let (second, third) = (build(4, 1, &[4]), build(5, 1, &[5]));
    assert_eq!(db.record_build(&second, dave, true, true).await.unwrap(), shared);
    assert_eq!(db.result(&key(1), dave, false).await.unwrap(), None);
    assert_eq!(db.record_build(&third, dave, false, false).await.unwrap(), third);
    assert_eq!(db.result(&key(1), dave, true).await.unwrap(), Some(third.clone()));
    assert_eq!(
        db.record_build(&build(6, 1, &[6]), dave, true, true)
            .await
            .unwrap(),
        third
    );
    // A withdrawn result makes room.
    db.forget_result(third.run.id).await.unwrap();
    assert_eq!(
        db.result(&key(1), dave, true).await.unwrap(),
        Some(shared.clone())
    );
    db.forget_result(shared.run.id).await.unwrap();
    assert_eq!(db.result(&key(1), dave, true).await.unwrap(), None);
    assert_eq!(db.result(&key(1), alice, true).await.unwrap(), Some(kept));
}

pub async fn giving_can_be_taken_back<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let (first, second) = (build(1, 1, &[1]), build(2, 1, &[2]));
    db.record_build(&first, alice, true, true).await.unwrap();
    let keeps = Gives {
        results: false,
        ..GIVES
    };
    db.set_account(alice, "share-builds", Some("0"), keeps)
        .await
        .unwrap();
    assert_eq!(db.result(&key(1), bob, true).await.unwrap(), None);
    assert_eq!(
        db.result(&key(1), alice, false).await.unwrap(),
        Some(first.clone())
    );
    assert_eq!(db.record_build(&second, bob, true, true).await.unwrap(), second);
    assert_eq!(db.result(&key(1), carol, true).await.unwrap(), Some(second));
    db.set_account(alice, "share-builds", None, GIVES).await.unwrap();
    assert_eq!(db.result(&key(1), carol, true).await.unwrap(), Some(first));
}

pub async fn removal_leaves_shared_results<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let (shared, kept, second) = (build(1, 1, &[1]), build(2, 2, &[2]), build(3, 1, &[3]));
    let of_private = build(4, 4, &[4]);
    let both = build(5, 5, &[5]);
    db.record_build(&shared, alice, true, true).await.unwrap();
    db.record_build(&kept, alice, false, false).await.unwrap();
    db.record_build(&second, alice, true, true).await.unwrap();
    db.record_build(&of_private, carol, true, true).await.unwrap();
    for account in [alice, bob] {
        assert_eq!(db.record_build(&both, account, false, false).await.unwrap(), both);
    }
    db.set_account(carol, "private", Some("1"), KEEPS).await.unwrap();
    db.remove_account(&name("alice")).await.unwrap();
    db.remove_account(&name("carol")).await.unwrap();
    assert_eq!(db.result(&key(1), bob, true).await.unwrap(), Some(shared.clone()));
    assert_eq!(db.result(&key(1), bob, false).await.unwrap(), None);
    assert_eq!(db.result(&key(4), bob, true).await.unwrap(), None);
    // A run that answers somebody else as well is not only theirs.
    assert_eq!(db.result(&key(5), bob, false).await.unwrap(), Some(both));
    // Of the shared runs, the one that is no result stays as well.
    assert_eq!(
        db.contents().await.unwrap(),
        [1, 3, 5].map(content).into_iter().collect()
    );
    let alice = account(&db, "alice").await;
    assert_eq!(db.result(&key(2), alice, true).await.unwrap(), None);
    assert_eq!(db.result(&key(1), alice, false).await.unwrap(), None);
    assert_eq!(
        db.record_build(&build(6, 1, &[6]), alice, true, true)
            .await
            .unwrap(),
        shared
    );
}
