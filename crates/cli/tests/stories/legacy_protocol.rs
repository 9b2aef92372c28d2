//! The same over `ssh://`: the serve protocol.

use crate::{build, derivation, rungs, server};

#[test]
fn builds_and_reuse_over_ssh() {
    let Some(server) = server() else { return };
    let (alice, bob) = (server.client("alice").unwrap(), server.client("bob").unwrap());
    let expression = derivation("legacy", "echo a line from the builder; echo content > $out");
    let first = build(&alice, "ssh", &expression).success().unwrap();
    assert!(
        first.stderr.contains("a line from the builder"),
        "{}",
        first.stderr
    );
    let second = build(&bob, "ssh", &expression).success().unwrap();
    assert!(second.stderr.contains("firn: reused legacy"), "{}", second.stderr);
    assert_eq!(
        (rungs(&server, "alice"), rungs(&server, "bob")),
        (vec!["built".into()], vec!["reused".into()])
    );
    let out = &first.lines()[0];
    assert_eq!(alice.nix.nar_hash(out).unwrap(), bob.nix.nar_hash(out).unwrap());
}

#[test]
fn a_failure_says_why() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    let run = build(&alice, "ssh", &derivation("broken", "echo about to fail; exit 3")).stderr;
    assert!(
        run.contains("about to fail") && run.contains("exit code 3"),
        "{run}"
    );
}

#[test]
fn closures_go_both_ways_with_nix_copy_closure() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    let expression = derivation("copied", "mkdir $out; echo x > $out/file");
    let out = crate::build_locally(&alice, &expression).remove(0);
    let hash = alice.nix.nar_hash(&out).unwrap();
    alice
        .nix
        .run("nix-copy-closure", &["--to", "firn", &out])
        .unwrap()
        .success()
        .unwrap();
    let laptop = server.another_client("alice", "laptop").unwrap();
    laptop
        .nix
        .run("nix-copy-closure", &["--from", "firn", &out])
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(laptop.nix.nar_hash(&out).unwrap(), hash);
}
