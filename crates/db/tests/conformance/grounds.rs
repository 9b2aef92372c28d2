//! Grounded results.

use std::collections::BTreeSet;

use firn_core::{BuildId, Ground, ObjectId, Policy};
use firn_service::ports::{Database, Gives};

use crate::backend::Bench;
use crate::sample::{Short as _, account, build, name, path};

const GROUND: Ground = Ground([7; 32]);

pub async fn outputs_by_path<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let record = build(1, 1, &[1, 2]);
    db.record_build(&record, alice, true, true).await.unwrap();
    let paths = [path(0), path(1), path(2)];
    let of = async |ground: &Ground| db.grounded_outputs(&paths, ground, alice, true).await.unwrap();
    assert!(of(&GROUND).await.is_empty());
    for _ in 0..2 {
        db.ground(record.run.id, &GROUND, &record.run.drv_path)
            .await
            .unwrap();
    }
    let found = of(&GROUND).await;
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        record
            .outputs
            .values()
            .map(|o| &o.object.path)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    for output in record.outputs.values() {
        let found = &found[&output.object.path];
        assert_eq!((&found.object, found.build), (&output.object, record.run.id));
    }
    assert!(of(&Ground([8; 32])).await.is_empty());
    assert!(
        db.grounded_outputs(&[], &GROUND, alice, true)
            .await
            .unwrap()
            .is_empty()
    );
}

pub async fn by_the_rule_of_results<D: Database>(Bench { db, .. }: Bench<D>) {
    let [alice, bob, carol] = [
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    ];
    // One path, three contents: of keys of their own.
    let (first, second, own) = (build(1, 1, &[1]), build(2, 2, &[2]), build(3, 3, &[3]));
    db.record_build(&first, alice, true, true).await.unwrap();
    db.record_build(&second, bob, true, true).await.unwrap();
    db.record_build(&own, carol, false, false).await.unwrap();
    for record in [&first, &second, &own] {
        db.ground(record.run.id, &GROUND, &record.run.drv_path)
            .await
            .unwrap();
    }
    let seen = async |account, takes| {
        let found = db
            .grounded_outputs(&[path(0)], &GROUND, account, takes)
            .await
            .unwrap();
        found.get(&path(0)).map(|output| output.build)
    };
    // The own one first, then the first that is shared.
    assert_eq!(seen(alice, true).await, Some(first.run.id));
    assert_eq!(seen(bob, true).await, Some(second.run.id));
    // What is not shared is not grounded, for its own account neither.
    assert_eq!(seen(carol, true).await, Some(first.run.id));
    assert_eq!(seen(carol, false).await, None);
    let dave = account(&db, "dave").await;
    assert_eq!(seen(dave, true).await, Some(first.run.id));
    assert_eq!(seen(dave, false).await, None);
    let no = Gives {
        evidence: false,
        results: false,
    };
    // Whoever shared it does not take it back: others' results are built of it. Nor when it goes.
    db.set_account(alice, "private", Some("true"), no).await.unwrap();
    assert_eq!(seen(dave, true).await, Some(first.run.id));
    db.remove_account(&name("alice")).await.unwrap();
    assert_eq!(seen(dave, true).await, Some(first.run.id));
    let outputs = db
        .grounded_outputs(&[path(0)], &GROUND, dave, true)
        .await
        .unwrap();
    let first: BTreeSet<ObjectId> = outputs.into_values().map(|output| output.id).collect();
    let all: BTreeSet<ObjectId> = (1..=9).map(ObjectId).collect();
    assert_eq!(db.grounded(&all, &GROUND).await.unwrap(), first);
}

pub async fn objects<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let (first, other, later, kept) = (
        build(1, 1, &[1]),
        build(2, 2, &[2]),
        build(3, 3, &[3]),
        build(4, 4, &[4]),
    );
    for (record, shares) in [(&first, true), (&other, true), (&later, true), (&kept, false)] {
        db.record_build(record, alice, shares, shares).await.unwrap();
    }
    for record in [&first, &later, &kept] {
        db.ground(record.run.id, &GROUND, &record.run.drv_path)
            .await
            .unwrap();
    }
    let all: BTreeSet<ObjectId> = (1..=9).map(ObjectId).collect();
    // All have the same path: the first that is grounded.
    let found = db.grounded(&all, &GROUND).await.unwrap();
    let outputs = db
        .grounded_outputs(&[path(0)], &GROUND, alice, false)
        .await
        .unwrap();
    assert_eq!(outputs[&path(0)].build, first.run.id);
    assert_eq!(found, outputs.values().map(|o| o.id).collect());
    assert!(db.grounded(&all, &Ground([0; 32])).await.unwrap().is_empty());
    assert!(db.grounded(&[].into(), &GROUND).await.unwrap().is_empty());
    // It is no evidence.
    let policy = Policy {
        account: alice,
        keys: Vec::new(),
        accounts: Vec::new(),
        told_by: Vec::new(),
    };
    assert!(db.evidence(&policy, &[path(0)]).await.unwrap().is_empty());

    let builds = [first.run.id, BuildId([9; 16])].into();
    let inputs = db.inputs_of(&builds).await.unwrap();
    assert_eq!(inputs, [(first.run.id, first.run.inputs)].into());
    assert!(db.inputs_of(&[].into()).await.unwrap().is_empty());
}

pub async fn forgotten_runs<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let record = build(1, 1, &[1]);
    db.record_build(&record, alice, true, true).await.unwrap();
    db.ground(record.run.id, &GROUND, &record.run.drv_path)
        .await
        .unwrap();
    db.forget_result(record.run.id).await.unwrap();
    assert!(
        db.grounded_outputs(&[path(0)], &GROUND, alice, true)
            .await
            .unwrap()
            .is_empty()
    );
    // One that is not there is not grounded.
    db.ground(BuildId([9; 16]), &GROUND, &record.run.drv_path)
        .await
        .unwrap();
}
