//! What an account was told on the word of others.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{AccountId, Evidence, ObjectId, Origin, Policy, Trust, Witness};
use firn_nix::StorePath;
use firn_service::ports::{Database, DatabaseError};

use crate::backend::Bench;
use crate::realisations::{id, says};
use crate::sample::{Short as _, account, alone, claim, name, path, policy, signed_claim};

/// Objects for which something could be taken back.
async fn loose(db: &impl Database, policy: &Policy, paths: &[StorePath]) -> BTreeMap<StorePath, ObjectId> {
    let found = db.evidence(policy, paths).await.unwrap();
    let loose = found.into_iter().filter(|e| !e.kept);
    loose.map(|e| (e.claim.object.path, e.id)).collect()
}

/// Tells all of it. How many objects there were.
async fn tell(db: &impl Database, policy: &Policy, paths: &[StorePath]) -> usize {
    let loose = loose(db, policy, paths).await;
    let told = db.tell(policy, &loose).await.unwrap();
    assert_eq!(told, loose.values().copied().collect::<BTreeSet<_>>());
    told.len()
}

/// Without whether it is kept. What an account says now and what it said when it was told are two pieces of evidence, which are one if
/// they say the same; whether it was shareable is asked of one's own only.
async fn seen(db: &impl Database, policy: &Policy, p: u32) -> Vec<Evidence> {
    let mut all = db.evidence(policy, &[path(p)]).await.unwrap();
    for evidence in &mut all {
        evidence.kept = true;
        if matches!(evidence.witness, Witness::Account(_)) {
            evidence.claim.shareable = false;
        }
    }
    all.dedup();
    all
}

fn trusting(account: AccountId, other: AccountId, trust: Trust) -> Policy {
    policy(account, &[], &[(other, trust)])
}

/// A policy of one that still trusts, and that the other lets read no more.
fn still(policy: &Policy) -> Policy {
    Policy {
        accounts: Vec::new(),
        ..policy.clone()
    }
}

pub async fn signatures_stay<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let key = db.key("k", 1).await;
    let hers = policy(alice, &[key], &[]);
    let (one, two) = (signed_claim(1, 1, "k:one"), signed_claim(2, 2, "k:two"));
    for claim in [&one, &two] {
        db.record_signed(bob, claim, key).await;
    }
    let before = seen(&db, &hers, 1).await;
    assert_eq!(before.len(), 1);
    assert_eq!(tell(&db, &hers, &[path(1)]).await, 1);
    assert_eq!(tell(&db, &hers, &[path(1)]).await, 0, "once");
    assert_eq!(seen(&db, &hers, 1).await, before);

    assert_eq!(db.forget(bob, &[path(1), path(2)]).await.unwrap(), 2);
    assert_eq!(seen(&db, &hers, 1).await, before);
    assert_eq!(seen(&db, &hers, 2).await, []);
    assert_eq!(
        db.paths_by_hash_part(&hers, path(1).hash_part()).await.unwrap(),
        [path(1)].into()
    );
    assert_eq!(db.contents().await.unwrap(), [one.object.content].into());
    // It is hers: another account, and she without the key, see nothing.
    assert_eq!(seen(&db, &policy(bob, &[key], &[]), 1).await, []);
    assert_eq!(seen(&db, &alone(alice), 1).await, []);
    // Brought again, it is as old as it was.
    db.record_signed(bob, &two, key).await;
    db.record_signed(bob, &one, key).await;
    assert_eq!(seen(&db, &hers, 1).await, before);
    assert_eq!(tell(&db, &hers, &[path(1)]).await, 0);
    // And hers to forget.
    db.forget(bob, &[path(1)]).await.unwrap();
    let epoch = db.epoch().await.unwrap();
    assert_eq!(db.forget(alice, &[path(1)]).await.unwrap(), 1);
    assert!(db.epoch().await.unwrap() > epoch);
    assert_eq!(seen(&db, &hers, 1).await, []);
    assert!(!db.contents().await.unwrap().contains(&one.object.content));
}

pub async fn what_is_ones_own_is_not_told<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let key = db.key("k", 1).await;
    let hers = policy(alice, &[key], &[]);
    let one = signed_claim(1, 1, "k:one");
    for account in [bob, alice] {
        db.record_signed(account, &one, key).await;
    }
    // She shares it herself.
    assert_eq!(loose(&db, &hers, &[path(1)]).await, BTreeMap::new());
    // She does not, and so it is his.
    db.private(alice, true).await;
    assert_eq!(tell(&db, &hers, &[path(1)]).await, 1);
    let before = seen(&db, &hers, 1).await;
    db.private(bob, true).await;
    assert_eq!(seen(&db, &hers, 1).await, before);
    // A signature that stays for everybody needs nothing.
    db.private(bob, false).await;
    let carol = account(&db, "carol").await;
    db.remove_account(&name("bob")).await.unwrap();
    assert_eq!(
        loose(&db, &policy(carol, &[key], &[]), &[path(1)]).await,
        BTreeMap::new()
    );
}

pub async fn words_of_accounts_stay<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let mut built = claim(1, 1);
    built.origin = Origin::Built;
    db.record(bob, &[built.clone(), claim(2, 2), claim(3, 3)])
        .await
        .unwrap();
    let uploads = trusting(alice, bob, Trust::Uploads);
    assert_eq!(tell(&db, &uploads, &[path(1), path(2)]).await, 2);
    let before = [seen(&db, &uploads, 1).await, seen(&db, &uploads, 2).await];
    db.forget(bob, &[path(1), path(2), path(3)]).await.unwrap();
    assert_eq!(
        [seen(&db, &uploads, 1).await, seen(&db, &uploads, 2).await],
        before
    );
    assert_eq!(seen(&db, &uploads, 3).await, []);
    // He lets nobody read; what counts is how far she trusts.
    let both = still(&uploads);
    assert_eq!([seen(&db, &both, 1).await, seen(&db, &both, 2).await], before);
    let builds = still(&trusting(alice, bob, Trust::Builds));
    assert_eq!(seen(&db, &builds, 1).await, before[0]);
    assert_eq!(seen(&db, &builds, 2).await, []);
    assert_eq!(seen(&db, &alone(alice), 1).await, []);
    // They are listed as his are.
    assert_eq!(db.paths(&both).await.unwrap(), [path(1), path(2)].into());
    assert_eq!(db.paths(&builds).await.unwrap(), [path(1)].into());
    assert_eq!(
        db.derivers(&both, &path(1)).await.unwrap(),
        built.deriver.clone().into_iter().collect()
    );
    let below = built.object.references.iter().find(|r| **r != path(1));
    if let Some(below) = below {
        assert!(db.referrers(&both, below).await.unwrap().contains(&path(1)));
    }
    // What he says again may tell more.
    let mut again = built.clone();
    again.signatures = ["k:more".to_owned()].into();
    db.record(bob, &[again]).await.unwrap();
    let now = seen(&db, &uploads, 1).await;
    assert!(
        now.iter().any(|e| e.claim.signatures.contains("k:more")),
        "{now:#?}"
    );
    assert_eq!(loose(&db, &uploads, &[path(1)]).await, BTreeMap::new());
}

pub async fn trust_outlives_who_was_trusted<D: Database>(Bench { db, .. }: Bench<D>) {
    let [alice, bob, carol] = [
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    ];
    for other in [carol, bob] {
        db.trust(alice, other, Some(Trust::Uploads)).await.unwrap();
        db.let_read(other, alice, Some(Trust::Builds)).await.unwrap();
    }
    let stored = async || db.stored(alice, None).await.unwrap();
    let uploads = [(carol, Trust::Uploads), (bob, Trust::Uploads)];
    assert_eq!(stored().await.trusted, uploads);
    assert_eq!(
        stored().await.accounts,
        [(carol, Trust::Builds), (bob, Trust::Builds)]
    );
    db.private(bob, true).await;
    assert_eq!(stored().await.trusted, uploads);
    assert_eq!(stored().await.accounts, [(carol, Trust::Builds)]);
    db.private(bob, false).await;
    let mut built = claim(1, 1);
    built.origin = Origin::Built;
    db.record(bob, &[built]).await.unwrap();
    let hers = trusting(alice, bob, Trust::Builds);
    assert_eq!(tell(&db, &hers, &[path(1)]).await, 1);
    let before = seen(&db, &hers, 1).await;
    assert_eq!(before[0].witness, Witness::Account(bob));
    for name_of in ["bob", "carol"] {
        db.remove_account(&name(name_of)).await.unwrap();
    }
    // Carol told her nothing.
    assert_eq!(stored().await.trusted, [(bob, Trust::Uploads)]);
    assert_eq!(stored().await.accounts, []);
    assert_eq!(db.relations(alice).await.unwrap(), []);
    assert_eq!(seen(&db, &still(&hers), 1).await, before);
    // Whoever is removed was told nothing either.
    db.remove_account(&name("alice")).await.unwrap();
    assert_eq!(seen(&db, &still(&hers), 1).await, []);
    assert!(db.contents().await.unwrap().is_empty());
    let gone = db
        .tell(&hers, &before.iter().map(|e| (path(1), e.id)).collect())
        .await;
    assert!(matches!(gone, Err(DatabaseError::NoAccount(_))), "{gone:?}");
}

pub async fn what_is_gone_cannot_be_told<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let key = db.key("k", 1).await;
    let hers = policy(alice, &[key], &[(bob, Trust::Uploads)]);
    let one = signed_claim(1, 1, "k:one");
    db.record_signed(bob, &one, key).await;
    let loose = loose(&db, &hers, &[path(1)]).await;
    db.forget(bob, &[path(1)]).await.unwrap();
    assert_eq!(db.tell(&hers, &loose).await.unwrap(), BTreeSet::new());
    assert_eq!(seen(&db, &hers, 1).await, []);
    assert_eq!(db.tell(&hers, &BTreeMap::new()).await.unwrap(), BTreeSet::new());
}

pub async fn many_are_told_at_once<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let claims: Vec<_> = (0..3000).map(|n| claim(n, n)).collect();
    db.record(bob, &claims).await.unwrap();
    let hers = trusting(alice, bob, Trust::Uploads);
    let paths: Vec<StorePath> = (0..3000).map(path).collect();
    assert_eq!(tell(&db, &hers, &paths).await, 3000);
    db.remove_account(&name("bob")).await.unwrap();
    assert_eq!(db.evidence(&still(&hers), &paths).await.unwrap().len(), 3000);
}

pub async fn realisations_stay<D: Database>(Bench { db, .. }: Bench<D>) {
    let [alice, bob, eve] = [
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "eve").await,
    ];
    let key = db.key("key-1", 1).await;
    let hers = policy(alice, &[key], &[(bob, Trust::Uploads)]);
    db.record_realisations(bob, &[says(1, "out", 1, Origin::Built, &[])])
        .await
        .unwrap();
    db.record_realisations(eve, &[says(1, "out", 2, Origin::Uploaded, &[1])])
        .await
        .unwrap();
    let asked = [id(1, "out")];
    let found = async |policy: &Policy| {
        let found = db.realisations(policy, &asked).await.unwrap();
        let row = |e: &firn_core::RealisationEvidence| (e.account, e.claim.clone());
        found.iter().map(row).collect::<Vec<_>>()
    };
    let before = db.realisations(&hers, &asked).await.unwrap();
    assert_eq!(before.len(), 2);
    assert!(before.iter().all(|e| !e.kept));
    for _ in 0..2 {
        db.tell_realisations(alice, &before).await.unwrap();
    }
    db.private(bob, true).await;
    // Somebody says something else.
    db.record_realisations(eve, &[says(1, "out", 3, Origin::Uploaded, &[1])])
        .await
        .unwrap();
    db.remove_account(&name("eve")).await.unwrap();
    let now = found(&still(&hers)).await;
    assert_eq!(now.len(), 2, "{now:#?}");
    for evidence in &before {
        assert!(now.contains(&(evidence.account, evidence.claim.clone())));
    }
    // As far as she believes who said it.
    assert_eq!(found(&alone(alice)).await, []);
    let bobs = trusting(alice, bob, Trust::Builds);
    assert_eq!(found(&still(&bobs)).await.len(), 1);
    let keys = policy(alice, &[key], &[]);
    assert_eq!(found(&keys).await.len(), 1);
    assert_eq!(db.forget(alice, &[path(1), path(2)]).await.unwrap(), 2);
    assert_eq!(found(&still(&hers)).await, []);
}
