//! Runs that are remembered, and who may know of them.

use std::collections::BTreeSet;

use firn_core::{BuildId, ObjectId};
use firn_service::ports::{BuildRecord, Database, DatabaseError};

use crate::backend::Bench;
use crate::sample::{
    GIVES, KEEPS, Short as _, account, alone, build, ca, claim, content, drv, failed, key, name, named_path,
    numbers, object, path, request, told,
};

/// `build(…)` of another derivation than its key says.
fn of_drv(record: BuildRecord, n: u32) -> BuildRecord {
    let mut record = record;
    record.run.drv = drv(n);
    record
}

pub async fn round_trip<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut record = build(1, 1, &[1, 2, 3]);
    record.outputs.get_mut("dev").unwrap().object.ca = Some(ca());
    record.run.inputs = [1, 2, 127, 128, 255, 16_384, 1 << 40, i64::MAX]
        .map(ObjectId)
        .into();
    let mut without = build(2, 1, &[]);
    without.run.inputs.clear();
    let mut many = build(3, 1, &[4]);
    many.run.inputs = (1..5_000).map(|n| ObjectId(n * 97)).collect();
    db.record_build(&record, alice, false, false).await.unwrap();
    db.record_check(&without, alice, false).await.unwrap();
    db.record_check(&many, alice, false).await.unwrap();
    let runs = db.runs_of(&drv(1), alice, false, 9).await.unwrap();
    assert_eq!(
        told(runs),
        [(many, true), (without, true), (record.clone(), true)]
    );
    assert_eq!(db.result(&key(1), alice, false).await.unwrap(), Some(record));
    assert_eq!(db.runs_of(&drv(2), alice, true, 9).await.unwrap(), []);
}

pub async fn newest_first<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    for (n, started) in [(5, 50), (2, 70), (3, 70), (1, 60), (4, 10)] {
        let mut record = of_drv(build(n, u32::from(n), &[1]), 9);
        record.run.started = started;
        db.record_build(&record, alice, true, true).await.unwrap();
    }
    let mut failure = failed(6, 6);
    (failure.run.drv, failure.run.started) = (drv(9), 55);
    db.record_failure(&failure, alice, true).await.unwrap();
    for (limit, expected) in [
        (9, &[3, 2, 1, 6, 5, 4][..]),
        (u32::MAX, &[3, 2, 1, 6, 5, 4]),
        (2, &[3, 2]),
        (0, &[]),
    ] {
        let runs = db.runs_of(&drv(9), alice, true, limit).await.unwrap();
        assert_eq!(numbers(&runs), expected);
    }
}

pub async fn known_to_whom<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    for (n, account, shares) in [
        (1, alice, true),
        (2, alice, false),
        (3, bob, true),
        (4, bob, false),
        (5, carol, true),
    ] {
        db.record_build(&build(n, 1, &[n.into()]), account, shares, shares)
            .await
            .unwrap();
    }
    let mut failure = failed(6, 1);
    failure.run.drv = drv(1);
    db.record_failure(&failure, bob, false).await.unwrap();
    let known = async |account, takes| {
        let runs = db.runs_of(&drv(1), account, takes, 9).await.unwrap();
        let owned = runs.iter().filter(|past| past.own);
        let own: Vec<u8> = owned.map(|past| past.run.id.0[0]).collect();
        (numbers(&runs), own)
    };
    assert_eq!(known(alice, true).await, (vec![5, 3, 2, 1], vec![2, 1]));
    assert_eq!(known(alice, false).await, (vec![2, 1], vec![2, 1]));
    assert_eq!(known(bob, true).await, (vec![6, 5, 4, 3, 1], vec![6, 4, 3]));
    assert_eq!(known(carol, false).await, (vec![5], vec![5]));
    // The limit counts what one may know.
    let runs = db.runs_of(&drv(1), alice, true, 2).await.unwrap();
    assert_eq!(numbers(&runs), [5, 3]);
    db.set_account(bob, "private", Some("1"), KEEPS).await.unwrap();
    assert_eq!(known(alice, true).await.0, [5, 2, 1]);
    assert_eq!(known(bob, true).await.0, [6, 5, 4, 3, 1]);
    db.set_account(bob, "private", None, GIVES).await.unwrap();
    assert_eq!(known(alice, true).await.0, [5, 3, 2, 1]);
}

pub async fn after_removal<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    for (n, account, shares) in [
        (1, alice, true),
        (2, alice, true),
        (3, alice, false),
        (4, carol, true),
        (5, carol, false),
    ] {
        db.record_check(&build(n, 1, &[n.into()]), account, shares)
            .await
            .unwrap();
    }
    // Runs of both that answer another account as well.
    for (n, first) in [(6, alice), (7, carol)] {
        for account in [first, bob] {
            let record = build(n, u32::from(n), &[n.into()]);
            let shares = account == carol;
            db.record_build(&of_drv(record, 1), account, shares, shares)
                .await
                .unwrap();
        }
    }
    db.set_account(carol, "private", Some("1"), KEEPS).await.unwrap();
    for gone in ["alice", "carol"] {
        db.remove_account(&name(gone)).await.unwrap();
    }
    let runs = db.runs_of(&drv(1), bob, true, 9).await.unwrap();
    assert_eq!(numbers(&runs), [2, 1]);
    assert!(runs.iter().all(|past| !past.own));
    assert_eq!(db.runs_of(&drv(1), bob, false, 9).await.unwrap(), []);
    assert!(db.result(&key(6), bob, false).await.unwrap().is_some());
    assert!(db.result(&key(7), bob, false).await.unwrap().is_some());
    assert_eq!(
        db.contents().await.unwrap(),
        [1, 2, 6, 7].map(content).into_iter().collect()
    );
    let again = account(&db, "alice").await;
    let runs = db.runs_of(&drv(1), again, true, 9).await.unwrap();
    assert_eq!(numbers(&runs), [2, 1]);
}

pub async fn checks_are_no_results<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let check = build(1, 1, &[1]);
    for _ in 0..2 {
        db.record_check(&check, alice, true).await.unwrap();
        assert_eq!(db.result(&key(1), alice, true).await.unwrap(), None);
    }
    let first = build(2, 1, &[2]);
    assert_eq!(db.record_build(&first, alice, true, true).await.unwrap(), first);
    db.record_check(&build(3, 1, &[3]), alice, true).await.unwrap();
    assert_eq!(db.result(&key(1), alice, true).await.unwrap(), Some(first));
    let runs = db.runs_of(&drv(1), alice, true, 9).await.unwrap();
    assert_eq!(numbers(&runs), [3, 2, 1]);
    assert_eq!(
        db.contents().await.unwrap(),
        [1, 2, 3].map(content).into_iter().collect()
    );
}

pub async fn of_objects<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let records = [
        build(1, 1, &[1, 2]),
        build(2, 2, &[1, 3]),
        build(3, 3, &[4]),
        build(4, 4, &[5]),
        build(5, 5, &[1]),
    ];
    for (record, shares) in records.iter().zip([true, true, true, true, false]) {
        db.record_build(record, bob, shares, shares).await.unwrap();
    }
    let mut ids = Vec::new();
    for past in db.runs_of(&drv(1), bob, true, 1).await.unwrap() {
        ids.extend(past.outputs.values().map(|(id, _)| *id));
    }
    let [dev, out]: [ObjectId; 2] = ids.try_into().unwrap();
    let producers = async |ids: &[ObjectId], account, takes| {
        let ids: BTreeSet<ObjectId> = ids.iter().copied().collect();
        let mut runs = db.producers(&ids, account, takes).await.unwrap();
        runs.sort_by_key(|past| past.run.id);
        runs
    };
    // The second output of 2 is another object than that of 1, and every output of a run is told.
    let runs = producers(&[out], alice, true).await;
    let [first, second, ..] = &records;
    assert_eq!(told(runs), [(first.clone(), false), (second.clone(), false)]);
    assert_eq!(numbers(&producers(&[out, dev], alice, true).await), [1, 2]);
    assert_eq!(numbers(&producers(&[dev], alice, true).await), [1]);
    assert_eq!(numbers(&producers(&[out], bob, false).await), [1, 2, 5]);
    assert_eq!(producers(&[out, dev], alice, false).await, []);
    assert_eq!(producers(&[], bob, true).await, []);
    assert_eq!(producers(&[ObjectId(987_654)], bob, true).await, []);
}

pub async fn of_requests<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let (kept, failure) = (build(1, 1, &[1]), failed(2, 2));
    db.record_build(&kept, bob, false, false).await.unwrap();
    db.record_failure(&failure, alice, true).await.unwrap();
    let (kept_id, failed_id) = (kept.run.id, failure.run.id);
    assert_eq!(db.run_of_request(kept_id, alice).await.unwrap(), None);
    // A run of one's own is not one's request either.
    assert_eq!(db.run_of_request(kept_id, bob).await.unwrap(), None);
    for id in [kept_id, failed_id, BuildId([9; 16])] {
        let mut asked = request(alice, 1, 1);
        asked.build = Some(id);
        for _ in 0..2 {
            db.record_request(&asked).await.unwrap();
        }
    }
    let past = db.run_of_request(kept_id, alice).await.unwrap();
    assert_eq!(told(past.into_iter().collect()), [(kept, false)]);
    let past = db.run_of_request(failed_id, alice).await.unwrap().unwrap();
    assert_eq!((past.run, past.own), (failure.run, true));
    assert_eq!(db.run_of_request(BuildId([9; 16]), alice).await.unwrap(), None);
    assert_eq!(db.run_of_request(kept_id, bob).await.unwrap(), None);
    db.forget_result(kept_id).await.unwrap();
    assert!(db.run_of_request(kept_id, alice).await.unwrap().is_some());
}

pub async fn objects_by_number<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut with_ca = claim(3, 3);
    with_ca.object.ca = Some(ca());
    with_ca.object.references.clear();
    db.record(alice, &[claim(1, 1), claim(2, 2), with_ca.clone()])
        .await
        .unwrap();
    let paths = [path(1), path(2), path(3)];
    let evidence = db.evidence(&alone(alice), &paths).await.unwrap();
    let [one, _, three] = [0, 1, 2].map(|n: usize| evidence[n].id);
    let found = db
        .objects(&[one, three, ObjectId(0), ObjectId(99)].into())
        .await
        .unwrap();
    assert_eq!(found, [(one, object(1, 1)), (three, with_ca.object)].into());
    assert!(db.objects(&BTreeSet::new()).await.unwrap().is_empty());
    // Objects stay, whoever speaks of them.
    db.forget(alice, &paths).await.unwrap();
    assert_eq!(db.objects(&[one].into()).await.unwrap().len(), 1);
}

pub async fn differing_outputs<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let ledger = async |limit| {
        let runs = db.irreproducible(alice, true, limit).await.unwrap();
        numbers(&runs)
    };
    // 1: the second output differs; 2: all the same; 3: one run; 4: a failure and a success; 5: differs, and failed once.
    for record in [
        build(1, 1, &[1, 2]),
        build(2, 1, &[1, 3]),
        build(3, 2, &[1, 2]),
        build(4, 2, &[1, 2]),
        build(5, 3, &[7]),
        build(6, 4, &[7]),
        build(20, 5, &[1]),
        build(21, 5, &[2]),
    ] {
        db.record_check(&record, alice, false).await.unwrap();
    }
    db.record_failure(&failed(7, 4), alice, false).await.unwrap();
    db.record_failure(&failed(8, 5), alice, false).await.unwrap();
    assert_eq!(ledger(9).await, [21, 20, 8, 2, 1]);
    assert_eq!(ledger(1).await, [21, 20, 8]);
    assert!(ledger(0).await.is_empty());
    // The latest keys first: by their latest run.
    let mut again = build(30, 1, &[1, 2]);
    db.record_check(&again, alice, false).await.unwrap();
    assert_eq!(ledger(9).await, [30, 2, 1, 21, 20, 8]);
    // What differed did differ, whatever was lost since.
    db.forget_result(BuildId([2; 16])).await.unwrap();
    assert_eq!(ledger(9).await, [30, 2, 1, 21, 20, 8]);
    // Other references of the same bytes are another object.
    again.run.id = BuildId([31; 16]);
    again.outputs.get_mut("out").unwrap().object.references.clear();
    db.record_build(&again, alice, false, false).await.unwrap();
    let runs = db.irreproducible(alice, false, 1).await.unwrap();
    assert_eq!(numbers(&runs), [31, 30, 2, 1]);
    assert_eq!(told(runs).remove(0), (again, true));
}

pub async fn differing_for_whom<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    for (n, account, shares) in [
        (1, alice, true),
        (2, alice, false),
        (3, bob, true),
        (4, bob, false),
    ] {
        db.record_check(&build(n, 1, &[n.into()]), account, shares)
            .await
            .unwrap();
    }
    let ledger = async |account, takes| {
        let runs = db.irreproducible(account, takes, 9).await.unwrap();
        numbers(&runs)
    };
    assert_eq!(ledger(alice, true).await, [3, 2, 1]);
    assert_eq!(ledger(alice, false).await, [2, 1]);
    assert_eq!(ledger(bob, true).await, [4, 3, 1]);
    // Carol has not asked.
    assert!(ledger(carol, true).await.is_empty());
    let mut asked = request(carol, 1, 1);
    asked.build = Some(BuildId([3; 16]));
    db.record_request(&asked).await.unwrap();
    assert_eq!(ledger(carol, true).await, [3, 1]);
    assert!(ledger(carol, false).await.is_empty());
    db.set_account(alice, "private", Some("1"), KEEPS).await.unwrap();
    // What is left to see does not differ.
    assert!(ledger(carol, true).await.is_empty());
    assert_eq!(ledger(bob, true).await, [4, 3]);
    db.set_account(alice, "private", None, GIVES).await.unwrap();
    db.remove_account(&name("alice")).await.unwrap();
    assert_eq!(ledger(carol, true).await, [3, 1]);
    assert_eq!(ledger(bob, true).await, [4, 3, 1]);
}

pub async fn latest_request_of_a_derivation<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let drv_path = named_path(1, "thing.drv");
    assert_eq!(db.latest_request(alice, &drv_path).await.unwrap(), None);
    let mut valid = request(alice, 1, 50);
    valid.build = None;
    let mut last = request(alice, 1, 40);
    (last.build, last.wall_ms) = (Some(BuildId([99; 16])), 77);
    for request in [
        request(alice, 1, 30),
        request(alice, 1, 40),
        last.clone(),
        request(alice, 1, 10),
        valid,
        request(alice, 2, 60),
        request(bob, 1, 70),
    ] {
        db.record_request(&request).await.unwrap();
    }
    assert_eq!(db.latest_request(alice, &drv_path).await.unwrap(), Some(last));
    let unknown = named_path(5, "thing.drv");
    assert_eq!(db.latest_request(alice, &unknown).await.unwrap(), None);
}

pub async fn forgotten_runs<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    db.record_build(&build(1, 1, &[1]), alice, true, true)
        .await
        .unwrap();
    db.record_check(&build(2, 1, &[2]), alice, true).await.unwrap();
    db.record_failure(&failed(3, 1), alice, true).await.unwrap();
    for n in [1, 3, 2] {
        db.forget_result(BuildId([n; 16])).await.unwrap();
        let runs = db.runs_of(&drv(1), alice, true, 9).await.unwrap();
        assert_eq!(numbers(&runs), [3, 2, 1]);
    }
    assert_eq!(db.result(&key(1), alice, true).await.unwrap(), None);
    assert_eq!(db.failure(&key(1), alice, true).await.unwrap(), None);
    assert_eq!(db.contents().await.unwrap(), [content(1), content(2)].into());
}

pub async fn strange_inputs<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    for id in [0, -1, i64::MIN] {
        let mut record = build(1, 1, &[1]);
        record.run.inputs.insert(ObjectId(id));
        let refused = db.record_build(&record, alice, true, true).await;
        assert!(matches!(refused, Err(DatabaseError::Backend(_))), "{refused:?}");
    }
    assert_eq!(db.runs_of(&drv(1), alice, true, 9).await.unwrap(), []);
}
