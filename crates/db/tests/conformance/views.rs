//! Evidence of one account.

use std::collections::BTreeSet;

use firn_core::{BuildId, Claim, Origin};
use firn_nix::StorePath;
use firn_nix::rewrite::SelfReferences;
use firn_service::ports::{Database, DatabaseError};

use crate::backend::Bench;
use crate::sample::{Short as _, account, alone, build, ca, claim, content, named_path, path, texts};

pub async fn claim_round_trip<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let plain = Claim {
        object: firn_core::Object {
            path: path(2),
            content: content(2),
            nar_size: u64::try_from(i64::MAX).unwrap(),
            references: BTreeSet::new(),
            ca: Some(ca()),
            self_references: None,
        },
        origin: Origin::Substituted,
        deriver: None,
        signatures: BTreeSet::new(),
        registered: 0,
        cache: Some("https://cache.example.org/sub".to_owned()),
        shareable: false,
    };
    let recorded = [claim(1, 1), plain];
    db.record(alice, &recorded).await.unwrap();
    assert_eq!(db.claims(alice, &[path(2), path(1)]).await.unwrap(), recorded);
    assert_eq!(db.claims(alice, &[path(1)]).await.unwrap(), recorded[..1]);
    assert_eq!(db.claims(alice, &[path(3)]).await.unwrap(), []);
}

pub async fn oldest_first<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let claims = [claim(9, 3), claim(1, 2), claim(9, 1), claim(4, 4), claim(9, 2)];
    db.record(alice, &claims[..2]).await.unwrap();
    db.record(alice, &claims[2..]).await.unwrap();
    // Saying it again does not make it younger or older.
    db.record(alice, &[claim(9, 2), claim(9, 3)]).await.unwrap();
    let asked = [path(4), path(1), path(9), path(1)];
    assert_eq!(db.claims(alice, &asked).await.unwrap(), claims);
}

pub async fn recording_again_unites_signatures<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    db.record(alice, &[claim(1, 1)]).await.unwrap();
    let mut again = claim(1, 1);
    again.signatures = texts(&["b:2", "a:1"]);
    again.registered = 9_999;
    again.deriver = None;
    db.record(alice, &[again.clone()]).await.unwrap();
    db.record(alice, &[again]).await.unwrap();
    let mut expected = claim(1, 1);
    expected.signatures = texts(&["a:1", "b:2", "cache-1:1"]);
    assert_eq!(db.claims(alice, &[path(1)]).await.unwrap(), [expected]);
}

pub async fn kinds_and_contents_are_separate<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut built = claim(1, 1);
    built.origin = Origin::Built;
    let mut other_references = claim(1, 1);
    other_references.object.references.clear();
    let mut checked = claim(1, 1);
    checked.object.ca = Some(ca());
    let in_form = |form| {
        let mut claim = claim(1, 1);
        (claim.object.ca, claim.object.self_references) = (Some(ca()), Some(form));
        claim
    };
    let mut other_size = claim(1, 1);
    other_size.object.nar_size += 1;
    let mut fetched = claim(1, 1);
    fetched.origin = Origin::Substituted;
    let claims = [
        claim(1, 1),
        built,
        fetched,
        claim(1, 2),
        other_references,
        checked,
        in_form(SelfReferences::Placed),
        in_form(SelfReferences::Unplaced),
        other_size,
    ];
    for c in &claims {
        db.record(alice, std::slice::from_ref(c)).await.unwrap();
    }
    assert_eq!(db.claims(alice, &[path(1)]).await.unwrap(), claims);
}

pub async fn within_one_batch<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut again = claim(1, 1);
    again.signatures = texts(&["b:2"]);
    again.registered = 9_999;
    db.record(alice, &[claim(1, 1), claim(2, 2), again])
        .await
        .unwrap();
    let mut expected = claim(1, 1);
    expected.signatures = texts(&["b:2", "cache-1:1"]);
    assert_eq!(
        db.claims(alice, &[path(1), path(2)]).await.unwrap(),
        [expected, claim(2, 2)]
    );
}

pub async fn many_at_once<D: Database>(Bench { db, .. }: Bench<D>) {
    // More than SQLite can bind one by one, so that any list that is not cut shows.
    const MANY: u32 = 35_000;
    let alice = account(&db, "alice").await;
    let claims: Vec<Claim> = (0..MANY)
        .map(|n| {
            let mut claim = claim(n, n);
            claim.object.references.clear();
            claim
        })
        .collect();
    db.record(alice, &claims).await.unwrap();
    db.record(alice, &claims).await.unwrap();
    let paths: Vec<StorePath> = (0..MANY + 10).rev().map(path).collect();
    assert!(db.claims(alice, &paths).await.unwrap() == claims);
    assert_eq!(db.paths(&alone(alice)).await.unwrap().len(), claims.len());
}

pub async fn by_hash_part<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut same_hash = claim(1, 2);
    same_hash.object.path = named_path(1, "zzz");
    let claims = [claim(1, 1), claim(2, 2), same_hash.clone()];
    db.record(alice, &claims).await.unwrap();
    let hash = path(1).hash_part().to_owned();
    assert_eq!(
        db.paths_by_hash_part(&alone(alice), &hash).await.unwrap(),
        BTreeSet::from([path(1), same_hash.object.path])
    );
    let upper = hash.to_uppercase();
    let joker = "%".repeat(32);
    let nul = "\0".repeat(32);
    let more = format!("{hash}-thing_1");
    for none in ["", "-", &hash[..31], &more, &upper, &joker, &nul] {
        let found = db.paths_by_hash_part(&alone(alice), none).await.unwrap();
        assert!(found.is_empty(), "{none:?}");
    }
}

pub async fn referrers_are_exact<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    // claim(n) refers to n ..= n + 5.
    let mut other_name = claim(30, 30);
    other_name.object.references = BTreeSet::from([named_path(8, "thing_8-1.0.1")]);
    let mut claims: Vec<Claim> = (0..20).map(|n| claim(n, n)).collect();
    claims.push(other_name);
    claims.push(claim(8, 99));
    db.record(alice, &claims).await.unwrap();
    assert_eq!(
        db.referrers(&alone(alice), &path(8)).await.unwrap(),
        (3..=8).map(path).collect()
    );
    assert_eq!(
        db.referrers(&alone(alice), &named_path(8, "thing_8-1.0.1"))
            .await
            .unwrap(),
        BTreeSet::from([path(30)])
    );
    assert!(db.referrers(&alone(alice), &path(500)).await.unwrap().is_empty());
}

pub async fn paths_and_derivers<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut other_deriver = claim(1, 2);
    other_deriver.deriver = Some(named_path(77, "other.drv"));
    let mut no_deriver = claim(1, 3);
    no_deriver.deriver = None;
    db.record(alice, &[claim(1, 1), other_deriver, no_deriver, claim(2, 2)])
        .await
        .unwrap();
    assert_eq!(
        db.paths(&alone(alice)).await.unwrap(),
        BTreeSet::from([path(1), path(2)])
    );
    assert_eq!(
        db.derivers(&alone(alice), &path(1)).await.unwrap(),
        BTreeSet::from([named_path(1, "thing.drv"), named_path(77, "other.drv")])
    );
    assert!(db.derivers(&alone(alice), &path(3)).await.unwrap().is_empty());
}

pub async fn becomes_shareable<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut claims = [claim(1, 1), claim(2, 2)];
    claims[0].shareable = false;
    claims[0].cache = Some("https://cache.example.org".to_owned());
    claims[0].origin = Origin::Substituted;
    db.record(alice, &claims).await.unwrap();
    let mut again = claims.clone();
    again[0].shareable = true;
    again[0].cache = None;
    again[1].shareable = false;
    db.record(alice, &again).await.unwrap();
    claims[0].shareable = true;
    assert_eq!(db.claims(alice, &[path(1), path(2)]).await.unwrap(), claims);
}

pub async fn contents_are_those_spoken_of<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    assert!(db.contents().await.unwrap().is_empty());
    db.record(alice, &[claim(1, 1), claim(2, 1), claim(3, 2)])
        .await
        .unwrap();
    db.record(bob, &[claim(3, 3)]).await.unwrap();
    db.record_build(&build(1, 1, &[3, 4]), bob, false, false)
        .await
        .unwrap();
    assert_eq!(
        db.contents().await.unwrap(),
        [1, 2, 3, 4].map(content).into_iter().collect()
    );
    // What came out of a run stays, and so it does when the run answers nobody.
    db.forget_result(BuildId([1; 16])).await.unwrap();
    assert_eq!(db.contents().await.unwrap().len(), 4);
}

pub async fn nothing_asked<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    db.record(alice, &[]).await.unwrap();
    assert_eq!(db.claims(alice, &[]).await.unwrap(), []);
    assert!(db.paths(&alone(alice)).await.unwrap().is_empty());
}

pub async fn numbers_have_a_limit<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut large = claim(1, 1);
    large.object.nar_size = u64::MAX;
    let error = db.record(alice, &[claim(2, 2), large]).await.unwrap_err();
    assert!(matches!(&error, DatabaseError::Backend(_)), "{error}");
    assert!(error.to_string().contains("18446744073709551615"), "{error}");
    assert!(db.paths(&alone(alice)).await.unwrap().is_empty());
}

pub async fn batch_is_atomic<D: Database>(bench: Bench<D>) {
    let alice = account(&bench.db, "alice").await;
    // The last of many statements fails: this path is claimed already, in a way that cannot be read.
    bench.db.record(alice, &[claim(999, 1)]).await.unwrap();
    bench.execute("UPDATE claim SET signatures = '{'").await;
    let mut claims: Vec<Claim> = (0..600).map(|n| claim(n, n)).collect();
    claims.push(claim(999, 1));
    let error = bench.db.record(alice, &claims).await.unwrap_err();
    assert!(
        matches!(error, DatabaseError::Inconsistent { table: "claim", .. }),
        "{error}"
    );
    assert_eq!(
        bench.db.paths(&alone(alice)).await.unwrap(),
        BTreeSet::from([path(999)])
    );
    bench.db.record(alice, &claims[..600]).await.unwrap();
    assert_eq!(bench.db.paths(&alone(alice)).await.unwrap().len(), 601);
}
