//! A build ends when nobody waits for it, and only then.

use std::time::Duration;

use crate::{Server, answers, api, build, derivation, rungs, server, start, status, wait_for};

fn running(server: &Server) -> u64 {
    status(server)[0]
}

#[test]
fn the_last_client_that_leaves_ends_the_build() {
    let Some(server) = server() else { return };
    let (alice, bob) = (server.client("alice").unwrap(), server.client("bob").unwrap());
    let marker = format!("{}", 100_000 + std::process::id());
    let expression = derivation("endless", &format!("sleep {marker}"));
    let mut first = start(&alice, &expression);
    wait_for("the build runs", || running(&server) == 1);
    let mut second = start(&bob, &expression);
    // Bob's interest shows only in what happens next; give his client time to ask.
    std::thread::sleep(Duration::from_secs(4));
    first.kill().unwrap();
    first.wait().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(running(&server), 1, "bob still waits");
    second.kill().unwrap();
    second.wait().unwrap();
    wait_for("the build ends", || running(&server) == 0);
    wait_for("its processes are gone", || !process_with_argument(&marker));
    wait_for("its files are gone", || {
        std::fs::read_dir(server.data_dir().join("builds"))
            .unwrap()
            .next()
            .is_none()
    });
    assert!(answers(&server, "alice").is_empty());
}

#[test]
fn a_build_goes_on_without_clients_for_who_wants_that() {
    let Some(server) = server() else { return };
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| server.client(name).unwrap());
    api(&alice, &["settings", "set", "keep-builds-running", "true"]);
    let expression = derivation(
        "kept",
        "echo first line; sleep 8; cat /proc/sys/kernel/random/uuid > $out",
    );
    let mut first = start(&alice, &expression);
    wait_for("the build runs", || running(&server) == 1);
    first.kill().unwrap();
    first.wait().unwrap();
    // Long enough for the service to notice.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(running(&server), 1, "it goes on");
    let joined = build(&bob, "ssh-ng", &expression).success().unwrap();
    assert!(joined.stderr.contains("first line"), "{}", joined.stderr);
    // On a slow machine the build has ended by then.
    let rung = rungs(&server, "bob").remove(0);
    assert!(["joined", "reused"].contains(&rung.as_str()), "{rung}");
    let found = build(&carol, "ssh-ng", &expression).success().unwrap();
    assert_eq!(rungs(&server, "carol"), ["reused"]);
    let out = &found.lines()[0];
    assert_eq!(bob.nix.nar_hash(out).unwrap(), carol.nix.nar_hash(out).unwrap());
    // Hers, too; and what became of it stands among her requests, though nobody told her.
    build(&alice, "ssh-ng", &expression).success().unwrap();
    assert_eq!(rungs(&server, "alice"), ["built", "reused"]);
}

/// Whether a process runs that has this argument.
pub fn process_with_argument(marker: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
        std::fs::read(process.path().join("cmdline")).is_ok_and(|line| {
            line.split(|&b| b == 0)
                .any(|argument| argument == marker.as_bytes())
        })
    })
}
