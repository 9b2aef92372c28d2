//! Which path an output got, and who may know who says so.

use std::collections::BTreeSet;

use firn_core::{AccountId, KeyId, Origin, Policy, RealisationClaim, Trust};
use firn_nix::realisation::{DrvOutput, Realisation};
use firn_nix::rewrite::SelfReferences;
use firn_nix::signature::SecretKey;
use firn_service::ports::{Database, DatabaseError};

use crate::backend::Bench;
use crate::sample::{Short as _, account, alone, content, name, named_path, path, policy};

pub fn id(n: u32, output: &str) -> DrvOutput {
    match n.is_multiple_of(2) {
        true => format!("sha256:{}!{output}", content(n).hex()).parse().unwrap(),
        false => DrvOutput::of_path(named_path(n, "thing.drv"), output.to_owned()).unwrap(),
    }
}

/// That `output` of derivation `n` got `path(p)`.
pub fn says(n: u32, output: &str, p: u32, origin: Origin, signers: &[u8]) -> RealisationClaim {
    let mut realisation = Realisation::unsigned(id(n, output), path(p));
    let fingerprint = realisation.fingerprint();
    for signer in signers {
        let key = SecretKey::from_seed(&format!("key-{signer}"), &[*signer; 32]).unwrap();
        realisation.signatures.insert(key.sign(fingerprint.as_bytes()));
    }
    RealisationClaim {
        realisation,
        origin,
        registered: 7,
        form: None,
    }
}

async fn seen(
    db: &impl Database,
    policy: &Policy,
    ids: &[DrvOutput],
) -> BTreeSet<(AccountId, String, &'static str)> {
    let found = db.realisations(policy, ids).await.unwrap();
    let told = |c: &RealisationClaim| (c.realisation.out_path.to_string(), c.origin.name());
    found
        .iter()
        .map(|e| (e.account, told(&e.claim).0, told(&e.claim).1))
        .collect()
}

pub async fn round_trip<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let in_form = |p, form| RealisationClaim {
        form: Some(form),
        ..says(3, "out", p, Origin::Built, &[])
    };
    let claims = [
        in_form(1, SelfReferences::Placed),
        in_form(2, SelfReferences::Unplaced),
        says(3, "out", 3, Origin::Built, &[]),
        says(1, "out", 1, Origin::Built, &[1]),
        says(1, "dev", 2, Origin::Built, &[]),
        says(2, "out", 1, Origin::Uploaded, &[1, 2]),
        says(2, "out", 3, Origin::Built, &[]),
    ];
    db.record_realisations(alice, &claims).await.unwrap();
    db.record_realisations(alice, &[]).await.unwrap();
    let ids = [
        id(1, "out"),
        id(1, "dev"),
        id(2, "out"),
        id(2, "dev"),
        id(3, "out"),
        id(9, "out"),
    ];
    let mut found: Vec<_> = db
        .realisations(&alone(alice), &ids)
        .await
        .unwrap()
        .into_iter()
        .map(|e| e.claim)
        .collect();
    let order = |c: &RealisationClaim| (c.realisation.id.clone(), c.origin, c.form);
    found.sort_by_key(order);
    let mut expected = claims.to_vec();
    expected.sort_by_key(order);
    assert_eq!(found, expected);
    assert_eq!(seen(&db, &alone(alice), &ids[1..2]).await.len(), 1);
    assert!(db.realisations(&alone(alice), &[]).await.unwrap().is_empty());
    let nobody = db.record_realisations(AccountId(99), &claims).await.unwrap_err();
    assert!(matches!(nobody, DatabaseError::NoAccount(_)), "{nobody}");
}

pub async fn the_latest_stands_and_signatures_unite<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let record = async |claim| db.record_realisations(alice, &[claim]).await.unwrap();
    let signatures = async || {
        let found = db.realisations(&alone(alice), &[id(1, "out")]).await.unwrap();
        assert_eq!(found.len(), 1);
        (
            found[0].claim.realisation.out_path.clone(),
            found[0].claim.realisation.signatures.len(),
        )
    };
    record(says(1, "out", 1, Origin::Uploaded, &[1])).await;
    record(says(1, "out", 1, Origin::Uploaded, &[2])).await;
    assert_eq!(signatures().await, (path(1), 2));
    record(says(1, "out", 2, Origin::Uploaded, &[2])).await;
    assert_eq!(signatures().await, (path(2), 1));
    record(says(1, "out", 2, Origin::Uploaded, &[])).await;
    assert_eq!(signatures().await, (path(2), 1));
    // Within one batch as well.
    let batch = [1, 2, 3].map(|signer| says(1, "out", 3, Origin::Uploaded, &[signer]));
    db.record_realisations(alice, &batch).await.unwrap();
    assert_eq!(signatures().await, (path(3), 3));
}

/// Those known stay; of new ones as many are taken as there is room for.
pub async fn signatures_are_limited<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let kept = async |claims: &[RealisationClaim]| {
        db.record_realisations(alice, claims).await.unwrap();
        let found = db.realisations(&alone(alice), &[id(1, "out")]).await.unwrap();
        assert_eq!(found.len(), 1);
        found[0].claim.realisation.signatures.clone()
    };
    let signed = |p, signers: std::ops::Range<u8>| {
        let signers: Vec<u8> = signers.collect();
        says(1, "out", p, Origin::Uploaded, &signers)
    };
    let first = kept(&[signed(1, 100..160)]).await;
    assert_eq!(first.len(), 60);
    let full = kept(&[signed(1, 0..50)]).await;
    assert_eq!(full.len(), 64);
    assert!(first.is_subset(&full));
    assert_eq!(kept(&[signed(1, 50..100)]).await, full);
    // Also in one claim, and within one batch.
    assert_eq!(kept(&[signed(2, 0..70)]).await.len(), 64);
    let batch = [signed(3, 0..40), signed(3, 40..80), signed(3, 80..120)];
    let of_batch = kept(&batch).await;
    assert_eq!(of_batch.len(), 64);
    assert!(batch[0].realisation.signatures.is_subset(&of_batch));
}

/// What could not be read again is not written, nor what comes with it.
pub async fn what_is_too_large_is_refused<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut large = says(2, "out", 1, Origin::Uploaded, &[]);
    let name = "o".repeat(150);
    large.realisation.dependent_realisations = (0..3000)
        .map(|n| (id(2 * n, &format!("{name}{n}")), path(1)))
        .collect();
    db.record_realisations(alice, std::slice::from_ref(&large))
        .await
        .unwrap();
    large
        .realisation
        .dependent_realisations
        .extend((3000..5000).map(|n| (id(2 * n, &format!("{name}{n}")), path(1))));
    let refused = db
        .record_realisations(alice, &[says(1, "out", 1, Origin::Built, &[]), large])
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("more than 1048576"), "{refused}");
    let ids = [id(1, "out"), id(2, "out")];
    let found = db.realisations(&alone(alice), &ids).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].claim.realisation.dependent_realisations.len(), 3000);
}

pub async fn bad_rows_of_others_are_left_out<D: Database>(bench: Bench<D>) {
    let db = &bench.db;
    let (alice, bob) = (account(db, "alice").await, account(db, "bob").await);
    let claim = |p| says(2, "out", p, Origin::Built, &[]);
    let ids = [id(2, "out")];
    let trusting = policy(alice, &[], &[(bob, Trust::Builds)]);
    for change in ["text = '{}'", "text = 'x'", "registered = -1"] {
        db.record_realisations(alice, &[claim(1)]).await.unwrap();
        db.record_realisations(bob, &[claim(2)]).await.unwrap();
        assert_eq!(seen(db, &trusting, &ids).await.len(), 2);
        let change = format!("UPDATE realisation SET {change} WHERE account = {}", bob.0);
        assert_eq!(bench.execute(&change).await, 1);
        let left = (alice, path(1).to_string(), Origin::Built.name());
        assert_eq!(seen(db, &trusting, &ids).await, [left].into(), "{change}");
        let own = db.realisations(&alone(bob), &ids).await.unwrap_err();
        assert!(matches!(own, DatabaseError::Inconsistent { .. }), "{own}");
        bench.execute("DELETE FROM realisation").await;
    }
}

pub async fn who_sees_what<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let out = id(1, "out");
    let ids = [out];
    db.record_realisations(
        bob,
        &[
            says(1, "out", 1, Origin::Built, &[1]),
            says(1, "out", 2, Origin::Uploaded, &[]),
        ],
    )
    .await
    .unwrap();
    db.record_realisations(carol, &[says(1, "out", 3, Origin::Uploaded, &[1])])
        .await
        .unwrap();
    let of = |account, p, origin: Origin| (account, path(p).to_string(), origin.name());
    let (built, registered) = (of(bob, 1, Origin::Built), of(bob, 2, Origin::Uploaded));
    let signed = of(carol, 3, Origin::Uploaded);
    let keys = [KeyId(1)];
    for (policy, expected) in [
        (alone(alice), vec![]),
        (policy(alice, &[], &[(bob, Trust::Builds)]), vec![built.clone()]),
        (
            policy(alice, &[], &[(bob, Trust::Uploads)]),
            vec![built.clone(), registered.clone()],
        ),
        // What was built is signed for its account's clients only.
        (policy(alice, &keys, &[]), vec![signed.clone()]),
        (
            policy(alice, &keys, &[(bob, Trust::Builds)]),
            vec![built.clone(), signed.clone()],
        ),
        (alone(bob), vec![built, registered]),
        (alone(carol), vec![signed.clone()]),
    ] {
        assert_eq!(
            seen(&db, &policy, &ids).await,
            expected.into_iter().collect(),
            "{policy:?}"
        );
    }
    db.private(carol, true).await;
    assert!(seen(&db, &policy(alice, &keys, &[]), &ids).await.is_empty());
    assert_eq!(seen(&db, &alone(carol), &ids).await.len(), 1);
    db.private(carol, false).await;
    assert_eq!(seen(&db, &policy(alice, &keys, &[]), &ids).await, [signed].into());
    db.remove_account(&name("carol")).await.unwrap();
    assert!(seen(&db, &policy(alice, &keys, &[]), &ids).await.is_empty());
}
