//! What earlier runs of packages took.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::AccountId;
use firn_core::schedule::Past;
use firn_service::ports::{BuildRecord, Database};

use crate::backend::Bench;
use crate::sample::{GIVES, KEEPS, Short as _, account, build, failed, name, named_path};

const SYSTEM: &str = "x86_64-linux";

/// A run of a derivation of that name; the later, the larger the number, which is also its time.
fn of(id: u8, name: &str) -> BuildRecord {
    let mut record = build(id, id.into(), &[id.into()]);
    record.run.drv_path = named_path(id.into(), &format!("{name}.drv"));
    record.run.wall_ms = id.into();
    record
}

async fn history<D: Database>(
    db: &D,
    packages: &[&str],
    account: AccountId,
    takes: bool,
    limit: u32,
) -> BTreeMap<String, Vec<(u64, bool)>> {
    let packages: BTreeSet<String> = packages.iter().map(|p| (*p).to_owned()).collect();
    let past = db
        .history(&packages, SYSTEM, account, takes, limit)
        .await
        .unwrap();
    let short = |runs: Vec<Past>| runs.into_iter().map(|run| (run.wall_ms, run.own)).collect();
    past.into_iter().map(|(name, runs)| (name, short(runs))).collect()
}

pub async fn what_runs_took<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    for record in [of(1, "hello-2.12"), of(2, "hello-2.13")] {
        db.record_build(&record, alice, true, true).await.unwrap();
    }
    // Neither failures, nor another system, nor another package that begins alike.
    let mut failure = failed(3, 3);
    failure.run.drv_path = named_path(3, "hello-2.14.drv");
    db.record_failure(&failure, alice, true).await.unwrap();
    let mut other = of(4, "hello-2.12");
    other.run.system = "i686-linux".to_owned();
    db.record_build(&other, alice, true, true).await.unwrap();
    db.record_check(&of(5, "hello-world-1"), alice, true)
        .await
        .unwrap();
    let packages = ["hello", "nothing", "hello-world"].map(str::to_owned).into();
    let past = db.history(&packages, SYSTEM, alice, false, 9).await.unwrap();
    let took = |id: u64, memory_peak| Past {
        own: true,
        wall_ms: id,
        cpu_us: 1_500_000 + id + 30,
        memory_peak,
    };
    let expected = [
        ("hello", vec![took(2, Some(1 << 30)), took(1, None)]),
        ("hello-world", vec![took(5, None)]),
    ];
    assert_eq!(past, expected.map(|(name, runs)| (name.to_owned(), runs)).into());
    assert!(
        db.history(&BTreeSet::new(), SYSTEM, alice, true, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

pub async fn own_and_others<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    for (id, account, shares) in [
        (1, alice, true),
        (2, bob, true),
        (3, bob, false),
        (4, carol, true),
        (5, alice, false),
    ] {
        db.record_build(&of(id, "hello-1"), account, shares, shares)
            .await
            .unwrap();
    }
    let of = async |account, takes| {
        let mut past = history(&db, &["hello"], account, takes, 9).await;
        past.remove("hello").unwrap_or_default()
    };
    assert_eq!(
        of(alice, true).await,
        [(5, true), (1, true), (4, false), (2, false)]
    );
    assert_eq!(of(alice, false).await, [(5, true), (1, true)]);
    db.set_account(carol, "private", Some("1"), KEEPS).await.unwrap();
    assert_eq!(of(alice, true).await, [(5, true), (1, true), (2, false)]);
    db.set_account(carol, "private", None, GIVES).await.unwrap();
    // What an account shared outlives it.
    db.remove_account(&name("alice")).await.unwrap();
    assert_eq!(
        of(bob, true).await,
        [(3, true), (2, true), (4, false), (1, false)]
    );
    assert_eq!(of(alice, false).await, []);
}

pub async fn latest_of_each<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    for id in 1..=24 {
        let (name, account) = (
            ["a-1", "b-1"][usize::from(id % 2)],
            [alice, bob][usize::from(id / 2 % 2)],
        );
        db.record_build(&of(id, name), account, true, true).await.unwrap();
    }
    let past = history(&db, &["a", "b"], alice, true, 2).await;
    let expected = [
        ("a", [(24, true), (20, true), (22, false)]),
        ("b", [(21, true), (17, true), (23, false)]),
    ];
    let expected = expected.map(|(name, runs)| (name.to_owned(), runs.to_vec()));
    assert_eq!(past, expected.into());
}

pub async fn many_packages<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    db.record_build(&of(1, "package-77-1.0"), alice, true, true)
        .await
        .unwrap();
    let names: Vec<String> = (0..5000)
        .map(|n| format!("package-{n}"))
        .chain(["package".to_owned()])
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let expected = BTreeMap::from([("package".to_owned(), vec![(1, false)])]);
    assert_eq!(history(&db, &names, bob, true, 3).await, expected);
}
