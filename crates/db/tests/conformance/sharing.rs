//! Whose results answer whom, and what accounts used.

use std::collections::BTreeMap;

use firn_core::{BuildId, Claim, Rung};
use firn_service::ports::{Database, Gives, Usage};

use crate::backend::Bench;
use crate::sample::{GIVES, KEEPS, Short as _, account, build, claim, content, key, name, path, request};

pub async fn own_before_shared<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let (kept, shared, bobs) = (build(1, 1, &[1]), build(2, 1, &[2]), build(3, 1, &[3]));
    // Each that keeps its results has its own.
    assert_eq!(db.record_build(&kept, alice, false).await.unwrap(), kept);
    assert_eq!(db.result(&key(1), bob, true).await.unwrap(), None);
    assert_eq!(db.record_build(&bobs, bob, false).await.unwrap(), bobs);
    assert_eq!(db.record_build(&shared, carol, true).await.unwrap(), shared);
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
    assert_eq!(db.record_build(&second, dave, true).await.unwrap(), shared);
    assert_eq!(db.result(&key(1), dave, false).await.unwrap(), None);
    assert_eq!(db.record_build(&third, dave, false).await.unwrap(), third);
    assert_eq!(db.result(&key(1), dave, true).await.unwrap(), Some(third.clone()));
    assert_eq!(
        db.record_build(&build(6, 1, &[6]), dave, true).await.unwrap(),
        third
    );
    // A withdrawn result makes room.
    db.forget_result(third.id).await.unwrap();
    assert_eq!(
        db.result(&key(1), dave, true).await.unwrap(),
        Some(shared.clone())
    );
    db.forget_result(shared.id).await.unwrap();
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
    db.record_build(&first, alice, true).await.unwrap();
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
    assert_eq!(db.record_build(&second, bob, true).await.unwrap(), second);
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
    db.record_build(&shared, alice, true).await.unwrap();
    db.record_build(&kept, alice, false).await.unwrap();
    db.record_build(&second, alice, true).await.unwrap();
    db.record_build(&of_private, carol, true).await.unwrap();
    for account in [alice, bob] {
        assert_eq!(db.record_build(&both, account, false).await.unwrap(), both);
    }
    db.set_account(carol, "private", Some("1"), KEEPS).await.unwrap();
    db.remove_account(&name("alice")).await.unwrap();
    db.remove_account(&name("carol")).await.unwrap();
    assert_eq!(db.result(&key(1), bob, true).await.unwrap(), Some(shared.clone()));
    assert_eq!(db.result(&key(1), bob, false).await.unwrap(), None);
    assert_eq!(db.result(&key(4), bob, true).await.unwrap(), None);
    // A run that answers somebody else as well is not only theirs.
    assert_eq!(db.result(&key(5), bob, false).await.unwrap(), Some(both));
    assert_eq!(
        db.contents().await.unwrap(),
        [1, 5].map(content).into_iter().collect()
    );
    let alice = account(&db, "alice").await;
    assert_eq!(db.result(&key(2), alice, true).await.unwrap(), None);
    assert_eq!(db.result(&key(1), alice, false).await.unwrap(), None);
    assert_eq!(
        db.record_build(&build(6, 1, &[6]), alice, true).await.unwrap(),
        shared
    );
}

pub async fn usage_in_sum<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    assert_eq!(db.usage(alice).await.unwrap(), Usage::default());
    for n in 1..=4 {
        db.record_build(&build(n, u32::from(n), &[1]), bob, true)
            .await
            .unwrap();
    }
    let all = Rung::ALL.map(Some).into_iter().chain([None]);
    for (n, rung) in all.enumerate() {
        let mut asked = request(alice, 1, 1);
        asked.rung = rung;
        asked.build = Some(BuildId([u8::try_from(n % 4).unwrap() + 1; 16]));
        db.record_request(&asked).await.unwrap();
    }
    // A run that is forgotten, and none.
    for build in [Some(BuildId([99; 16])), None] {
        let mut asked = request(alice, 2, 2);
        asked.rung = Some(Rung::Built);
        asked.build = build;
        db.record_request(&asked).await.unwrap();
    }
    db.record_request(&request(bob, 1, 1)).await.unwrap();
    let mut same_content: Claim = claim(2, 1);
    same_content.origin = firn_core::Origin::Built;
    db.record(alice, &[claim(1, 1), same_content, claim(1, 2), claim(3, 3)])
        .await
        .unwrap();

    let mut requests: BTreeMap<Option<Rung>, u64> = Rung::ALL.map(|rung| (Some(rung), 1)).into();
    requests.insert(None, 1);
    requests.insert(Some(Rung::Built), 3);
    let cpu = |n: u64| 1_500_000 + n + 30;
    // `already-valid` has build 1, `substituted` 2, `trusted` 3, `reused` 4, `joined` 1, `built` 2.
    let expected = Usage {
        requests,
        cpu_us: cpu(2),
        saved_cpu_us: cpu(3) + cpu(4) + cpu(1),
        paths: 3,
        bytes: 1_001 + 1_002 + 1_003,
    };
    assert_eq!(db.usage(alice).await.unwrap(), expected);
    db.forget(alice, &[path(1)]).await.unwrap();
    let after = db.usage(alice).await.unwrap();
    assert_eq!((after.paths, after.bytes), (2, 1_001 + 1_003));
}
