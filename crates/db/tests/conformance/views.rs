//! Evidence of one account.

use std::collections::BTreeSet;

use firn_core::{Claim, EvidenceKind};
use firn_nix::StorePath;
use firn_service::ports::{Database, DatabaseError};

use crate::backend::Bench;
use crate::sample::{account, build, ca, claim, content, key, named_path, path, texts};

pub async fn claim_round_trip<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let plain = Claim {
        object: firn_core::Object {
            path: path(2),
            content: content(2),
            nar_size: u64::try_from(i64::MAX).unwrap(),
            references: BTreeSet::new(),
            ca: Some(ca()),
        },
        kind: EvidenceKind::ContentAddressed,
        deriver: None,
        signatures: BTreeSet::new(),
        registered: 0,
    };
    let recorded = [claim(1, 1), plain];
    db.record_claims(alice, &recorded).await.unwrap();
    assert_eq!(db.claims(alice, &[path(2), path(1)]).await.unwrap(), recorded);
    assert_eq!(db.claims(alice, &[path(1)]).await.unwrap(), recorded[..1]);
    assert_eq!(db.claims(alice, &[path(3)]).await.unwrap(), []);
}

pub async fn oldest_first<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let claims = [claim(9, 3), claim(1, 2), claim(9, 1), claim(4, 4), claim(9, 2)];
    db.record_claims(alice, &claims[..2]).await.unwrap();
    db.record_claims(alice, &claims[2..]).await.unwrap();
    // Saying it again does not make it younger or older.
    db.record_claims(alice, &[claim(9, 2), claim(9, 3)])
        .await
        .unwrap();
    let asked = [path(4), path(1), path(9), path(1)];
    assert_eq!(db.claims(alice, &asked).await.unwrap(), claims);
}

pub async fn recording_again_unites_signatures<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    db.record_claims(alice, &[claim(1, 1)]).await.unwrap();
    let mut again = claim(1, 1);
    again.signatures = texts(&["b:2", "a:1"]);
    again.registered = 9_999;
    again.deriver = None;
    db.record_claims(alice, &[again.clone()]).await.unwrap();
    db.record_claims(alice, &[again]).await.unwrap();
    let mut expected = claim(1, 1);
    expected.signatures = texts(&["a:1", "b:2", "cache-1:1"]);
    assert_eq!(db.claims(alice, &[path(1)]).await.unwrap(), [expected]);
}

pub async fn kinds_and_contents_are_separate<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut built = claim(1, 1);
    built.kind = EvidenceKind::Built;
    let mut other_references = claim(1, 1);
    other_references.object.references.clear();
    let mut checked = claim(1, 1);
    checked.object.ca = Some(ca());
    let mut other_size = claim(1, 1);
    other_size.object.nar_size += 1;
    let claims = [
        claim(1, 1),
        built,
        claim(1, 2),
        other_references,
        checked,
        other_size,
    ];
    for c in &claims {
        db.record_claims(alice, std::slice::from_ref(c)).await.unwrap();
    }
    assert_eq!(db.claims(alice, &[path(1)]).await.unwrap(), claims);
}

pub async fn within_one_batch<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut again = claim(1, 1);
    again.signatures = texts(&["b:2"]);
    again.registered = 9_999;
    db.record_claims(alice, &[claim(1, 1), claim(2, 2), again])
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
    db.record_claims(alice, &claims).await.unwrap();
    db.record_claims(alice, &claims).await.unwrap();
    let paths: Vec<StorePath> = (0..MANY + 10).rev().map(path).collect();
    assert!(db.claims(alice, &paths).await.unwrap() == claims);
    assert_eq!(db.paths(alice).await.unwrap().len(), claims.len());
}

pub async fn by_hash_part<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut same_hash = claim(1, 2);
    same_hash.object.path = named_path(1, "zzz");
    let claims = [claim(1, 1), claim(2, 2), same_hash.clone()];
    db.record_claims(alice, &claims).await.unwrap();
    let hash = path(1).hash_part().to_owned();
    assert_eq!(
        db.claims_by_hash_part(alice, &hash).await.unwrap(),
        [claim(1, 1), same_hash]
    );
    let upper = hash.to_uppercase();
    let joker = "%".repeat(32);
    let nul = "\0".repeat(32);
    let more = format!("{hash}-thing_1");
    for none in ["", "-", &hash[..31], &more, &upper, &joker, &nul] {
        assert_eq!(db.claims_by_hash_part(alice, none).await.unwrap(), [], "{none:?}");
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
    db.record_claims(alice, &claims).await.unwrap();
    assert_eq!(
        db.referrers(alice, &path(8)).await.unwrap(),
        (3..=8).map(path).collect()
    );
    assert_eq!(
        db.referrers(alice, &named_path(8, "thing_8-1.0.1"))
            .await
            .unwrap(),
        BTreeSet::from([path(30)])
    );
    assert!(db.referrers(alice, &path(500)).await.unwrap().is_empty());
}

pub async fn paths_and_derivers<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut other_deriver = claim(1, 2);
    other_deriver.deriver = Some(named_path(77, "other.drv"));
    let mut no_deriver = claim(1, 3);
    no_deriver.deriver = None;
    db.record_claims(alice, &[claim(1, 1), other_deriver, no_deriver, claim(2, 2)])
        .await
        .unwrap();
    assert_eq!(db.paths(alice).await.unwrap(), BTreeSet::from([path(1), path(2)]));
    assert_eq!(
        db.derivers(alice, &path(1)).await.unwrap(),
        BTreeSet::from([named_path(1, "thing.drv"), named_path(77, "other.drv")])
    );
    assert!(db.derivers(alice, &path(3)).await.unwrap().is_empty());
}

pub async fn signatures_for_a_path<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    db.record_claims(alice, &[claim(1, 1), claim(1, 2), claim(2, 2)])
        .await
        .unwrap();
    let new = texts(&["k:1", "cache-1:1"]);
    assert!(db.add_signatures(alice, &path(1), &new).await.unwrap());
    assert!(
        db.add_signatures(alice, &path(1), &BTreeSet::new())
            .await
            .unwrap()
    );
    assert!(!db.add_signatures(alice, &path(3), &new).await.unwrap());
    let signatures: Vec<BTreeSet<String>> = db
        .claims(alice, &[path(1), path(2)])
        .await
        .unwrap()
        .into_iter()
        .map(|c| c.signatures)
        .collect();
    assert_eq!(signatures, [new.clone(), new, texts(&["cache-1:2"])]);
}

pub async fn contents_are_those_spoken_of<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    assert!(db.contents().await.unwrap().is_empty());
    db.record_claims(alice, &[claim(1, 1), claim(2, 1), claim(3, 2)])
        .await
        .unwrap();
    db.record_claims(bob, &[claim(3, 3)]).await.unwrap();
    db.record_build(&build(1, 1, &[3, 4])).await.unwrap();
    assert_eq!(
        db.contents().await.unwrap(),
        [1, 2, 3, 4].map(content).into_iter().collect()
    );
    db.forget_result(&key(1)).await.unwrap();
    assert_eq!(
        db.contents().await.unwrap(),
        [1, 2, 3].map(content).into_iter().collect()
    );
}

pub async fn nothing_asked<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    db.record_claims(alice, &[]).await.unwrap();
    assert_eq!(db.claims(alice, &[]).await.unwrap(), []);
    assert!(db.paths(alice).await.unwrap().is_empty());
}

pub async fn numbers_have_a_limit<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let mut large = claim(1, 1);
    large.object.nar_size = u64::MAX;
    let error = db.record_claims(alice, &[claim(2, 2), large]).await.unwrap_err();
    assert!(matches!(&error, DatabaseError::Backend(_)), "{error}");
    assert!(error.to_string().contains("18446744073709551615"), "{error}");
    assert!(db.paths(alice).await.unwrap().is_empty());
}

pub async fn batch_is_atomic<D: Database>(bench: Bench<D>) {
    let alice = account(&bench.db, "alice").await;
    // The last of many statements fails: this path is claimed already, in a way that cannot be read.
    bench.db.record_claims(alice, &[claim(999, 1)]).await.unwrap();
    bench.execute("UPDATE claim SET signatures = '{'").await;
    let mut claims: Vec<Claim> = (0..600).map(|n| claim(n, n)).collect();
    claims.push(claim(999, 1));
    let error = bench.db.record_claims(alice, &claims).await.unwrap_err();
    assert!(
        matches!(error, DatabaseError::Inconsistent { table: "claim", .. }),
        "{error}"
    );
    assert_eq!(bench.db.paths(alice).await.unwrap(), BTreeSet::from([path(999)]));
    bench.db.record_claims(alice, &claims[..600]).await.unwrap();
    assert_eq!(bench.db.paths(alice).await.unwrap().len(), 601);
}
