//! Accounts and keys.

use firn_core::{AccountId, Trust};
use firn_service::ports::{Database, DatabaseError, NewSigningKey};

use crate::backend::Bench;
use crate::sample::{
    GIVES, Short as _, account, build, claim, failed, key, login, name, path, request, ssh_key,
};

pub async fn names_are_unique<D: Database>(Bench { db, .. }: Bench<D>) {
    let made = db
        .create_account(&name("alice"), "secret", GIVES, 1_234)
        .await
        .unwrap();
    assert_eq!((made.name.as_str(), made.created), ("alice", 1_234));
    let again = db.create_account(&name("alice"), "secret", GIVES, 1_235).await;
    assert!(matches!(again, Err(DatabaseError::AccountExists(n)) if n == "alice"));
    assert_eq!(db.account(&name("alice")).await.unwrap(), Some(made));
    assert_eq!(db.account(&name("bob")).await.unwrap(), None);
}

pub async fn listed_by_name<D: Database>(Bench { db, .. }: Bench<D>) {
    for n in ["b", "a-b", "ab", "a", "0", "a0"] {
        account(&db, n).await;
    }
    let names: Vec<String> = db
        .accounts()
        .await
        .unwrap()
        .iter()
        .map(|a| a.name.to_string())
        .collect();
    assert_eq!(names, ["0", "a", "a-b", "a0", "ab", "b"]);
}

pub async fn numbers_are_not_reused<D: Database>(Bench { db, .. }: Bench<D>) {
    let first = account(&db, "alice").await;
    db.remove_account(&name("alice")).await.unwrap();
    assert!(account(&db, "alice").await > first);
}

pub async fn key_acts_for_one_account<D: Database>(Bench { db, .. }: Bench<D>) {
    let (alice, bob) = (account(&db, "alice").await, account(&db, "bob").await);
    db.add_key(alice, &ssh_key(1)).await.unwrap();
    assert!(matches!(
        db.add_key(bob, &ssh_key(1)).await,
        Err(DatabaseError::KeyTaken)
    ));
    assert_eq!(
        db.account_by_key(&ssh_key(1).blob).await.unwrap().unwrap().id,
        alice
    );
    assert_eq!(db.account_by_key(&ssh_key(2).blob).await.unwrap(), None);
    assert_eq!(db.account_by_key(b"").await.unwrap(), None);
    assert_eq!(db.keys(bob).await.unwrap(), []);
}

pub async fn adding_a_key_again_changes_nothing<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    db.add_key(alice, &ssh_key(1)).await.unwrap();
    let mut again = ssh_key(1);
    again.comment = "other".to_owned();
    db.add_key(alice, &again).await.unwrap();
    assert_eq!(db.keys(alice).await.unwrap(), [ssh_key(1)]);
}

pub async fn keys_come_oldest_first<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    for n in [3, 1, 2] {
        db.add_key(alice, &ssh_key(n)).await.unwrap();
    }
    assert_eq!(
        db.keys(alice).await.unwrap(),
        [ssh_key(3), ssh_key(1), ssh_key(2)]
    );
}

pub async fn removed_key_acts_for_nobody<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = db
        .create_account(&name("alice"), "secret", GIVES, 1)
        .await
        .unwrap();
    let bob = db.create_account(&name("bob"), "secret", GIVES, 1).await.unwrap();
    db.add_key(alice.id, &ssh_key(1)).await.unwrap();
    let not_bobs = db.remove_key(&bob, "SHA256:1").await;
    assert!(
        matches!(not_bobs, Err(DatabaseError::NoKey { account, fingerprint }) if account == "bob" && fingerprint == "SHA256:1")
    );
    db.remove_key(&alice, "SHA256:1").await.unwrap();
    assert_eq!(db.account_by_key(&ssh_key(1).blob).await.unwrap(), None);
    assert!(matches!(
        db.remove_key(&alice, "SHA256:1").await,
        Err(DatabaseError::NoKey { .. })
    ));
    db.add_key(bob.id, &ssh_key(1)).await.unwrap();
}

pub async fn removing_takes_all_of_one<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    db.add_key(alice, &ssh_key(1)).await.unwrap();
    db.record(alice, &[claim(1, 1)]).await.unwrap();
    db.record_request(&request(alice, 1, 1)).await.unwrap();
    db.remove_account(&name("alice")).await.unwrap();

    assert_eq!(db.account(&name("alice")).await.unwrap(), None);
    assert_eq!(db.account_by_key(&ssh_key(1).blob).await.unwrap(), None);
    assert_eq!(db.keys(alice).await.unwrap(), []);
    assert_eq!(db.claims(alice, &[path(1)]).await.unwrap(), []);
    assert_eq!(db.requests(alice, 10).await.unwrap(), []);
    assert!(db.contents().await.unwrap().is_empty());
}

pub async fn unknown_accounts_are_named<D: Database>(Bench { db, .. }: Bench<D>) {
    let nobody = AccountId(77);
    let is_77 = |e: Option<DatabaseError>| matches!(e, Some(DatabaseError::NoAccount(n)) if n == "#77");
    assert!(is_77(db.add_key(nobody, &ssh_key(1)).await.err()));
    assert!(is_77(db.record(nobody, &[claim(1, 1)]).await.err()));
    let carol = account(&db, "carol").await;
    assert!(is_77(db.forget(nobody, &[path(1)]).await.err()));
    assert!(is_77(
        db.set_account(nobody, "timeout", Some("1"), GIVES).await.err()
    ));
    assert!(is_77(
        db.set_key(nobody, "SHA256:1", "timeout", Some("1")).await.err()
    ));
    for level in [None, Some(Trust::Builds)] {
        assert!(is_77(db.trust(nobody, carol, level).await.err()));
        assert!(is_77(db.let_read(nobody, carol, level).await.err()));
    }
    assert!(is_77(db.trust(carol, nobody, Some(Trust::Builds)).await.err()));
    assert!(is_77(
        db.let_read(carol, nobody, Some(Trust::Uploads)).await.err()
    ));
    assert!(is_77(db.set_login(nobody, "host", Some(&login())).await.err()));
    assert!(is_77(
        db.add_signing_key(nobody, &NewSigningKey::Given("secret".into()), 1)
            .await
            .err()
    ));
    assert!(is_77(
        db.record_build(&build(1, 1, &[1]), nobody, true, true)
            .await
            .err()
    ));
    assert!(is_77(db.record_failure(&failed(2, 1), nobody, true).await.err()));
    assert!(is_77(
        db.record_check(&build(3, 1, &[1]), nobody, true).await.err()
    ));
    let removed = db.remove_account(&name("bob")).await;
    assert!(matches!(removed, Err(DatabaseError::NoAccount(n)) if n == "bob"));
    assert!(db.contents().await.unwrap().is_empty());
    // The database goes on after each of them.
    db.record_build(&build(1, 1, &[1]), carol, true, true)
        .await
        .unwrap();
    assert!(db.result(&key(1), carol, true).await.unwrap().is_some());
}

pub async fn any_words_are_stored<D: Database>(Bench { db, .. }: Bench<D>) {
    let alice = account(&db, "alice").await;
    let words = "a\0b 'c' \"d\" \\ \u{1F328} \u{7f} $1 %s";
    let mut key = ssh_key(1);
    key.comment = words.to_owned();
    db.add_key(alice, &key).await.unwrap();
    let mut asked = request(alice, 1, 1);
    asked.reason = words.into();
    db.record_request(&asked).await.unwrap();
    let mut signed = claim(1, 1);
    signed.signatures = [words.to_owned()].into();
    db.record(alice, std::slice::from_ref(&signed)).await.unwrap();

    let readable = words.replace('\0', "\u{fffd}");
    assert_eq!(db.keys(alice).await.unwrap()[0].comment, readable);
    assert_eq!(db.requests(alice, 1).await.unwrap()[0].reason, readable);
    assert_eq!(db.claims(alice, &[path(1)]).await.unwrap(), [signed]);
}
