//! One store path, two contents: each account gets its own back, and what it is built into.

use crate::{build, build_locally, rungs, server};

/// `low` has other bytes each time it is built; `high` copies them.
const EXPRESSION: &str = r#"
let
  low = derivation { name = "low"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-ec" "mkdir $out; cat /proc/sys/kernel/random/uuid > $out/low" ]; };
  high = derivation { name = "high"; system = "x86_64-linux"; builder = "/bin/sh"; inherit low; args = [ "-ec" "mkdir $out; cat $low/low > $out/copy" ]; };
in
"#;

#[test]
fn a_third_account_with_other_bytes_gets_its_own_builds() {
    let Some(server) = server() else { return };
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| server.client(name).unwrap());
    let (low, high) = (format!("{EXPRESSION} low"), format!("{EXPRESSION} high"));

    let out = build(&alice, "ssh-ng", &high)
        .success()
        .unwrap()
        .lines()
        .remove(0);
    build(&bob, "ssh-ng", &high).success().unwrap();
    assert_eq!(rungs(&server, "bob"), ["reused", "reused"]);

    // Carol built `low` herself and uploads it as an input.
    let carols_low = build_locally(&carol, &low).remove(0);
    build(&carol, "ssh-ng", &high).success().unwrap();
    assert_eq!(rungs(&server, "carol"), ["built"]);

    let bytes = |client: &crate::Client, path: &str, file: &str| {
        std::fs::read_to_string(client.nix.on_disk(path).join(file)).unwrap()
    };
    assert_ne!(bytes(&carol, &out, "copy"), bytes(&alice, &out, "copy"));
    assert_eq!(bytes(&carol, &out, "copy"), bytes(&carol, &carols_low, "low"));
    assert_eq!(bytes(&bob, &out, "copy"), bytes(&alice, &out, "copy"));

    // Afterwards too: each account's own bytes, under the same path, from new machines with empty stores.
    for (account, first) in [("alice", &alice), ("bob", &bob), ("carol", &carol)] {
        let again = server
            .another_client(account, &format!("{account}-again"))
            .unwrap();
        build(&again, "ssh-ng", &high).success().unwrap();
        assert_eq!(
            bytes(&again, &out, "copy"),
            bytes(first, &out, "copy"),
            "{account}"
        );
        assert_eq!(
            bytes(&again, &carols_low, "low"),
            bytes(first, &carols_low, "low"),
            "{account}"
        );
    }
}

#[test]
fn another_accounts_paths_do_not_exist() {
    let Some(server) = server() else { return };
    let (alice, bob) = (server.client("alice").unwrap(), server.client("bob").unwrap());
    let out = build(&alice, "ssh-ng", &format!("{EXPRESSION} low"))
        .success()
        .unwrap()
        .lines()
        .remove(0);
    let info = |client: &crate::Client, path: &str| {
        client
            .nix
            .run("nix", &["path-info", "--store", "ssh-ng://firn", path])
            .unwrap()
    };
    assert!(info(&alice, &out).ok);
    let (theirs, nobodys) = (info(&bob, &out), info(&bob, &out.replace("-low", "-lox")));
    assert!(!theirs.ok && !nobodys.ok);
    assert_eq!(
        theirs.stderr.replace("-low", ""),
        nobodys.stderr.replace("-lox", "")
    );
}
