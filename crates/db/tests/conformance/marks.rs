//! Accounts that took part in a run without an outcome.

use firn_core::{AccountId, BuildKey};
use firn_nix::StorePath;
use firn_service::ports::{Database, MAX_MARKS, Mark};

use crate::backend::Bench;
use crate::sample::{account, build, key, name, named_path};

fn drv_path(n: u32) -> StorePath {
    named_path(n, "thing.drv")
}

fn mark(account: AccountId, n: u32, time: u64) -> Mark {
    Mark {
        account,
        key: key(n),
        drv_path: drv_path(n),
        why: format!("was left at {time}"),
        time,
    }
}

pub async fn round_trip<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let marks = [mark(alice, 1, 5), mark(bob, 1, 5), mark(alice, 2, 6)];
    assert_eq!(db.mark(&key(1), alice).await.unwrap(), None);
    db.add_marks(&marks).await.unwrap();
    for mark in &marks {
        assert_eq!(
            db.mark(&mark.key, mark.account).await.unwrap().as_ref(),
            Some(mark)
        );
        let of = db.mark_of(mark.account, &mark.drv_path).await.unwrap();
        assert_eq!(of.as_ref(), Some(mark));
    }
    assert_eq!(db.mark(&key(2), bob).await.unwrap(), None);
    assert_eq!(db.mark_of(bob, &drv_path(2)).await.unwrap(), None);
    // The first stays.
    db.add_marks(&[mark(alice, 1, 9)]).await.unwrap();
    assert_eq!(db.mark(&key(1), alice).await.unwrap().as_ref(), Some(&marks[0]));
    // Of several keys of one derivation the latest is told.
    let other = Mark {
        drv_path: drv_path(1),
        ..mark(alice, 3, 7)
    };
    db.add_marks(std::slice::from_ref(&other)).await.unwrap();
    assert_eq!(db.mark_of(alice, &drv_path(1)).await.unwrap(), Some(other));
}

pub async fn a_shared_result_forgives<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let carol = account(&db, "carol").await;
    let marks = [mark(alice, 1, 1), mark(bob, 1, 1), mark(alice, 2, 1)];
    db.add_marks(&marks).await.unwrap();
    // Neither one of its own, nor a check, nor one of another key.
    db.record_build(&build(1, 1, &[1]), alice, false, true)
        .await
        .unwrap();
    db.record_check(&build(2, 1, &[2]), carol, true).await.unwrap();
    db.record_build(&build(3, 3, &[3]), carol, true, true)
        .await
        .unwrap();
    assert!(db.mark(&key(1), alice).await.unwrap().is_some());
    db.record_build(&build(4, 1, &[4]), carol, true, true)
        .await
        .unwrap();
    for account in [alice, bob] {
        assert_eq!(db.mark(&key(1), account).await.unwrap(), None);
    }
    assert!(db.mark(&key(2), alice).await.unwrap().is_some());
}

/// Who takes others' results and gives none gets the shared one, also when it has run the same itself.
pub async fn who_takes_gets_the_shared_result<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let (shared, own) = (build(1, 1, &[1]), build(2, 1, &[2]));
    db.record_build(&shared, alice, true, true).await.unwrap();
    assert_eq!(db.record_build(&own, bob, false, true).await.unwrap(), shared);
    assert_eq!(db.result(&key(1), bob, false).await.unwrap(), None);
}

pub async fn of_those_who_are_gone<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    db.add_marks(&[mark(alice, 1, 1)]).await.unwrap();
    db.remove_account(&name("alice")).await.unwrap();
    db.add_marks(&[mark(alice, 2, 1), mark(bob, 2, 1)]).await.unwrap();
    for n in [1, 2] {
        assert_eq!(db.mark(&key(n), alice).await.unwrap(), None);
    }
    assert!(db.mark(&key(2), bob).await.unwrap().is_some());
}

pub async fn so_many_are_every_key<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let number = |n: usize| {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        BuildKey(key)
    };
    let of = |n: usize| Mark {
        key: number(n),
        ..mark(alice, 1, n as u64)
    };
    let all: Vec<Mark> = (1..MAX_MARKS).map(of).collect();
    db.add_marks(&all).await.unwrap();
    assert_eq!(db.mark(&number(0), alice).await.unwrap(), None);
    db.add_marks(&[of(MAX_MARKS)]).await.unwrap();
    assert_eq!(db.mark(&number(0), alice).await.unwrap(), Some(of(MAX_MARKS)));
    assert_eq!(db.mark(&number(5), alice).await.unwrap(), Some(of(5)));
    assert_eq!(db.mark(&number(5), bob).await.unwrap(), None);
}
