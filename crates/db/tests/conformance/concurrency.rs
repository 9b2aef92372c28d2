//! Many at once.

use std::collections::BTreeSet;

use firn_core::{AccountId, Claim};
use firn_service::ports::{Database, DatabaseError};
use tokio::task::JoinSet;

use crate::backend::Bench;
use crate::sample::{Short as _, account, alone, build, claim, key, name, path, texts};

pub async fn first_result_wins<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let mut tasks = JoinSet::new();
    for n in 1..=20u8 {
        let db = db.clone();
        // All have some outputs in common, and none all of them.
        tasks.spawn(async move {
            let contents = [u32::from(n % 3), u32::from(n % 2), u32::from(n)];
            let account = if n % 2 == 0 { alice } else { bob };
            db.record_build(&build(n, 1, &contents), account, true)
                .await
                .unwrap()
        });
    }
    let answers = tasks.join_all().await;
    let shared = db.result(&key(1), AccountId(77), true).await.unwrap().unwrap();
    assert_eq!(shared.outputs.len(), 3);
    assert!(answers.iter().all(|a| *a == shared));
    assert_eq!(answers.len(), 20);
}

pub async fn read_then_write<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    db.record(alice, &[claim(1, 1)]).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let db = db.clone();
        tasks.spawn(async move {
            for n in 0..50 {
                let new = texts(&[&format!("k:{task}-{n}")]);
                let mut again = claim(1, 1);
                again.signatures = new.clone();
                db.record(alice, &[again]).await.unwrap();
                // What was answered is seen.
                let [now]: [Claim; 1] = db.claims(alice, &[path(1)]).await.unwrap().try_into().unwrap();
                assert!(now.signatures.is_superset(&new));
            }
        });
    }
    tasks.join_all().await;
    let claims = db.claims(alice, &[path(1)]).await.unwrap();
    assert_eq!(claims[0].signatures.len(), 16 * 50 + 1);
}

pub async fn overlapping_batches<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let mut tasks = JoinSet::new();
    for task in 0..16u32 {
        let db = db.clone();
        let account = if task % 2 == 0 { alice } else { bob };
        tasks.spawn(async move {
            for round in 0..5 {
                let mut claims: Vec<Claim> = (round * 20..round * 20 + 100).map(|n| claim(n, n)).collect();
                for claim in &mut claims {
                    claim.signatures.insert(format!("k:{task}"));
                }
                if task % 3 == 0 {
                    claims.reverse();
                }
                db.record(account, &claims).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let paths: Vec<_> = (0..180).map(path).collect();
    for account in [alice, bob] {
        let claims = db.claims(account, &paths).await.unwrap();
        assert_eq!(claims.len(), 180);
        assert!(claims.iter().all(|c| c.signatures.len() == 8 + 1));
    }
}

pub async fn removal_against_recording<D: Database>(Bench { db, .. }: Bench<D>) {
    for round in 0..10u32 {
        let alice = account(&db, "alice").await;
        let mut tasks = JoinSet::new();
        for n in 0..4 {
            let db = db.clone();
            tasks.spawn(async move {
                let claims: Vec<Claim> = (0..20).map(|p| claim(p, round + n)).collect();
                match db.record(alice, &claims).await {
                    Ok(()) | Err(DatabaseError::NoAccount(_)) => {}
                    Err(e) => panic!("{e}"),
                }
            });
        }
        db.remove_account(&name("alice")).await.unwrap();
        tasks.join_all().await;
        assert_eq!(db.paths(&alone(alice)).await.unwrap(), BTreeSet::new());
        assert_eq!(db.contents().await.unwrap(), BTreeSet::new());
    }
}

pub async fn one_name_once<D: Database>(Bench { db, .. }: Bench<D>) {
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let db = db.clone();
        tasks.spawn(async move { db.create_account(&name("alice"), "secret", 1).await.is_ok() });
    }
    let made = tasks.join_all().await.into_iter().filter(|made| *made).count();
    assert_eq!(made, 1);
    assert_eq!(db.accounts().await.unwrap().len(), 1);
}

pub async fn forgetting_against_recording<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut tasks = JoinSet::new();
    for task in 0..8u8 {
        let db = db.clone();
        tasks.spawn(async move {
            for n in 0..20u8 {
                if task < 2 {
                    if let Some(shared) = db.result(&key(1), alice, true).await.unwrap() {
                        db.forget_result(shared.id).await.unwrap();
                    }
                } else {
                    let record = build(task * 20 + n, 1, &[u32::from(n)]);
                    assert_eq!(db.record_build(&record, alice, true).await.unwrap().key, key(1));
                }
                if let Some(shared) = db.result(&key(1), alice, true).await.unwrap() {
                    assert_eq!(shared.outputs.len(), 1);
                }
            }
        });
    }
    tasks.join_all().await;
}
