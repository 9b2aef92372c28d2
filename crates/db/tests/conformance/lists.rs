//! Lists of an account that two processes change at the same moment.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use firn_core::{AccountId, ChangeError, Effective, SettingChange, Trust};
use firn_nix::signature::{PublicKey, SecretKey};
use firn_service::ports::{
    AccountChange, Database, DatabaseError, MAX_LOGINS, MAX_TRUSTED, NewSigningKey, Policies as _,
};
use tokio::task::JoinSet;

use crate::backend::Bench;
use crate::sample::{account, login, public_key};

/// Changes of trusted keys, through both processes.
const CHANGES: usize = 200;
/// Names of keys in those; each name has two keys.
const NAMES: usize = 12;

fn change(change: SettingChange) -> AccountChange {
    AccountChange {
        defaults: Effective {
            trusted_public_keys: vec![key(0, 1)],
            ..Effective::default()
        },
        change,
    }
}

fn key(name: usize, variant: u8) -> PublicKey {
    public_key(&format!("k-{name}"), variant)
}

/// What one change tried for a name, and what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Told {
    Trusted(u8),
    OtherTrusted(u8),
    Removed,
    NoneTrusted,
}

impl Told {
    /// What is trusted afterwards, if this can be told while `before` is (0: none).
    fn after(self, before: u8) -> Option<u8> {
        match (self, before) {
            (Self::Trusted(key), 0) => Some(key),
            (Self::Trusted(key), before) if key == before => Some(key),
            (Self::OtherTrusted(key), before) if before != 0 && key != before => Some(before),
            (Self::Removed, 1..) => Some(0),
            (Self::NoneTrusted, 0) => Some(0),
            _ => None,
        }
    }
}

/// Whether the changes of one name can have happened one after the other, from one state to the other.
fn serial(told: &BTreeMap<Told, usize>, from: u8, to: u8) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![(told.clone(), from)];
    while let Some((left, state)) = open.pop() {
        if left.is_empty() {
            if state == to {
                return true;
            }
            continue;
        }
        if !seen.insert((left.iter().map(|(t, n)| (*t, *n)).collect::<Vec<_>>(), state)) {
            continue;
        }
        for (one, count) in &left {
            if let Some(after) = one.after(state) {
                let mut left = left.clone();
                match count {
                    1 => drop(left.remove(one)),
                    more => drop(left.insert(*one, more - 1)),
                }
                open.push((left, after));
            }
        }
    }
    false
}

pub async fn changes_of_trusted_keys_are_serial<D: Database>(bench: Bench<D>) {
    let beside = bench.beside().await;
    let alice = account(&bench.db, "alice").await;
    let mut tasks = JoinSet::new();
    for n in 0..CHANGES {
        let name = n % NAMES;
        let (wanted, success, refusal) = match (n / NAMES) % 4 {
            0 | 2 => {
                let variant = 1 + u8::try_from(n % 7 % 2).unwrap();
                let wanted = SettingChange::TrustKey(key(name, variant));
                (wanted, Told::Trusted(variant), Told::OtherTrusted(variant))
            }
            _ => {
                let wanted = SettingChange::DistrustKey(format!("k-{name}"));
                (wanted, Told::Removed, Told::NoneTrusted)
            }
        };
        let (db, beside) = (bench.db.clone(), beside.clone());
        tasks.spawn(async move {
            let wanted = change(wanted);
            let done = match n % 2 {
                0 => db.change_account(alice, &wanted).await,
                _ => beside.change_account(alice, &wanted).await,
            };
            match done {
                Ok(()) => (name, success),
                Err(DatabaseError::Change(ChangeError::NameTaken(_) | ChangeError::NotTrusted(_))) => {
                    (name, refusal)
                }
                Err(e) => panic!("{e}"),
            }
        });
    }
    let mut told: BTreeMap<usize, BTreeMap<Told, usize>> = BTreeMap::new();
    for (name, one) in tasks.join_all().await {
        *told.entry(name).or_default().entry(one).or_default() += 1;
    }

    let stored = bench.db.stored(alice, None).await.unwrap().account;
    let list: Vec<PublicKey> = stored["trusted-public-keys"]
        .split_whitespace()
        .map(|text| text.parse().unwrap())
        .collect();
    let names: BTreeSet<&str> = list.iter().map(PublicKey::name).collect();
    assert_eq!(names.len(), list.len(), "a name twice in {list:?}");
    for (name, told) in told {
        // The operator trusts one key from the start.
        let from = u8::from(name == 0);
        let trusted = [1, 2]
            .into_iter()
            .find(|variant| list.contains(&key(name, *variant)));
        let to = trusted.unwrap_or(0);
        assert!(serial(&told, from, to), "k-{name}: {told:?} from {from} to {to}");
    }
    beside.close().await;
}

pub async fn no_list_outgrows_its_limit<D: Database>(bench: Bench<D>) {
    let beside = bench.beside().await;
    let alice = account(&bench.db, "alice").await;
    let mut others: Vec<AccountId> = Vec::new();
    for n in 0..MAX_TRUSTED + 8 {
        others.push(account(&bench.db, &format!("other-{n}")).await);
    }
    let mut tasks = JoinSet::new();
    for (n, other) in others.into_iter().enumerate() {
        let (db, beside) = (bench.db.clone(), beside.clone());
        tasks.spawn(async move {
            let host = format!("host-{n}");
            let (trusted, kept) = match n % 2 {
                0 => (
                    db.trust(alice, other, Some(Trust::Builds)).await,
                    db.set_login(alice, &host, Some(&login())).await,
                ),
                _ => (
                    beside.trust(alice, other, Some(Trust::Builds)).await,
                    beside.set_login(alice, &host, Some(&login())).await,
                ),
            };
            let full =
                |error: DatabaseError| assert!(matches!(error, DatabaseError::TooMany { .. }), "{error}");
            (
                trusted.map_err(full).is_ok(),
                kept.map_err(full).is_ok_and(|before| !before),
            )
        });
    }
    let done = tasks.join_all().await;
    assert_eq!(done.iter().filter(|(trusted, _)| *trusted).count(), MAX_TRUSTED);
    assert_eq!(done.iter().filter(|(_, kept)| *kept).count(), MAX_LOGINS);
    let relations = bench.db.relations(alice).await.unwrap();
    let trusted = relations
        .iter()
        .find(|r| r.trusts.is_some())
        .unwrap()
        .name
        .clone();
    let logins = bench.db.logins(alice).await.unwrap();
    assert_eq!((relations.len(), logins.len()), (MAX_TRUSTED, MAX_LOGINS));
    // What is in the list can be changed while it is full.
    let trusted = bench.db.account(&trusted).await.unwrap().unwrap().id;
    bench
        .db
        .trust(alice, trusted, Some(Trust::Uploads))
        .await
        .unwrap();
    let host = logins.keys().next().unwrap();
    assert!(bench.db.set_login(alice, host, Some(&login())).await.unwrap());
    beside.close().await;
}

pub async fn new_signing_keys_have_names_of_their_own<D: Database>(bench: Bench<D>) {
    const KEYS: u8 = 20;
    let beside = bench.beside().await;
    let alice = account(&bench.db, "alice").await;
    let mut tasks = JoinSet::new();
    for n in 0..KEYS {
        let (db, beside) = (bench.db.clone(), beside.clone());
        tasks.spawn(async move {
            let key = NewSigningKey::Numbered {
                stem: "firn-alice".to_owned(),
                seed: [n; 32],
            };
            match n % 2 {
                0 => db.add_signing_key(alice, &key, 1).await,
                _ => beside.add_signing_key(alice, &key, 1).await,
            }
            .unwrap()
        });
    }
    let name = |secret: &str| secret.parse::<SecretKey>().unwrap().name().to_owned();
    let added: BTreeSet<String> = tasks
        .join_all()
        .await
        .iter()
        .map(|key| name(&key.secret))
        .collect();
    let expected: BTreeSet<String> = (2..=KEYS + 1).map(|n| format!("firn-alice-{n}")).collect();
    assert_eq!(added, expected);
    let keys = bench.db.signing_keys(alice).await.unwrap();
    assert_eq!(keys.iter().filter(|key| key.active).count(), 1);
    assert_eq!(keys.len(), usize::from(KEYS) + 1);
    beside.close().await;
}

pub async fn a_refused_change_changes_nothing<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let before = db.stored(alice, None).await.unwrap();
    for refused in [
        SettingChange::TrustKey(key(0, 2)),
        SettingChange::DistrustKey("k-1".to_owned()),
        SettingChange::RemoveSubstituter("https://none.example".parse().unwrap()),
    ] {
        let done = db.change_account(alice, &change(refused)).await;
        assert!(matches!(done, Err(DatabaseError::Change(_))), "{done:?}");
    }
    assert_eq!(db.stored(alice, None).await.unwrap(), before);
}
