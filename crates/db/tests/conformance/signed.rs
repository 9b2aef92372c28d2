//! What a key has signed, and who may see it.

use std::collections::BTreeSet;

use firn_core::{AccountId, Claim, KeyId, Origin, Trust, Witness};
use firn_service::ports::{Database, DatabaseError, KeyFor, MAX_SIGNATURES, OpenSignature, Proof};

use crate::backend::Bench;
use crate::sample::{
    KEEPS, Short as _, account, alone, claim, content, fact, name, path, policy, proof, public_key,
    signed_claim, texts,
};

pub async fn trusted_accounts_by_level<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let (uploaded, mut built, mut fetched) = (claim(1, 1), claim(1, 2), claim(1, 3));
    built.origin = Origin::Built;
    fetched.origin = Origin::Substituted;
    fetched.object.references = [path(7)].into();
    let uploaded_and_built = {
        let mut both = claim(2, 1);
        both.origin = Origin::Built;
        both.deriver = None;
        both
    };
    db.record(
        bob,
        &[
            uploaded.clone(),
            built.clone(),
            fetched.clone(),
            claim(2, 1),
            uploaded_and_built,
        ],
    )
    .await
    .unwrap();
    db.record(alice, &[fetched.clone()]).await.unwrap();

    let bobs = Witness::Account(bob);
    let own = (Witness::Own, fetched);
    let builds = policy(alice, &[], &[(carol, Trust::Uploads), (bob, Trust::Builds)]);
    let uploads = policy(alice, &[], &[(bob, Trust::Uploads)]);
    assert_eq!(db.seen(&alone(alice), &path(1)).await, std::slice::from_ref(&own));
    assert_eq!(
        db.seen(&builds, &path(1)).await,
        [own.clone(), (bobs, built.clone())]
    );
    assert_eq!(
        db.seen(&uploads, &path(1)).await,
        [own.clone(), (bobs, uploaded), (bobs, built)]
    );
    // What is not of one's own is not shown twice when one names oneself.
    let oneself = policy(alice, &[], &[(alice, Trust::Uploads)]);
    assert_eq!(db.seen(&oneself, &path(1)).await, [own]);

    for (policy, paths, derivers, referrers) in [
        (alone(alice), vec![path(1)], 1, vec![path(1)]),
        (builds, vec![path(1), path(2)], 1, vec![path(1), path(2)]),
        (uploads, vec![path(1), path(2)], 1, vec![path(1), path(2)]),
    ] {
        let paths: BTreeSet<_> = paths.into_iter().collect();
        assert_eq!(db.paths(&policy).await.unwrap(), paths);
        for path in [path(1), path(2)] {
            let found = db.paths_by_hash_part(&policy, path.hash_part()).await.unwrap();
            assert_eq!(found.contains(&path), paths.contains(&path));
        }
        assert_eq!(db.derivers(&policy, &path(1)).await.unwrap().len(), derivers);
        let found = db.referrers(&policy, &path(7)).await.unwrap();
        assert_eq!(found, referrers.into_iter().collect());
    }
    let of_two = |policy| {
        let db = db.clone();
        async move { db.derivers(&policy, &path(2)).await.unwrap().len() }
    };
    assert_eq!(of_two(policy(alice, &[], &[(bob, Trust::Builds)])).await, 0);
    assert_eq!(of_two(policy(alice, &[], &[(bob, Trust::Uploads)])).await, 1);
}

pub async fn seen_by_those_who_trust_the_key<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let (key, other_key) = (db.key("k", 1).await, db.key("other", 2).await);
    let mut brought = signed_claim(1, 1, "k:one");
    brought.signatures.insert("private:x".to_owned());
    brought.cache = Some("https://cache.example.org".to_owned());
    brought.origin = Origin::Substituted;
    db.record_signed(alice, &brought, key).await;

    let trusting = policy(bob, &[other_key, key], &[]);
    // Neither deriver nor other signatures nor where it is from.
    let mut seen = fact(&brought);
    seen.signatures = texts(&["k:one"]);
    assert_eq!(
        db.seen(&trusting, &path(1)).await,
        [(Witness::Key(key), seen.clone())]
    );
    assert_eq!(db.seen(&policy(bob, &[other_key], &[]), &path(1)).await, []);
    assert_eq!(db.seen(&alone(bob), &path(1)).await, []);
    assert_eq!(
        db.seen(&policy(alice, &[key], &[]), &path(1)).await,
        [(Witness::Own, brought), (Witness::Key(key), seen)]
    );
    // By name only.
    let hash = path(1).hash_part().to_owned();
    assert_eq!(
        db.paths_by_hash_part(&trusting, &hash).await.unwrap(),
        BTreeSet::from([path(1)])
    );
    assert!(
        db.paths_by_hash_part(&alone(bob), &hash)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(db.paths(&trusting).await.unwrap().is_empty());
    assert!(db.derivers(&trusting, &path(1)).await.unwrap().is_empty());
    assert!(db.referrers(&trusting, &path(1)).await.unwrap().is_empty());
}

pub async fn what_is_not_shared<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let key = db.key("k", 1).await;
    db.private(carol, true).await;
    let mut built = signed_claim(1, 1, "k:1");
    built.origin = Origin::Built;
    let mut with_login = signed_claim(2, 2, "k:2");
    with_login.origin = Origin::Substituted;
    with_login.shareable = false;
    let of_private = signed_claim(3, 3, "k:3");
    db.record_signed(alice, &built, key).await;
    db.record_signed(alice, &with_login, key).await;
    db.record_signed(carol, &of_private, key).await;
    for (brought, by) in [(&built, alice), (&with_login, alice), (&of_private, carol)] {
        let path = &brought.object.path;
        let bobs = policy(bob, &[key], &[]);
        assert_eq!(db.seen(&bobs, path).await, []);
        assert!(
            db.paths_by_hash_part(&bobs, path.hash_part())
                .await
                .unwrap()
                .is_empty()
        );
        let own = policy(by, &[key], &[]);
        let fact = (Witness::Key(key), fact(brought));
        assert_eq!(
            db.seen(&own, path).await,
            [(Witness::Own, brought.clone()), fact.clone()]
        );
        // Who has the same object without the signature is not told that somebody signed it.
        let mut same = brought.clone();
        same.signatures = texts(&[]);
        same.origin = Origin::Uploaded;
        let mut other = same.clone();
        other.object.content = content(99);
        db.record(bob, std::slice::from_ref(&other)).await.unwrap();
        assert_eq!(db.seen(&bobs, path).await, [(Witness::Own, other.clone())]);
        db.record(bob, std::slice::from_ref(&same)).await.unwrap();
        assert_eq!(
            db.seen(&bobs, path).await,
            [(Witness::Own, other.clone()), (Witness::Own, same.clone())]
        );
    }
    assert_eq!(
        db.contents().await.unwrap(),
        [1, 2, 3, 99].map(content).into_iter().collect()
    );
}

pub async fn privacy_takes_effect_at_once<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let key = db.key("k", 1).await;
    let bobs = policy(bob, &[key], &[]);
    let (one, two) = (signed_claim(1, 1, "k:1"), signed_claim(2, 2, "k:2"));
    db.record_signed(alice, &one, key).await;
    db.record_signed(alice, &two, key).await;
    db.record_signed(carol, &two, key).await;
    let sees = |n: u32| {
        let (db, bobs) = (db.clone(), bobs.clone());
        async move { !db.seen(&bobs, &path(n)).await.is_empty() }
    };
    assert!(sees(1).await && sees(2).await);
    db.private(alice, true).await;
    assert!(!sees(1).await && sees(2).await);
    db.private(carol, true).await;
    assert!(!sees(1).await && !sees(2).await);
    // The account itself still sees all.
    assert_eq!(db.seen(&policy(alice, &[key], &[]), &path(1)).await.len(), 2);
    // Giving no results has nothing to do with it.
    db.private(carol, false).await;
    let gives = firn_service::ports::Gives {
        results: false,
        ..crate::sample::GIVES
    };
    db.set_account(carol, "share-builds", Some("0"), gives)
        .await
        .unwrap();
    assert!(!sees(1).await && sees(2).await);
    db.private(alice, false).await;
    assert!(sees(1).await && sees(2).await);
}

pub async fn forgetting_takes_what_was_ones_own<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let key = db.key("k", 1).await;
    let bobs = policy(bob, &[key], &[]);
    let claims: Vec<_> = (1..=4).map(|n| signed_claim(n, n, &format!("k:{n}"))).collect();
    for claim in &claims {
        db.record_signed(alice, claim, key).await;
    }
    db.record_signed(carol, &claims[1], key).await;
    // The same object without the signature shares nothing.
    let mut plain = claims[2].clone();
    plain.signatures = texts(&["other:3"]);
    db.record(carol, &[plain]).await.unwrap();
    let mut built = claims[0].clone();
    built.origin = Origin::Built;
    built.signatures = texts(&[]);
    db.record(alice, &[built]).await.unwrap();

    assert_eq!(db.forget(bob, &[path(1), path(2)]).await.unwrap(), 0);
    assert_eq!(db.forget(alice, &[]).await.unwrap(), 0);
    let some = [path(1), path(2), path(3), path(3), path(9)];
    assert_eq!(db.forget(alice, &some).await.unwrap(), 4);
    assert_eq!(db.paths(&alone(alice)).await.unwrap(), BTreeSet::from([path(4)]));
    assert_eq!(db.seen(&policy(alice, &[key], &[]), &path(1)).await, []);
    assert_eq!(db.seen(&bobs, &path(1)).await, []);
    assert_eq!(
        db.seen(&bobs, &path(2)).await,
        [(Witness::Key(key), fact(&claims[1]))]
    );
    assert_eq!(db.seen(&bobs, &path(3)).await, []);
    assert_eq!(db.seen(&policy(carol, &[key], &[]), &path(3)).await.len(), 1);
    assert_eq!(
        db.contents().await.unwrap(),
        [2, 3, 4].map(content).into_iter().collect()
    );
    // It can come back.
    db.record_signed(alice, &claims[0], key).await;
    assert_eq!(db.seen(&bobs, &path(1)).await.len(), 1);
}

pub async fn removal_leaves_what_was_shared<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let key = db.key("k", 1).await;
    let bobs = policy(bob, &[key], &[]);
    let shared = signed_claim(1, 1, "k:1");
    let mut with_login = signed_claim(2, 2, "k:2");
    with_login.shareable = false;
    let of_private = signed_claim(3, 3, "k:3");
    db.record_signed(alice, &shared, key).await;
    db.record_signed(carol, &shared, key).await;
    db.record_signed(alice, &with_login, key).await;
    db.private(carol, true).await;
    db.record_signed(carol, &of_private, key).await;
    for account in ["alice", "carol"] {
        db.remove_account(&name(account)).await.unwrap();
        assert_eq!(
            db.seen(&bobs, &path(1)).await,
            [(Witness::Key(key), fact(&shared))]
        );
    }
    assert_eq!(db.contents().await.unwrap(), BTreeSet::from([content(1)]));
    // Nothing is left of what was not shared, even for those who show the object.
    for claim in [&with_login, &of_private] {
        let mut plain = claim.clone();
        plain.signatures = texts(&[]);
        db.record(bob, std::slice::from_ref(&plain)).await.unwrap();
        assert_eq!(
            db.seen(&bobs, &plain.object.path).await,
            [(Witness::Own, plain.clone())]
        );
    }
    // Those who had it too cannot take it away.
    db.record_signed(bob, &shared, key).await;
    assert_eq!(db.forget(bob, &[path(1)]).await.unwrap(), 1);
    db.private(bob, true).await;
    assert_eq!(db.seen(&bobs, &path(1)).await.len(), 1);
}

pub async fn in_the_order_of_becoming_visible<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let key = db.key("k", 1).await;
    let contents = |seen: Vec<(Witness, firn_core::Claim)>| -> Vec<_> {
        seen.into_iter().map(|(_, c)| c.object.content).collect()
    };
    let bobs = policy(bob, &[key], &[]);
    db.private(alice, true).await;
    // Alice's objects have the smaller numbers.
    db.record_signed(alice, &signed_claim(1, 1, "k:1"), key).await;
    db.record_signed(alice, &signed_claim(1, 2, "k:2"), key).await;
    db.record_signed(carol, &signed_claim(1, 3, "k:3"), key).await;
    db.record_signed(carol, &signed_claim(1, 2, "k:2"), key).await;
    db.record_signed(carol, &signed_claim(1, 3, "k:3"), key).await;
    assert_eq!(contents(db.seen(&bobs, &path(1)).await), [3, 2].map(content));
    db.private(alice, false).await;
    assert_eq!(contents(db.seen(&bobs, &path(1)).await), [3, 2, 1].map(content));
    db.private(carol, true).await;
    assert_eq!(contents(db.seen(&bobs, &path(1)).await), [2, 1].map(content));
    db.private(carol, false).await;
    assert_eq!(contents(db.seen(&bobs, &path(1)).await), [2, 1, 3].map(content));
}

pub async fn others_see_when_sharers_had_it<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let key = db.key("k", 1).await;
    let bobs = policy(bob, &[key], &[]);
    let at = |p: u32, c: u32, registered: u64| {
        let mut claim = signed_claim(p, c, &format!("k:{c}"));
        claim.registered = registered;
        claim
    };
    let seen = |p: u32| {
        let (db, bobs) = (db.clone(), bobs.clone());
        async move {
            let seen = db.seen(&bobs, &path(p)).await;
            let shown = seen.into_iter().map(|(_, c)| (c.object.content, c.registered));
            shown.collect::<Vec<_>>()
        }
    };
    db.private(alice, true).await;
    db.private(carol, true).await;
    // Carol keeps to herself what she had before Alice; both orders, since one of them is that of the numbers.
    for (first, second) in [(1, 2), (2, 1)] {
        db.record_signed(carol, &at(first, 11, 5), key).await;
        db.record_signed(alice, &at(first, 12, 10), key).await;
        db.record_signed(carol, &at(first, 12, 6), key).await;
        db.record_signed(alice, &at(first, 11, 20), key).await;
        db.record_signed(carol, &at(second, 12, 7), key).await;
    }
    db.private(alice, false).await;
    let shown = vec![(content(12), 10), (content(11), 20)];
    assert_eq!(seen(1).await, shown);
    assert_eq!(seen(2).await, shown);
    // It stays so when others share it too, and when those who did do not any more.
    db.private(carol, false).await;
    assert_eq!(seen(1).await, shown);
    db.private(alice, true).await;
    assert_eq!(seen(1).await, shown);
    // A signature that comes later to what an account has is as old as that.
    let mut plain = at(3, 31, 30);
    plain.signatures = texts(&[]);
    db.record(carol, &[plain]).await.unwrap();
    db.record_signed(carol, &at(3, 31, 40), key).await;
    assert_eq!(seen(3).await, [(content(31), 30)]);
}

pub async fn two_signatures_of_one_key<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    let key = db.key("k", 1).await;
    let bobs = policy(bob, &[key, key], &[]);
    let (first, second) = (signed_claim(1, 1, "k:first"), signed_claim(1, 1, "k:second"));
    db.record_signed(alice, &first, key).await;
    db.record_signed(carol, &second, key).await;
    assert_eq!(
        db.seen(&bobs, &path(1)).await,
        [(Witness::Key(key), fact(&first))]
    );
    db.forget(alice, &[path(1)]).await.unwrap();
    assert_eq!(
        db.seen(&bobs, &path(1)).await,
        [(Witness::Key(key), fact(&second))]
    );
}

pub async fn signatures_are_compared_whole<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let key = db.key("k", 1).await;
    let signatures = [
        "k\"\\é,:a",
        "k:1",
        "k:12",
        "x\"k:2",
        "k:2",
        ",k:3",
        "k:3",
        "k%:_",
        "k%:x",
    ];
    let all = |but: &str| {
        let mut claim = signed_claim(1, 1, "z:z");
        claim.signatures = signatures
            .iter()
            .filter(|s| **s != but)
            .map(|s| (*s).to_owned())
            .collect();
        claim
    };
    for signature in signatures {
        db.record_signed(alice, &signed_claim(1, 1, signature), key).await;
        let others = all(signature);
        db.record(bob, &[others]).await.unwrap();
        db.forget(alice, &[path(1)]).await.unwrap();
        assert_eq!(
            db.seen(&policy(bob, &[key], &[]), &path(1)).await.len(),
            1,
            "{signature}"
        );
        db.record_signed(alice, &signed_claim(1, 1, signature), key).await;
        db.record(bob, &[all("")]).await.unwrap();
        db.forget(alice, &[path(1)]).await.unwrap();
        assert_eq!(
            db.seen(&policy(bob, &[key], &[]), &path(1)).await.len(),
            2,
            "{signature}"
        );
        db.forget(bob, &[path(1)]).await.unwrap();
    }
}

pub async fn a_claim_that_becomes_shareable_shares<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let key = db.key("k", 1).await;
    let bobs = policy(bob, &[key], &[]);
    let mut with_login = signed_claim(1, 1, "k:1");
    with_login.shareable = false;
    db.record_signed(alice, &with_login, key).await;
    assert_eq!(db.seen(&bobs, &path(1)).await, []);
    let mut open = with_login.clone();
    open.shareable = true;
    open.signatures = texts(&[]);
    db.record(alice, &[open]).await.unwrap();
    assert_eq!(
        db.seen(&bobs, &path(1)).await,
        [(Witness::Key(key), fact(&with_login))]
    );
}

pub async fn open_signatures_are_proven_later<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    db.private(carol, true).await;
    let claims: Vec<_> = (0..30).map(|n| signed_claim(n, n, &format!("k:{n}"))).collect();
    let proofs: Vec<_> = (0..30).map(|n| proof(n, &claims[n], None)).collect();
    db.record_claims(alice, &claims, &proofs, KeyId(0)).await.unwrap();
    db.record_claims(alice, &claims, &proofs, KeyId(0)).await.unwrap();
    let privately = signed_claim(50, 50, "k:50");
    let other_name = signed_claim(51, 51, "kk:51");
    for (account, claim) in [(carol, &privately), (alice, &other_name)] {
        let proofs = [proof(0, claim, None)];
        db.record_claims(account, std::slice::from_ref(claim), &proofs, KeyId(0))
            .await
            .unwrap();
    }
    // Forgotten before anybody could look.
    db.forget(alice, &[path(3)]).await.unwrap();

    let key = db
        .register_key(KeyFor::Operator, &public_key("k", 1))
        .await
        .unwrap()
        .0;
    let open = still_open(&db, "k").await;
    assert!(open.is_sorted_by_key(|o| o.id));
    let expected: Vec<_> = claims
        .iter()
        .enumerate()
        .filter(|(n, _)| *n != 3)
        .map(|(_, c)| c)
        .chain([&privately])
        .collect();
    assert_eq!(open.len(), expected.len());
    for (open, claim) in open.iter().zip(&expected) {
        assert_eq!(open.object, claim.object);
        assert_eq!(Some(&open.signature), claim.signatures.first());
    }
    let bobs = policy(bob, &[key], &[]);
    assert_eq!(db.seen(&bobs, &path(1)).await, []);
    // All but the last but one are right; an object's number that does not belong to the signature proves nothing.
    let mut proven: Vec<_> = open.iter().map(|o| (o.id, o.object_id)).collect();
    let wrong = proven.len() - 2;
    proven[wrong].1 = proven[0].1;
    db.prove(key, &proven).await.unwrap();
    db.prove(key, &proven).await.unwrap();
    db.prove(key, &[]).await.unwrap();
    db.settle_key(key).await.unwrap();
    for claim in &claims[..29] {
        let expected: &[_] = match claim.object.path == path(3) {
            true => &[],
            false => &[(Witness::Key(key), fact(claim))],
        };
        assert_eq!(db.seen(&bobs, &claim.object.path).await, expected);
    }
    assert_eq!(db.seen(&bobs, &path(29)).await, []);
    assert_eq!(db.seen(&bobs, &path(50)).await, []);
    assert_eq!(db.seen(&policy(carol, &[key], &[]), &path(50)).await.len(), 2);
    let left = still_open(&db, "k").await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].object.path, path(29));
    // A signature of another name is not the key's, whatever is said.
    let other = &still_open(&db, "kk").await[0];
    db.prove(key, &[(other.id, other.object_id)]).await.unwrap();
    assert_eq!(db.seen(&bobs, &path(51)).await, []);
    // What nobody has any more is not open.
    db.remove_account(&name("alice")).await.unwrap();
    for name in ["k", "kk"] {
        assert!(still_open(&db, name).await.is_empty());
    }
}

/// All open signatures of a name, account by account.
async fn still_open<D: Database>(db: &D, name: &str) -> Vec<OpenSignature> {
    let mut open = Vec::new();
    for account in db.open_signers(name).await.unwrap() {
        let mut after = 0;
        loop {
            let some = db.open_signatures(name, account, after, 7).await.unwrap();
            assert!(some.len() <= 7);
            let Some(last) = some.last() else { break };
            after = last.id;
            open.extend(some);
        }
    }
    open
}

pub async fn open_signatures_are_their_bringers<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let claims: Vec<_> = (0..10).map(|n| signed_claim(n, n, &format!("k:{n}"))).collect();
    let proofs: Vec<_> = (0..10).map(|n| proof(n, &claims[n], None)).collect();
    db.record_claims(alice, &claims[..5], &proofs[..5], KeyId(0))
        .await
        .unwrap();
    // What alice had before is hers, bob's are the others.
    db.record_claims(bob, &claims, &proofs, KeyId(0)).await.unwrap();
    assert_eq!(db.open_signers("k").await.unwrap(), [alice, bob]);
    assert!(db.open_signers("j").await.unwrap().is_empty());
    for (account, expected) in [(alice, &claims[..5]), (bob, &claims[5..])] {
        let open = db.open_signatures("k", account, 0, 100).await.unwrap();
        let objects: Vec<_> = open.iter().map(|o| &o.object).collect();
        assert_eq!(objects, expected.iter().map(|c| &c.object).collect::<Vec<_>>());
    }
    // What bob has, too, stays without alice.
    db.remove_account(&name("alice")).await.unwrap();
    assert_eq!(db.open_signers("k").await.unwrap(), [AccountId(0), bob]);
    assert_eq!(still_open(&db, "k").await.len(), 10);
}

pub async fn a_claim_has_room_for_so_many_signatures<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let signed = |from: usize| {
        let mut claim = signed_claim(1, 1, "k:first");
        claim
            .signatures
            .extend((from..from + 50).map(|n| format!("k:{n:04}")));
        claim
    };
    let proofs = |claim: &Claim| -> Vec<Proof> {
        let signatures = claim.signatures.iter();
        let proofs = signatures.map(|signature| Proof {
            claim: 0,
            signature: signature.clone(),
            key_name: "k".to_owned(),
            key: None,
        });
        proofs.collect()
    };
    for round in 0..5 {
        let claim = signed(round * 50);
        let proofs = proofs(&claim);
        db.record_claims(alice, &[claim], &proofs, KeyId(0))
            .await
            .unwrap();
    }
    let seen = db.evidence(&policy(alice, &[], &[]), &[path(1)]).await.unwrap();
    let kept = &seen[0].claim.signatures;
    assert_eq!(kept.len(), MAX_SIGNATURES);
    assert!(signed(0).signatures.is_subset(kept), "those that were there stay");
    assert_eq!(
        still_open(&db, "k").await.len(),
        MAX_SIGNATURES,
        "what is dropped is not open"
    );
}

pub async fn newer_keys_are_noticed<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let first = db.key("a", 1).await;
    let claim = signed_claim(1, 1, "k:1");
    let open = [proof(0, &claim, None)];
    let claims = [claim];
    db.record_claims(alice, &claims, &open, first).await.unwrap();
    let second = db.key("k", 2).await;
    let again = [signed_claim(2, 2, "k:1")];
    let late = db.record_claims(alice, &again, &open, first).await;
    assert!(matches!(late, Err(DatabaseError::KeysChanged)));
    assert_eq!(db.claims(alice, &[path(2)]).await.unwrap(), []);
    db.record_claims(alice, &again, &open, second).await.unwrap();
    // Without proofs there is nothing to make again.
    db.record(alice, &[signed_claim(3, 3, "k:1")]).await.unwrap();
    let nowhere = [proof(1, &again[0], None)];
    let error = db.record_claims(alice, &again, &nowhere, second).await;
    assert!(matches!(error, Err(DatabaseError::Backend(_))));
}

pub async fn many_signatures<D: Database>(Bench { db, .. }: Bench<D>) {
    const MANY: u32 = 5_000;
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let key = db.key("k", 1).await;
    let claims: Vec<_> = (0..MANY).map(|n| signed_claim(n, n, &format!("k:{n}"))).collect();
    let proofs: Vec<_> = claims
        .iter()
        .enumerate()
        .map(|(n, c)| proof(n, c, Some(key)))
        .collect();
    for account in [alice, alice] {
        db.record_claims(account, &claims, &proofs, key).await.unwrap();
    }
    let paths: Vec<_> = (0..MANY).map(path).collect();
    let bobs = policy(bob, &[key], &[]);
    for (gives, visible) in [(KEEPS, 0), (crate::sample::GIVES, claims.len())] {
        db.set_account(alice, "private", None, gives).await.unwrap();
        let seen = db.evidence(&bobs, &paths).await.unwrap();
        assert_eq!(seen.len(), visible);
        assert!(seen.iter().zip(&claims).all(|(e, c)| e.claim == fact(c)));
    }
    db.forget(alice, &paths).await.unwrap();
    assert_eq!(db.evidence(&bobs, &paths).await.unwrap(), []);
}

pub async fn who_kept_it_to_itself_shows_nobody_when<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let reader = account(&db, "reader").await;
    let key = db.key("k", 1).await;
    db.set_account(alice, "private", Some("1"), KEEPS).await.unwrap();
    let mut early = signed_claim(1, 1, "k:1");
    early.registered = 10;
    let mut late = early.clone();
    late.registered = 20;
    db.record_signed(alice, &early, key).await;
    db.record_signed(bob, &late, key).await;
    let seen = db.seen(&policy(reader, &[key], &[]), &early.object.path).await;
    let times: Vec<u64> = seen.iter().map(|(_, claim)| claim.registered).collect();
    assert_eq!(times, [20]);
}
