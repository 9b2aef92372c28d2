//! What accounts used and were spared.

use std::collections::BTreeMap;

use firn_core::{BuildId, Claim, Origin, Rung};
use firn_service::ports::{Database, RungUsage, Usage};

use crate::backend::Bench;
use crate::sample::{Short as _, account, build, claim, failed, name, path, request};

const ALL: (u64, u64) = (0, u64::MAX);

/// The sums of requests that these runs answered; `bytes` are those of all their outputs.
fn sums(requests: u64, runs: &[u64], bytes: u64) -> RungUsage {
    RungUsage {
        requests,
        cpu_us: runs.iter().map(|n| 1_500_000 + n + 30).sum(),
        wall_ms: 2_000 * runs.len() as u64,
        output_bytes: bytes,
    }
}

pub async fn in_sum<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    assert_eq!(
        db.usage(Some(alice), ALL.0, ALL.1).await.unwrap(),
        Usage::default()
    );
    for n in 1..=6 {
        let shares = n % 2 == 0;
        db.record_build(&build(n, u32::from(n), &[n.into(), 50]), bob, shares, shares)
            .await
            .unwrap();
    }
    db.record_failure(&failed(7, 7), bob, false).await.unwrap();
    let all = Rung::ALL.map(Some).into_iter().chain([None]);
    // `already-valid` names run 1, …, `grounded` 3 too, `joined` 5, `failed-before` 7, `built` 6, and what failed and was run 7.
    for (rung, n) in all.zip([1, 2, 3, 3, 4, 5, 7, 6, 7]) {
        let mut asked = request(alice, 1, 1);
        (asked.rung, asked.build) = (rung, Some(BuildId([n; 16])));
        db.record_request(&asked).await.unwrap();
    }
    // The same run again, one that is forgotten, and none.
    for build in [Some(4), Some(2), Some(99), None] {
        let mut asked = request(alice, 2, 2);
        asked.rung = Some(Rung::Shared);
        asked.build = build.map(|n| BuildId([n; 16]));
        db.record_request(&asked).await.unwrap();
    }
    db.record_request(&request(bob, 1, 1)).await.unwrap();
    let output = |n: u64| 1_000 + n + 1_050;
    let rungs: BTreeMap<Option<Rung>, RungUsage> = [
        (Some(Rung::AlreadyValid), sums(1, &[], 0)),
        (Some(Rung::Substituted), sums(1, &[], 0)),
        (Some(Rung::Trusted), sums(1, &[3], output(3))),
        (Some(Rung::Grounded), sums(1, &[3], output(3))),
        (
            Some(Rung::Shared),
            sums(5, &[4, 4, 2], output(4) + output(4) + output(2)),
        ),
        (Some(Rung::Joined), sums(1, &[5], output(5))),
        (Some(Rung::Failed), sums(1, &[7], 0)),
        (Some(Rung::Built), sums(1, &[6], output(6))),
        (None, sums(1, &[7], 0)),
    ]
    .into();
    assert_eq!(db.usage(Some(alice), ALL.0, ALL.1).await.unwrap().rungs, rungs);
    // What somebody else takes back is not spared any more: nobody can say how much it was.
    db.remove_account(&name("bob")).await.unwrap();
    let after = db.usage(Some(alice), ALL.0, ALL.1).await.unwrap().rungs;
    assert_eq!(after[&Some(Rung::Joined)], sums(1, &[], 0));
    assert_eq!(
        after[&Some(Rung::Shared)],
        sums(5, &[4, 4, 2], output(4) + output(4) + output(2))
    );
}

/// `claim(p, c)` of that origin, registered then.
fn came(p: u32, c: u32, origin: Origin, registered: u64) -> Claim {
    Claim {
        origin,
        registered,
        ..claim(p, c)
    }
}

pub async fn in_time<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    db.record_build(&build(7, 1, &[1]), alice, true, true)
        .await
        .unwrap();
    for time in [10, 19, 20, 29, 30] {
        db.record_request(&request(alice, 1, time)).await.unwrap();
    }
    db.record(
        alice,
        &[
            came(1, 1, Origin::Uploaded, 19),
            came(2, 2, Origin::Uploaded, 20),
            // The same bytes again.
            came(3, 2, Origin::Uploaded, 29),
            came(3, 3, Origin::Substituted, 29),
            came(4, 3, Origin::Substituted, 29),
            came(4, 4, Origin::Substituted, 30),
            came(5, 5, Origin::Built, 25),
        ],
    )
    .await
    .unwrap();
    let now = (5, 5_000 + 1 + 2 + 3 + 4 + 5);
    for (since, until, requests, uploaded, substituted) in [
        (20, 30, 2, 1_002, 1_003),
        (0, 20, 2, 1_001, 0),
        (30, u64::MAX, 1, 0, 1_004),
        (0, u64::MAX, 5, 2_003, 2_007),
        (20, 20, 0, 0, 0),
        (30, 20, 0, 0, 0),
        (u64::MAX, u64::MAX, 0, 0, 0),
    ] {
        for account in [Some(alice), None] {
            let usage = db.usage(account, since, until).await.unwrap();
            let counted = usage.rungs.values().map(|sums| sums.requests).sum::<u64>();
            assert_eq!(counted, requests, "{since} to {until}");
            assert_eq!(
                (usage.uploaded_bytes, usage.substituted_bytes),
                (uploaded, substituted)
            );
            assert_eq!((usage.paths, usage.bytes), now);
        }
    }
    let usage = db.usage(Some(alice), 20, 30).await.unwrap();
    assert_eq!(
        usage.rungs,
        [(Some(Rung::Shared), sums(2, &[7, 7], 2_002))].into()
    );
    db.forget(alice, &[path(1), path(4)]).await.unwrap();
    let after = db.usage(Some(alice), 0, u64::MAX).await.unwrap();
    assert_eq!((after.paths, after.bytes), (3, 3_010));
    assert_eq!((after.uploaded_bytes, after.substituted_bytes), (1_002, 1_003));
}

pub async fn of_all<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    assert_eq!(db.usage(None, ALL.0, ALL.1).await.unwrap(), Usage::default());
    db.record_build(&build(7, 1, &[1]), alice, false, false)
        .await
        .unwrap();
    for account in [alice, alice, bob] {
        db.record_request(&request(account, 1, 5)).await.unwrap();
    }
    let mut ran = request(alice, 1, 6);
    ran.rung = Some(Rung::Built);
    db.record_request(&ran).await.unwrap();
    db.record(
        alice,
        &[came(1, 1, Origin::Uploaded, 5), came(2, 2, Origin::Uploaded, 5)],
    )
    .await
    .unwrap();
    db.record(
        bob,
        &[
            came(1, 1, Origin::Uploaded, 5),
            came(1, 3, Origin::Substituted, 5),
        ],
    )
    .await
    .unwrap();
    let expected = Usage {
        rungs: [
            (Some(Rung::Shared), sums(3, &[7, 7, 7], 3_003)),
            (Some(Rung::Built), sums(1, &[7], 1_001)),
        ]
        .into(),
        // Both accounts have sent the same content, which is there once.
        uploaded_bytes: 1_001 + 1_002 + 1_001,
        substituted_bytes: 1_003,
        paths: 2,
        bytes: 3_006,
    };
    assert_eq!(db.usage(None, ALL.0, ALL.1).await.unwrap(), expected);
    let nobody = firn_core::AccountId(77);
    assert_eq!(
        db.usage(Some(nobody), ALL.0, ALL.1).await.unwrap(),
        Usage::default()
    );
}
