//! Settings, trust, readers, logins, keys.

use std::collections::BTreeMap;

use firn_core::{AccountId, Effective, KeyId, Trust};
use firn_service::ports::{
    Database, DatabaseError, KeyFor, MAX_KNOWN_KEYS, MAX_SESSION_KEYS, NewSigningKey, Relation, SigningKey,
    Stored,
};

use crate::backend::Bench;
use crate::sample::{
    GIVES, KEEPS, Short as _, account, build, claim, login, name, path, policy, public_key, signed_claim,
    ssh_key,
};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    pairs.iter().map(own).collect()
}

pub async fn settings_of_account_and_key<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    db.add_key(alice, &ssh_key(1)).await.unwrap();
    db.add_key(alice, &ssh_key(2)).await.unwrap();
    for (setting, value) in [
        ("timeout", "10"),
        ("private", "1"),
        ("timeout", "20"),
        ("empty", ""),
    ] {
        db.set_account(alice, setting, Some(value), GIVES).await.unwrap();
    }
    db.set_account(alice, "private", None, GIVES).await.unwrap();
    db.set_account(alice, "never-set", None, GIVES).await.unwrap();
    db.set_key(alice, "SHA256:1", "timeout", Some("5")).await.unwrap();
    db.set_key(alice, "SHA256:1", "timeout", Some("6")).await.unwrap();
    db.set_key(alice, "SHA256:2", "timeout", Some("7")).await.unwrap();
    db.set_key(alice, "SHA256:2", "substitute", Some("0"))
        .await
        .unwrap();
    db.set_key(alice, "SHA256:2", "timeout", None).await.unwrap();

    let of_account = map(&[("empty", ""), ("timeout", "20")]);
    for (ssh_key, of_key) in [
        (None, map(&[])),
        (Some("SHA256:1"), map(&[("timeout", "6")])),
        (Some("SHA256:2"), map(&[("substitute", "0")])),
    ] {
        let stored = db.stored(alice, ssh_key).await.unwrap();
        let expected = Stored {
            epoch: db.epoch().await.unwrap(),
            account: of_account.clone(),
            key: of_key,
            accounts: Vec::new(),
            trusted: Vec::new(),
        };
        assert_eq!(stored, expected);
    }
    // Who comes with a key that is not the account's gets none of what it has set, instead of what it has set for all.
    for (account, ssh_key, whose) in [(alice, "SHA256:3", "alice"), (bob, "SHA256:1", "bob")] {
        let error = db.stored(account, Some(ssh_key)).await;
        assert!(
            matches!(error, Err(DatabaseError::NoKey { account, fingerprint }) if account == whose && fingerprint == ssh_key)
        );
    }
}

pub async fn settings_need_a_key_of_the_account<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = db
        .create_account(&name("alice"), "secret", GIVES, 1)
        .await
        .unwrap();
    let bob = account(&db, "bob").await;
    db.add_key(alice.id, &ssh_key(1)).await.unwrap();
    for value in [Some("1"), None] {
        let error = db.set_key(bob, "SHA256:1", "timeout", value).await;
        assert!(
            matches!(error, Err(DatabaseError::NoKey { account, fingerprint }) if account == "bob" && fingerprint == "SHA256:1")
        );
    }
    // They go with the key.
    db.set_key(alice.id, "SHA256:1", "timeout", Some("1"))
        .await
        .unwrap();
    db.remove_key(&alice, "SHA256:1").await.unwrap();
    let gone = db.stored(alice.id, Some("SHA256:1")).await;
    assert!(matches!(gone, Err(DatabaseError::NoKey { .. })));
    db.add_key(alice.id, &ssh_key(1)).await.unwrap();
    assert_eq!(db.stored(alice.id, Some("SHA256:1")).await.unwrap().key, map(&[]));
}

async fn accounts(db: &impl Database, of: AccountId) -> Vec<(AccountId, Trust)> {
    db.stored(of, None).await.unwrap().accounts
}

pub async fn trust_needs_consent<D: Database>(Bench { db, .. }: Bench<D>) {
    use Trust::{Builds, Uploads};
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    for (trusts, lets, holds) in [
        (Some(Builds), None, None),
        (None, Some(Uploads), None),
        (Some(Builds), Some(Builds), Some(Builds)),
        (Some(Builds), Some(Uploads), Some(Builds)),
        (Some(Uploads), Some(Builds), Some(Builds)),
        (Some(Uploads), Some(Uploads), Some(Uploads)),
        (None, None, None),
    ] {
        db.trust(alice, bob, trusts).await.unwrap();
        db.let_read(bob, alice, lets).await.unwrap();
        let expected: Vec<_> = holds.map(|level| (bob, level)).into_iter().collect();
        assert_eq!(accounts(&db, alice).await, expected, "{trusts:?} {lets:?}");
        // It is one-way.
        assert_eq!(accounts(&db, bob).await, []);
    }
}

pub async fn trust_is_in_order<D: Database>(Bench { db, .. }: Bench<D>) {
    let mut ids = Vec::new();
    for n in ["a", "b", "c", "d", "e"] {
        ids.push(account(&db, n).await);
    }
    let [a, b, c, d, e] = ids.try_into().unwrap();
    for other in [d, b, e, c] {
        db.let_read(other, a, Some(Trust::Builds)).await.unwrap();
        db.trust(a, other, Some(Trust::Builds)).await.unwrap();
    }
    let order = |list: Vec<(AccountId, Trust)>| list.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(order(accounts(&db, a).await), [d, b, e, c]);
    // Another level is no new trust; trusting again is.
    db.trust(a, d, Some(Trust::Uploads)).await.unwrap();
    db.trust(a, b, None).await.unwrap();
    db.trust(a, b, Some(Trust::Uploads)).await.unwrap();
    assert_eq!(order(accounts(&db, a).await), [d, e, c, b]);
    db.private(e, true).await;
    db.remove_account(&name("c")).await.unwrap();
    assert_eq!(order(accounts(&db, a).await), [d, b]);
    db.private(e, false).await;
    assert_eq!(order(accounts(&db, a).await), [d, e, b]);
    // An account believes itself anyway.
    db.trust(a, a, Some(Trust::Builds)).await.unwrap();
    db.let_read(a, a, Some(Trust::Builds)).await.unwrap();
    assert_eq!(order(accounts(&db, a).await), [d, e, b]);
}

pub async fn relations_of_both_sides<D: Database>(Bench { db, .. }: Bench<D>) {
    use Trust::{Builds, Uploads};
    let (alice, bob, carol) = (
        account(&db, "alice").await,
        account(&db, "bob").await,
        account(&db, "carol").await,
    );
    account(&db, "dave").await;
    db.trust(alice, carol, Some(Uploads)).await.unwrap();
    db.let_read(alice, bob, Some(Builds)).await.unwrap();
    db.let_read(bob, alice, Some(Uploads)).await.unwrap();
    db.let_read(carol, alice, Some(Builds)).await.unwrap();
    let relation = |name_: &str, trusts, trusted_by, lets_read, may_read| Relation {
        name: name(name_),
        trusts,
        trusted_by,
        lets_read,
        may_read,
    };
    // That bob lets her read is not for her to know as long as she does not trust him.
    assert_eq!(
        db.relations(alice).await.unwrap(),
        [
            relation("bob", None, None, Some(Builds), None),
            relation("carol", Some(Uploads), None, None, Some(Builds)),
        ]
    );
    assert_eq!(
        db.relations(bob).await.unwrap(),
        [relation("alice", None, None, Some(Uploads), None)]
    );
    assert_eq!(
        db.relations(carol).await.unwrap(),
        [relation("alice", None, Some(Uploads), Some(Builds), None)]
    );
    db.remove_account(&name("alice")).await.unwrap();
    assert_eq!(db.relations(carol).await.unwrap(), []);
}

pub async fn logins_by_host<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let mut other = login();
    other.password = "two".to_owned();
    assert!(!db.set_login(alice, "b:80", Some(&login())).await.unwrap());
    assert!(db.set_login(alice, "b:80", Some(&other)).await.unwrap());
    assert!(!db.set_login(alice, "a", Some(&login())).await.unwrap());
    assert!(!db.set_login(bob, "a", None).await.unwrap());
    let both = [("a".to_owned(), login()), ("b:80".to_owned(), other)];
    assert!(db.logins(alice).await.unwrap() == both.into_iter().collect());
    assert!(db.set_login(alice, "b:80", None).await.unwrap());
    assert!(!db.set_login(alice, "b:80", None).await.unwrap());
    assert_eq!(db.logins(alice).await.unwrap().len(), 1);
    assert!(db.logins(bob).await.unwrap().is_empty());
}

pub async fn signing_keys_active_first<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = db
        .create_account(&name("alice"), "one", GIVES, 10)
        .await
        .unwrap()
        .id;
    let bob = account(&db, "bob").await;
    let key = |secret: &str, created, active| SigningKey {
        secret: secret.to_owned(),
        created,
        active,
    };
    assert!(db.signing_keys(alice).await.unwrap() == [key("one", 10, true)]);
    db.add_signing_key(alice, &NewSigningKey::Given("two".into()), 20)
        .await
        .unwrap();
    db.add_signing_key(alice, &NewSigningKey::Given("three".into()), 5)
        .await
        .unwrap();
    let keys = [
        key("three", 5, true),
        key("two", 20, false),
        key("one", 10, false),
    ];
    assert!(db.signing_keys(alice).await.unwrap() == keys);
    assert!(db.signing_keys(bob).await.unwrap() == [key("secret", 1_000, true)]);
    db.remove_account(&name("alice")).await.unwrap();
    assert!(db.signing_keys(alice).await.unwrap().is_empty());
}

pub async fn public_keys_have_numbers<D: Database>(Bench { db, .. }: Bench<D>) {
    assert_eq!(db.keys_named(&[]).await.unwrap(), (Vec::new(), KeyId(0)));
    let [a, b, other_a] = [public_key("a", 1), public_key("b", 1), public_key("a", 2)];
    let (first, settled) = db.register_key(KeyFor::Operator, &a).await.unwrap();
    assert!(!settled);
    assert_eq!(
        db.register_key(KeyFor::Operator, &a).await.unwrap(),
        (first, false)
    );
    let (second, _) = db.register_key(KeyFor::Operator, &b).await.unwrap();
    let (third, _) = db.register_key(KeyFor::Operator, &other_a).await.unwrap();
    assert!(KeyId(0) < first && first < second && second < third);
    db.settle_key(first).await.unwrap();
    assert_eq!(
        db.register_key(KeyFor::Operator, &a).await.unwrap(),
        (first, true)
    );
    assert_eq!(
        db.register_key(KeyFor::Operator, &other_a).await.unwrap(),
        (third, false)
    );
    let names = ["a".to_owned(), "c".to_owned(), "a".to_owned()];
    assert_eq!(
        db.keys_named(&names).await.unwrap(),
        (vec![(first, a), (third, other_a)], third)
    );
}

pub async fn epochs<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = db
        .create_account(&name("alice"), "secret", GIVES, 1)
        .await
        .unwrap();
    let bob = account(&db, "bob").await;
    db.add_key(alice.id, &ssh_key(1)).await.unwrap();
    db.record(alice.id, &[claim(1, 1)]).await.unwrap();
    let mut last = db.epoch().await.unwrap();
    macro_rules! begins_one {
        ($change:expr) => {
            $change.await.unwrap();
            let now = db.epoch().await.unwrap();
            assert!(now > last, "{}", stringify!($change));
            assert_eq!(db.stored(bob, None).await.unwrap().epoch, now);
            last = now;
        };
    }
    begins_one!(db.set_account(alice.id, "timeout", Some("1"), GIVES));
    begins_one!(db.set_account(alice.id, "timeout", None, KEEPS));
    begins_one!(db.set_key(alice.id, "SHA256:1", "timeout", Some("1")));
    begins_one!(db.set_key(alice.id, "SHA256:1", "timeout", None));
    begins_one!(db.trust(alice.id, bob, Some(Trust::Builds)));
    begins_one!(db.trust(alice.id, bob, None));
    begins_one!(db.let_read(alice.id, bob, Some(Trust::Builds)));
    begins_one!(db.let_read(alice.id, bob, None));
    begins_one!(db.set_login(alice.id, "host", Some(&login())));
    begins_one!(db.set_login(alice.id, "host", None));
    begins_one!(db.forget(alice.id, &[path(1)]));
    begins_one!(db.remove_key(&alice, "SHA256:1"));
    begins_one!(db.remove_account(&alice.name));
    // What fails begins none.
    db.remove_account(&alice.name).await.unwrap_err();
    db.set_key(bob, "SHA256:1", "timeout", None).await.unwrap_err();
    db.trust(bob, AccountId(77), Some(Trust::Builds))
        .await
        .unwrap_err();
    assert_eq!(db.epoch().await.unwrap(), last);
}

pub async fn keys_that_one_account_makes_known_are_limited<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    for seed in 1..=MAX_KNOWN_KEYS {
        db.register_key(KeyFor::Account(alice), &public_key(&format!("k-{seed}"), 1))
            .await
            .unwrap();
    }
    // What is known counts for nobody.
    db.register_key(KeyFor::Account(alice), &public_key("k-1", 1))
        .await
        .unwrap();
    let more = public_key("more", 1);
    let refused = db.register_key(KeyFor::Account(alice), &more).await;
    assert!(matches!(refused, Err(DatabaseError::TooManyKeys)), "{refused:?}");
    db.register_key(KeyFor::Account(bob), &more).await.unwrap();
    db.register_key(KeyFor::Operator, &public_key("operator", 1))
        .await
        .unwrap();
    // Sessions leave room for what the account decides.
    let carol = account(&db, "carol").await;
    for seed in 1..=MAX_SESSION_KEYS {
        db.register_key(KeyFor::Session(carol), &public_key(&format!("s-{seed}"), 1))
            .await
            .unwrap();
    }
    let last = public_key("last", 1);
    let refused = db.register_key(KeyFor::Session(carol), &last).await;
    assert!(matches!(refused, Err(DatabaseError::TooManyKeys)), "{refused:?}");
    db.register_key(KeyFor::Account(carol), &last).await.unwrap();
}

pub async fn what_accounts_give_follows_from_the_operators_settings<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    let key = db.key("k", 1).await;
    for account in [alice, bob] {
        let n = u32::try_from(account.0).unwrap();
        db.record_signed(account, &signed_claim(n, n, &format!("k:{n}")), key)
            .await;
        let run = build(u8::try_from(n).unwrap(), n, &[n]);
        db.record_build(&run, account, true, true).await.unwrap();
    }
    db.set_account(bob, "private", Some("false"), GIVES)
        .await
        .unwrap();
    let gives = async |account: AccountId| {
        let n = u32::try_from(account.0).unwrap();
        let stranger = policy(AccountId(77), &[key], &[]);
        let evidence = !db.seen(&stranger, &path(n)).await.is_empty();
        let result = db
            .result(&crate::sample::key(n), AccountId(77), true)
            .await
            .unwrap();
        (evidence, result.is_some())
    };
    let defaults = |private, share_builds| Effective {
        private,
        share_builds,
        ..Effective::default()
    };
    for (defaults, changed, alices, bobs) in [
        (defaults(false, true), 0, (true, true), (true, true)),
        (defaults(true, true), 1, (false, false), (true, true)),
        (defaults(true, true), 0, (false, false), (true, true)),
        (defaults(false, false), 2, (true, false), (true, false)),
        (defaults(true, false), 1, (false, false), (true, false)),
        (defaults(false, true), 2, (true, true), (true, true)),
    ] {
        let before = db.epoch().await.unwrap();
        assert_eq!(db.settle_gives(&defaults).await.unwrap(), changed);
        assert_eq!(db.epoch().await.unwrap() > before, changed > 0);
        assert_eq!((gives(alice).await, gives(bob).await), (alices, bobs));
    }
}
