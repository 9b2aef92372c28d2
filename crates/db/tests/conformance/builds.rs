//! Build results and requests.

use firn_core::BuildId;
use firn_service::ports::{Database, DatabaseError};

use crate::backend::Bench;
use crate::sample::{account, build, ca, content, drv, key, request};

pub async fn round_trip<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut record = build(1, 1, &[1, 2, 3]);
    record.outputs.get_mut("dev").unwrap().object.ca = Some(ca());
    assert_eq!(db.result(&key(1), alice, true).await.unwrap(), None);
    assert_eq!(db.record_build(&record, alice, true, true).await.unwrap(), record);
    assert_eq!(db.result(&key(1), alice, true).await.unwrap(), Some(record));
    assert_eq!(db.result(&key(2), alice, true).await.unwrap(), None);
}

pub async fn without_outputs<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let record = build(1, 1, &[]);
    assert_eq!(db.record_build(&record, alice, true, true).await.unwrap(), record);
    assert_eq!(db.result(&key(1), alice, true).await.unwrap(), Some(record));
}

pub async fn first_recorded_stays<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let (first, second) = (build(2, 1, &[1]), build(1, 1, &[2]));
    assert_eq!(db.record_build(&first, alice, true, true).await.unwrap(), first);
    assert_eq!(db.record_build(&second, alice, true, true).await.unwrap(), first);
    assert_eq!(db.result(&key(1), alice, true).await.unwrap(), Some(first));
    // The other run is remembered too.
    assert_eq!(
        db.contents().await.unwrap(),
        [1, 2].map(content).into_iter().collect()
    );
}

pub async fn recording_again_changes_nothing<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let record = build(1, 1, &[1, 2]);
    db.record_build(&record, alice, true, true).await.unwrap();
    assert_eq!(db.record_build(&record, alice, true, true).await.unwrap(), record);
    assert_eq!(db.result(&key(1), alice, true).await.unwrap(), Some(record));
}

pub async fn forgotten_then_recorded<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let (first, other_key) = (build(1, 1, &[1]), build(9, 2, &[1]));
    for record in [&first, &other_key, &build(2, 1, &[2])] {
        db.record_build(record, alice, true, true).await.unwrap();
    }
    db.forget_result(BuildId([1; 16])).await.unwrap();
    assert_eq!(db.result(&key(1), alice, true).await.unwrap(), None);
    assert_eq!(db.result(&key(2), alice, true).await.unwrap(), Some(other_key));
    let third = build(3, 1, &[3]);
    assert_eq!(db.record_build(&third, alice, true, true).await.unwrap(), third);
    // A run that was withdrawn may be told again; by then another one answers.
    assert_eq!(db.record_build(&first, alice, true, true).await.unwrap(), third);
}

pub async fn forgetting_nothing<D: Database>(Bench { db, .. }: Bench<D>) {
    db.forget_result(BuildId([1; 16])).await.unwrap();
}

pub async fn wrong_key_for_a_run<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    db.record_build(&build(1, 1, &[1]), alice, true, true)
        .await
        .unwrap();
    let error = db
        .record_build(&build(1, 2, &[1]), alice, true, true)
        .await
        .unwrap_err();
    assert!(
        matches!(error, DatabaseError::Inconsistent { table: "build", .. }),
        "{error}"
    );
    assert_eq!(db.result(&key(2), alice, true).await.unwrap(), None);
}

pub async fn requests_newest_first<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut failed = request(alice, 5, 30);
    (failed.rung, failed.build) = (None, None);
    let asked = [
        request(alice, 1, 10),
        request(alice, 2, 20),
        request(alice, 3, 20),
        request(alice, 4, 5),
        failed.clone(),
    ];
    for request in &asked {
        db.record_request(request).await.unwrap();
    }
    let [first, second, third, fourth, _] = asked;
    assert_eq!(
        db.requests(alice, 4).await.unwrap(),
        [failed, third, second, first]
    );
    assert_eq!(db.requests(alice, u32::MAX).await.unwrap().last(), Some(&fourth));
    assert_eq!(db.requests(alice, 0).await.unwrap(), []);
}

pub async fn requests_of_one_account<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let mut asked = request(alice, 1, 10);
    asked.build = Some(BuildId([255; 16]));
    db.record_request(&asked).await.unwrap();
    assert_eq!(db.requests(bob, 10).await.unwrap(), []);
    assert_eq!(db.requests(alice, 10).await.unwrap(), [asked]);
}

pub async fn a_withdrawn_result_leaves_the_run<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let [first, second] = [build(1, 1, &[1, 2]), build(2, 1, &[1, 3])];
    db.record_build(&first, alice, true, true).await.unwrap();
    let mut asked = request(alice, 1, 10);
    asked.build = Some(first.run.id);
    db.record_request(&asked).await.unwrap();
    db.record_check(&second, alice, true).await.unwrap();
    let before = (
        db.runs_of(&drv(1), alice, true, 9).await.unwrap(),
        db.irreproducible(alice, true, 9).await.unwrap(),
        db.run_of_request(first.run.id, alice).await.unwrap(),
        db.contents().await.unwrap(),
        db.usage(Some(alice), 0, u64::MAX >> 1).await.unwrap(),
    );
    assert_eq!((before.0.len(), before.1.len(), before.3.len()), (2, 2, 3));
    db.forget_result(first.run.id).await.unwrap();
    assert_eq!(db.result(&key(1), alice, true).await.unwrap(), None);
    let after = (
        db.runs_of(&drv(1), alice, true, 9).await.unwrap(),
        db.irreproducible(alice, true, 9).await.unwrap(),
        db.run_of_request(first.run.id, alice).await.unwrap(),
        db.contents().await.unwrap(),
        db.usage(Some(alice), 0, u64::MAX >> 1).await.unwrap(),
    );
    assert_eq!(after, before);
    // The next run answers, and is compared with the one that was withdrawn.
    let third = build(3, 1, &[4, 2]);
    assert_eq!(db.record_build(&third, alice, true, true).await.unwrap(), third);
    assert_eq!(db.irreproducible(alice, true, 9).await.unwrap().len(), 3);
}
