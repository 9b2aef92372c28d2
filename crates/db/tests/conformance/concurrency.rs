//! Many at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use firn_core::{AccountId, Claim, Trust};
use firn_service::ports::{Database, DatabaseError, KeyFor, Proof};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::backend::Bench;
use crate::sample::{
    GIVES, Short as _, account, alone, build, claim, drv, failed, key, login, name, path, policy, proof,
    public_key, signed_claim, texts,
};

pub async fn first_result_wins<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let mut tasks = JoinSet::new();
    for n in 1..=20u8 {
        let db = db.clone();
        // All have some outputs in common, and none all of them.
        tasks.spawn(async move {
            let contents = [u32::from(n % 3), u32::from(n % 2), u32::from(n)];
            let account = if n % 2 == 0 { alice } else { bob };
            db.record_build(&build(n, 1, &contents), account, true, true)
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
    let before: Vec<Claim> = (0..50).map(|n| claim(n, n)).collect();
    db.record(alice, &before).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let db = db.clone();
        tasks.spawn(async move {
            for n in 0..50 {
                let new = texts(&[&format!("k:{task}-{n}")]);
                let mut again = claim(n, n);
                again.signatures = new.clone();
                db.record(alice, &[again]).await.unwrap();
                // What was answered is seen.
                let [now]: [Claim; 1] = db.claims(alice, &[path(n)]).await.unwrap().try_into().unwrap();
                assert!(now.signatures.is_superset(&new));
            }
        });
    }
    tasks.join_all().await;
    let paths: Vec<_> = (0..50).map(path).collect();
    for claim in db.claims(alice, &paths).await.unwrap() {
        assert_eq!(claim.signatures.len(), 16 + 1);
    }
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
        tasks.spawn(async move {
            db.create_account(&name("alice"), "secret", GIVES, 1)
                .await
                .is_ok()
        });
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
                        db.forget_result(shared.run.id).await.unwrap();
                    }
                } else {
                    let record = build(task * 20 + n, 1, &[u32::from(n)]);
                    assert_eq!(
                        db.record_build(&record, alice, true, true).await.unwrap().run.key,
                        key(1)
                    );
                }
                if let Some(shared) = db.result(&key(1), alice, true).await.unwrap() {
                    assert_eq!(shared.outputs.len(), 1);
                }
            }
        });
    }
    tasks.join_all().await;
}

pub async fn failures_at_once<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let mut tasks = JoinSet::new();
    for task in 0..8u8 {
        let db = db.clone();
        let account = [alice, bob][usize::from(task % 2)];
        tasks.spawn(async move {
            for n in 0..12u8 {
                let record = failed(task * 12 + n + 1, u32::from(n % 3));
                let shares = n % 4 != 3;
                db.record_failure(&record, account, shares).await.unwrap();
                let own = db.failure(&record.run.key, account, false).await.unwrap();
                // Another task may have forgotten it since.
                assert!(own.is_none_or(|own| own.run.key == record.run.key));
                match n % 5 {
                    // The same again, and away with it.
                    0 => db.record_failure(&record, account, shares).await.unwrap(),
                    1 => db.forget_result(record.run.id).await.unwrap(),
                    2 => {
                        let built = build(100 + task * 12 + n, u32::from(n % 3), &[u32::from(task)]);
                        db.record_check(&built, account, shares).await.unwrap();
                    }
                    _ => {}
                }
            }
        });
    }
    tasks.join_all().await;
    for (n, id) in (0..3).zip([200, 202, 204]) {
        let (last, later) = (failed(id, n), failed(id + 1, n));
        db.record_failure(&last, alice, true).await.unwrap();
        db.record_failure(&later, bob, true).await.unwrap();
        for (account, expected) in [(alice, &last), (bob, &later), (carol, &later)] {
            let answer = db.failure(&key(n), account, true).await.unwrap();
            assert_eq!(answer.as_ref(), Some(expected));
        }
        db.forget_result(later.run.id).await.unwrap();
        db.forget_result(last.run.id).await.unwrap();
        // One of each account at a time: nothing comes to light.
        assert_eq!(db.failure(&key(n), carol, true).await.unwrap(), None);
    }
}

pub async fn differences_are_never_missed<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    for round in 0..10u8 {
        let start = Arc::new(Barrier::new(2));
        let mut tasks = JoinSet::new();
        for n in 0..2u8 {
            let (db, start) = (db.clone(), Arc::clone(&start));
            tasks.spawn(async move {
                let record = build(round * 2 + n + 1, u32::from(round), &[u32::from(n)]);
                start.wait().await;
                match n {
                    0 => db
                        .record_build(&record, alice, true, true)
                        .await
                        .map(|_| ())
                        .unwrap(),
                    _ => db.record_check(&record, alice, true).await.unwrap(),
                }
            });
        }
        tasks.join_all().await;
    }
    assert_eq!(db.irreproducible(alice, true, 100).await.unwrap().len(), 20);
}

pub async fn failures_against_removal<D: Database>(Bench { db, .. }: Bench<D>) {
    let bob = account(&db, "bob").await;
    for round in 0..8u8 {
        let alice = account(&db, "alice").await;
        let mut tasks = JoinSet::new();
        for n in 0..4u8 {
            let db = db.clone();
            tasks.spawn(async move {
                let record = failed(round * 4 + n + 1, u32::from(round));
                let built = build(100 + round * 4 + n, u32::from(round), &[1]);
                // The second time it is there already, unless it went with the account.
                for _ in 0..2 {
                    let failure = db.record_failure(&record, alice, n % 2 == 0).await;
                    let check = db.record_check(&built, alice, n % 2 == 0).await;
                    for done in [failure, check] {
                        assert!(
                            matches!(done, Ok(()) | Err(DatabaseError::NoAccount(_))),
                            "{done:?}"
                        );
                    }
                }
            });
        }
        db.remove_account(&name("alice")).await.unwrap();
        tasks.join_all().await;
        assert_eq!(db.failure(&key(round.into()), alice, false).await.unwrap(), None);
        let left = db.runs_of(&drv(round.into()), bob, true, 100).await.unwrap();
        // Failures have odd numbers when they are shared, and checks even ones.
        for past in left {
            let number = past.run.id.0[0];
            assert_eq!(number % 2, u8::from(number < 100), "{past:?}");
            assert!(!past.own);
        }
    }
}

pub async fn sharing_against_taking_back<D: Database>(Bench { db, .. }: Bench<D>) {
    let reader = account(&db, "reader").await;
    let key = db.key("k", 1).await;
    let claims: Vec<Claim> = (0..10).map(|n| signed_claim(n, n, &format!("k:{n}"))).collect();
    let proofs: Vec<Proof> = (0..10).map(|n| proof(n, &claims[n], Some(key))).collect();
    let paths: Vec<_> = (0..10).map(path).collect();
    let policy = policy(reader, &[key], &[]);
    let mut tasks = JoinSet::new();
    for task in 0..6u32 {
        let account = account(&db, &format!("a{task}")).await;
        let (db, mut claims, mut proofs, paths) = (db.clone(), claims.clone(), proofs.clone(), paths.clone());
        tasks.spawn(async move {
            if task % 2 == 0 {
                claims.reverse();
                for proof in &mut proofs {
                    proof.claim = 9 - proof.claim;
                }
            }
            for round in 0..8 {
                db.record_claims(account, &claims, &proofs, key).await.unwrap();
                match (task + round) % 3 {
                    0 => assert_eq!(db.forget(account, &paths).await.unwrap(), 10),
                    1 => db.private(account, true).await,
                    _ => db.private(account, false).await,
                }
            }
            // The first ends with its claims shared, the second with them kept, the others with none.
            match task {
                0 => {
                    db.record_claims(account, &claims[5..], &[], key).await.unwrap();
                    db.private(account, false).await;
                    let some: Vec<Proof> = proofs.iter().filter(|p| p.claim >= 5).cloned().collect();
                    db.record_claims(account, &claims, &some, key).await.unwrap();
                    let none = claims[..5].iter().map(|c| c.object.path.clone());
                    db.forget(account, &none.collect::<Vec<_>>()).await.unwrap();
                }
                1 => {
                    db.private(account, true).await;
                    db.record_claims(account, &claims, &proofs, key).await.unwrap();
                }
                _ => {
                    db.forget(account, &paths).await.unwrap();
                }
            }
        });
    }
    tasks.join_all().await;
    let seen = db.evidence(&policy, &paths).await.unwrap();
    let seen: BTreeSet<_> = seen.into_iter().map(|e| e.claim.object.path).collect();
    assert_eq!(seen, (0..5).map(path).collect());
}

pub async fn a_signature_is_never_missed<D: Database>(Bench { db, .. }: Bench<D>) {
    for round in 0..8u8 {
        let alice = account(&db, &format!("a{round}")).await;
        let name = format!("key{round}");
        let start = Arc::new(Barrier::new(5));
        let mut tasks = JoinSet::new();
        for task in 0..4u32 {
            let (db, name, start) = (db.clone(), name.clone(), Arc::clone(&start));
            tasks.spawn(async move {
                start.wait().await;
                for n in task * 10..task * 10 + 10 {
                    let claim = signed_claim(n, n, &format!("{name}:{n}"));
                    // As a caller does who cannot check anything: the key, once it is known, is said to have made it.
                    loop {
                        let (keys, registry) = db.keys_named(std::slice::from_ref(&name)).await.unwrap();
                        let proofs = [proof(0, &claim, keys.first().map(|(key, _)| *key))];
                        match db
                            .record_claims(alice, std::slice::from_ref(&claim), &proofs, registry)
                            .await
                        {
                            Ok(()) => break,
                            Err(DatabaseError::KeysChanged) => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                }
            });
        }
        let registering = {
            let (db, start, name) = (db.clone(), Arc::clone(&start), name.clone());
            tokio::spawn(async move {
                start.wait().await;
                let (key, _) = db
                    .register_key(KeyFor::Operator, &public_key(&name, round + 1))
                    .await
                    .unwrap();
                let mut after = 0;
                loop {
                    let open = db.open_signatures(&name, alice, after, 3).await.unwrap();
                    let Some(last) = open.last() else { break };
                    after = last.id;
                    let proven: Vec<_> = open.iter().map(|o| (o.id, o.object_id)).collect();
                    db.prove(key, &proven).await.unwrap();
                }
                db.settle_key(key).await.unwrap();
                key
            })
        };
        tasks.join_all().await;
        let key = registering.await.unwrap();
        let policy = policy(AccountId(77), &[key], &[]);
        let paths: Vec<_> = (0..40).map(path).collect();
        assert_eq!(db.evidence(&policy, &paths).await.unwrap().len(), 40);
        assert!(db.open_signers(&name).await.unwrap().is_empty());
    }
}

pub async fn decisions_against_removal<D: Database>(Bench { db, .. }: Bench<D>) {
    for round in 0..6u32 {
        let alice = account(&db, "alice").await;
        let bob = account(&db, "bob").await;
        let fails_for_want_of_one = |done: Result<(), DatabaseError>| match done {
            Ok(()) | Err(DatabaseError::NoAccount(_)) => {}
            Err(e) => panic!("{e}"),
        };
        let mut tasks = JoinSet::new();
        for (a, b) in [(alice, bob), (bob, alice)] {
            let (one, two) = (db.clone(), db.clone());
            tasks.spawn(async move {
                fails_for_want_of_one(one.trust(a, b, Some(Trust::Builds)).await);
                fails_for_want_of_one(one.let_read(b, a, Some(Trust::Builds)).await);
                fails_for_want_of_one(one.set_account(a, "timeout", Some("1"), GIVES).await);
                fails_for_want_of_one(one.set_login(a, "host", Some(&login())).await.map(|_| ()));
            });
            tasks.spawn(async move {
                let n = u8::try_from(round).unwrap() + 1;
                let done = two
                    .record_build(&build(n, u32::from(n), &[1]), a, true, true)
                    .await;
                fails_for_want_of_one(done.map(|_| ()));
                fails_for_want_of_one(two.forget(a, &[path(1)]).await.map(|_| ()));
            });
        }
        let (one, two) = (db.clone(), db.clone());
        tasks.spawn(async move { one.remove_account(&name("alice")).await.unwrap() });
        tasks.spawn(async move { two.remove_account(&name("bob")).await.unwrap() });
        tasks.join_all().await;
        assert_eq!(db.relations(alice).await.unwrap(), []);
        let gone = db.stored(bob, None).await;
        assert!(matches!(gone, Err(DatabaseError::NoAccount(_))), "{gone:?}");
    }
}
