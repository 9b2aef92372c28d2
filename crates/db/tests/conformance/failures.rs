//! Failures that come again.

use firn_service::ports::{Database, DatabaseError, FailureRecord, Gives, RunFailure};

use crate::backend::Bench;
use crate::sample::{GIVES, KEEPS, Short as _, account, build, drv, failed, key, name, numbers};

pub async fn round_trip<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let kinds: [fn(String) -> RunFailure; 3] = [
        RunFailure::Builder,
        RunFailure::OutputRejected,
        RunFailure::TimedOut,
    ];
    for (n, kind) in (1..).zip(kinds) {
        let record = FailureRecord {
            failure: kind(format!("it's \"{n}\" \u{1F328}")),
            ..failed(n, u32::from(n))
        };
        assert_eq!(db.failure(&record.run.key, alice, true).await.unwrap(), None);
        for _ in 0..2 {
            db.record_failure(&record, alice, true).await.unwrap();
            let answer = db.failure(&record.run.key, alice, true).await.unwrap();
            assert_eq!(answer.as_ref(), Some(&record));
        }
        // It is no result.
        assert_eq!(db.result(&record.run.key, alice, true).await.unwrap(), None);
    }
    let mut words = failed(9, 9);
    words.failure = RunFailure::Builder("a\0b".to_owned());
    db.record_failure(&words, alice, true).await.unwrap();
    let answer = db.failure(&key(9), alice, true).await.unwrap().unwrap();
    assert_eq!(answer.failure, RunFailure::Builder("a\u{fffd}b".to_owned()));
}

pub async fn newest_stands<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let records = [4, 3, 2, 1].map(|n| failed(n, 1));
    for (record, account) in records.iter().zip([alice, bob, alice, alice]) {
        db.record_failure(record, account, true).await.unwrap();
    }
    let [_, second, _, last] = records;
    // In the order of recording, whenever they ran.
    for (account, expected) in [(alice, &last), (bob, &second), (carol, &last)] {
        let answer = db.failure(&key(1), account, true).await.unwrap();
        assert_eq!(answer.as_ref(), Some(expected));
    }
    // All are remembered as runs.
    let runs = db.runs_of(&drv(1), carol, true, 9).await.unwrap();
    assert_eq!(numbers(&runs), [4, 3, 2, 1]);
    assert!(runs.iter().all(|past| past.outputs.is_empty()));
    // What took the place of an earlier one does not give it back.
    db.forget_result(last.run.id).await.unwrap();
    assert_eq!(db.failure(&key(1), alice, false).await.unwrap(), None);
    assert_eq!(db.failure(&key(1), alice, true).await.unwrap(), Some(second));
}

pub async fn own_before_shared<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let (kept, shared) = (failed(1, 1), failed(2, 1));
    db.record_failure(&kept, alice, false).await.unwrap();
    assert_eq!(db.failure(&key(1), bob, true).await.unwrap(), None);
    db.record_failure(&shared, bob, true).await.unwrap();
    assert_eq!(
        db.failure(&key(1), alice, true).await.unwrap(),
        Some(kept.clone())
    );
    assert_eq!(db.failure(&key(1), alice, false).await.unwrap(), Some(kept));
    let carol = account(&db, "carol").await;
    assert_eq!(db.failure(&key(1), carol, false).await.unwrap(), None);
    assert_eq!(db.failure(&key(1), carol, true).await.unwrap(), Some(shared));
    // One that is kept takes the place of one that was shared.
    let later = failed(3, 1);
    db.record_failure(&later, bob, false).await.unwrap();
    assert_eq!(db.failure(&key(1), carol, true).await.unwrap(), None);
    assert_eq!(db.failure(&key(1), bob, true).await.unwrap(), Some(later));
}

pub async fn giving_can_be_taken_back<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let (first, second) = (failed(1, 1), failed(2, 1));
    db.record_failure(&first, bob, true).await.unwrap();
    db.record_failure(&second, alice, true).await.unwrap();
    let keeps = Gives {
        results: false,
        ..GIVES
    };
    db.set_account(alice, "share-builds", Some("0"), keeps)
        .await
        .unwrap();
    assert_eq!(
        db.failure(&key(1), carol, true).await.unwrap(),
        Some(first.clone())
    );
    assert_eq!(
        db.failure(&key(1), alice, true).await.unwrap(),
        Some(second.clone())
    );
    db.set_account(bob, "private", Some("1"), KEEPS).await.unwrap();
    assert_eq!(db.failure(&key(1), carol, true).await.unwrap(), None);
    for (account, setting) in [(alice, "share-builds"), (bob, "private")] {
        db.set_account(account, setting, None, GIVES).await.unwrap();
    }
    assert_eq!(db.failure(&key(1), carol, true).await.unwrap(), Some(second));
}

pub async fn removal_leaves_shared_failures<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let (shared, kept, of_private, both) = (failed(1, 1), failed(2, 2), failed(3, 3), failed(4, 4));
    db.record_failure(&shared, alice, true).await.unwrap();
    db.record_failure(&kept, alice, false).await.unwrap();
    db.record_failure(&of_private, carol, true).await.unwrap();
    for account in [carol, bob] {
        db.record_failure(&both, account, false).await.unwrap();
    }
    db.set_account(carol, "private", Some("1"), KEEPS).await.unwrap();
    for gone in ["alice", "carol"] {
        db.remove_account(&name(gone)).await.unwrap();
    }
    assert_eq!(
        db.failure(&key(1), bob, true).await.unwrap(),
        Some(shared.clone())
    );
    assert_eq!(db.failure(&key(1), bob, false).await.unwrap(), None);
    assert_eq!(db.failure(&key(2), bob, true).await.unwrap(), None);
    assert_eq!(db.failure(&key(3), bob, true).await.unwrap(), None);
    assert_eq!(db.failure(&key(4), bob, false).await.unwrap(), Some(both));
    // A second one of an account that is gone, and later ones.
    let again = account(&db, "alice").await;
    assert_eq!(db.failure(&key(1), again, false).await.unwrap(), None);
    let (second, third) = (failed(5, 1), failed(6, 1));
    db.record_failure(&second, again, true).await.unwrap();
    db.remove_account(&name("alice")).await.unwrap();
    assert_eq!(db.failure(&key(1), bob, true).await.unwrap(), Some(second));
    db.record_failure(&third, bob, true).await.unwrap();
    let dave = account(&db, "dave").await;
    assert_eq!(db.failure(&key(1), dave, true).await.unwrap(), Some(third));
}

pub async fn only_some_are_kept<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    for failure in [
        RunFailure::InputRejected("x".to_owned()),
        RunFailure::LogLimit("x".to_owned()),
        RunFailure::Exhausted("x".to_owned()),
        RunFailure::Cancelled,
        RunFailure::Infrastructure("x".to_owned()),
    ] {
        let record = FailureRecord {
            failure,
            ..failed(1, 1)
        };
        let refused = db.record_failure(&record, alice, true).await;
        assert!(matches!(refused, Err(DatabaseError::Backend(_))), "{refused:?}");
    }
    assert_eq!(db.failure(&key(1), alice, true).await.unwrap(), None);
    assert_eq!(db.runs_of(&drv(1), alice, true, 9).await.unwrap(), []);
}

pub async fn a_run_is_one_or_the_other<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let wrong = |done: Result<(), DatabaseError>| {
        assert!(
            matches!(done, Err(DatabaseError::Inconsistent { table: "build", .. })),
            "{done:?}"
        );
    };
    db.record_build(&build(1, 1, &[1]), alice, true, true)
        .await
        .unwrap();
    db.record_failure(&failed(2, 1), alice, true).await.unwrap();
    wrong(db.record_failure(&failed(1, 1), alice, true).await);
    wrong(db.record_failure(&failed(2, 3), alice, true).await);
    wrong(
        db.record_build(&build(2, 1, &[1]), alice, true, true)
            .await
            .map(|_| ()),
    );
    wrong(db.record_check(&build(2, 1, &[1]), alice, true).await);
    wrong(db.record_check(&build(1, 2, &[1]), alice, true).await);
    // A key may fail and go well: both stand.
    assert_eq!(
        db.failure(&key(1), alice, true).await.unwrap(),
        Some(failed(2, 1))
    );
    assert_eq!(
        db.result(&key(1), alice, true).await.unwrap(),
        Some(build(1, 1, &[1]))
    );
}
