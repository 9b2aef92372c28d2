//! What cannot have been written is an error that says where, and not a panic.

use firn_core::{Origin, Trust};
use firn_service::ports::{Database, DatabaseError, KeyFor};

use crate::backend::Bench;
use crate::realisations::{id, says};
use crate::sample::{
    Short as _, account, alone, build, claim, drv, failed, key, name, path, policy, public_key, request,
    ssh_key,
};

/// A change from outside, and what must be said of it: table, and a piece of the text.
const CHANGES: [(&str, &str, &str); 42] = [
    ("UPDATE claim SET origin = 'rumour'", "claim", "rumour"),
    ("UPDATE claim SET deriver = 'nonsense'", "claim", "deriver of "),
    ("UPDATE claim SET signatures = '[1]'", "claim", "signatures of "),
    ("UPDATE claim SET registered = -1", "claim", "-1 is negative"),
    (
        "UPDATE claim SET deriver = deriver || '/../x'",
        "claim",
        "deriver of ",
    ),
    ("UPDATE object SET path = 'x'", "object", "path of x"),
    (
        "UPDATE object SET path = substr(path, 1, 33) || 'other'",
        "object",
        "a claim says",
    ),
    (
        "UPDATE object SET content = substr(content, 1, 3)",
        "object",
        "3 bytes, not 32",
    ),
    ("UPDATE object SET nar_size = -5", "object", "-5 is negative"),
    ("UPDATE object SET refs = refs || ' x'", "object", "refs of "),
    ("UPDATE object SET ca = 'fixed:x'", "object", "ca of "),
    ("UPDATE build SET drv_path = ''", "build", "no valid hash part"),
    ("UPDATE build SET started = -1", "build", "-1 is negative"),
    (
        "UPDATE build SET key = substr(key, 1, 4)",
        "build",
        "4 bytes, not 32",
    ),
    ("UPDATE build SET state = 'gone'", "build", "state of "),
    ("UPDATE build SET state = 'failed'", "result", "which failed"),
    (
        "UPDATE build SET state = 'built'",
        "failure",
        "which did not fail",
    ),
    (
        "UPDATE build SET drv = substr(drv, 1, 5)",
        "build",
        "5 bytes, not 32",
    ),
    (
        "UPDATE build SET inputs = substr(inputs, 1, 2)",
        "build",
        "ends within a number",
    ),
    (
        "UPDATE build SET inputs = substr(key, 1, 32)",
        "build",
        "inputs of ",
    ),
    ("UPDATE build SET wall_ms = -3", "build", "-3 is negative"),
    ("UPDATE claim SET shareable = 2", "claim", "shareable of "),
    ("UPDATE signed SET registered = -1", "signed", "-1 is negative"),
    (
        "UPDATE public_key SET text = 'k:x'",
        "public_key",
        "text: public key",
    ),
    ("UPDATE public_key SET settled = -1", "public_key", "settled"),
    (
        "UPDATE account SET gives_evidence = 3",
        "account",
        "gives_evidence",
    ),
    ("UPDATE trust SET level = 'blind'", "trust", "blind"),
    ("UPDATE reader SET level = 'deaf'", "reader", "deaf"),
    ("UPDATE signing_key SET active = 7", "signing_key", "active"),
    (
        "UPDATE counter SET value = -8 WHERE name = 'epoch'",
        "counter",
        "negative",
    ),
    ("UPDATE request SET rung = 'ladder'", "request", "ladder"),
    (
        "UPDATE request SET build = substr(build, 1, 1)",
        "request",
        "1 bytes, not 16",
    ),
    ("UPDATE request SET wall_ms = -1", "request", "wall_ms of "),
    (
        "UPDATE account SET name = 'No Name' WHERE name = 'alice'",
        "account",
        "No Name",
    ),
    ("UPDATE account SET created = -1", "account", "created of alice"),
    ("UPDATE ssh_key SET added = -1", "ssh_key", "added of SHA256:1"),
    (
        "UPDATE realisation SET text = '{}'",
        "realisation",
        "text of sha256:",
    ),
    (
        "UPDATE realisation SET output = 'other'",
        "realisation",
        "is about sha256:",
    ),
    (
        "UPDATE realisation SET origin = 'rumour'",
        "realisation",
        "rumour",
    ),
    ("UPDATE realisation SET form = 'round'", "realisation", "round"),
    ("UPDATE object SET self_refs = 'few'", "object", "self_refs of "),
    (
        "UPDATE realisation SET registered = -1",
        "realisation",
        "-1 is negative",
    ),
];

pub async fn named_by_table_and_row<D: Database>(bench: Bench<D>) {
    let db = &bench.db;
    for (change, table, piece) in CHANGES {
        let alice = account(db, "alice").await;
        db.add_key(alice, &ssh_key(1)).await.unwrap();
        let bob = account(db, "bob").await;
        let key_id = db.key("cache-1", 1).await;
        db.record_signed(alice, &claim(1, 1), key_id).await;
        db.trust(alice, bob, Some(Trust::Builds)).await.unwrap();
        db.let_read(bob, alice, Some(Trust::Builds)).await.unwrap();
        db.record_build(&build(1, 1, &[1]), alice, true, true)
            .await
            .unwrap();
        db.record_failure(&failed(9, 9), alice, true).await.unwrap();
        db.record_request(&request(alice, 1, 1)).await.unwrap();
        db.requests(alice, 1).await.unwrap();
        db.record_realisations(alice, &[says(2, "out", 1, Origin::Built, &[])])
            .await
            .unwrap();
        assert!(bench.execute(change).await > 0, "{change}");

        let errors = [
            db.claims(alice, &[path(1)]).await.err(),
            db.paths_by_hash_part(&alone(alice), path(1).hash_part())
                .await
                .err(),
            db.referrers(&alone(alice), &path(1)).await.err(),
            db.derivers(&alone(alice), &path(1)).await.err(),
            db.paths(&alone(alice)).await.err(),
            db.contents().await.err(),
            db.record(alice, &[claim(1, 1)]).await.err(),
            db.result(&key(1), alice, true).await.err(),
            db.record_build(&build(2, 1, &[2]), alice, true, true).await.err(),
            db.requests(alice, 1).await.err(),
            db.accounts().await.err(),
            db.account_by_key(&ssh_key(1).blob).await.err(),
            db.keys(alice).await.err(),
            db.evidence(&policy(bob, &[key_id], &[]), &[path(1)]).await.err(),
            db.keys_named(&["cache-1".to_owned()]).await.err(),
            db.register_key(KeyFor::Operator, &public_key("cache-1", 1))
                .await
                .err(),
            db.stored(alice, None).await.err(),
            db.relations(alice).await.err(),
            db.signing_keys(alice).await.err(),
            db.epoch().await.err(),
            db.failure(&key(9), alice, true).await.err(),
            db.runs_of(&drv(1), alice, true, 9).await.err(),
            db.latest_request(alice, &request(alice, 1, 1).drv_path)
                .await
                .err(),
            db.usage(Some(alice), 0, 9_999).await.err(),
            db.usage(None, 0, 9_999).await.err(),
            db.realisations(&alone(alice), &[id(2, "out"), id(2, "other")])
                .await
                .err(),
        ];
        let mut named = 0;
        for error in errors.into_iter().flatten() {
            match error {
                DatabaseError::Inconsistent { table: t, what } if t == table && what.contains(piece) => {
                    named += 1;
                }
                other => panic!("after {change}: {other}"),
            }
        }
        assert!(named > 0, "{change} was not noticed");
        bench
            .execute("DELETE FROM result; DELETE FROM failure; DELETE FROM build; DELETE FROM signed; DELETE FROM public_key; DELETE FROM claim; DELETE FROM account; DELETE FROM object; UPDATE counter SET value = 1")
            .await;
        assert_eq!(db.account(&name("alice")).await.unwrap(), None);
    }
}
