//! What becomes of a build when its clients leave: one that has begun is finished, for whoever comes, unless the operator wants otherwise.

use std::process::Child;
use std::time::Duration;

use crate::{Server, answers, api, build, derivation, rungs, server, start, status, wait_for};

fn running(server: &Server) -> u64 {
    status(server)[0]
}

/// Where runs end with their last client.
fn stopping() -> Option<Server> {
    let mut server = server()?;
    server.stop();
    server.configure("[build]\nfinish-left-builds = 0\n").unwrap();
    server.launch().unwrap();
    Some(server)
}

fn leave(mut client: Child) {
    client.kill().unwrap();
    client.wait().unwrap();
    // Long enough for the service to notice.
    std::thread::sleep(Duration::from_secs(2));
}

#[test]
fn a_build_that_everybody_has_left_is_finished_for_whoever_comes() {
    let Some(server) = server() else { return };
    let (alice, bob) = (server.client("alice").unwrap(), server.client("bob").unwrap());
    let expression = derivation(
        "left",
        "echo first line; sleep 10; cat /proc/sys/kernel/random/uuid > $out",
    );
    let client = start(&alice, &expression);
    wait_for("the build runs", || running(&server) == 1);
    leave(client);
    let goes_on = api(&alice, &["builds", "--running"]);
    assert!(
        goes_on[0]["detached"] == true && goes_on[0]["state"] == "running",
        "{goes_on}"
    );
    wait_for("the build ends", || running(&server) == 0);
    build(&bob, "ssh-ng", &expression).success().unwrap();
    assert_eq!(rungs(&server, "bob"), ["reused"]);
    build(&alice, "ssh-ng", &expression).success().unwrap();
    assert_eq!(rungs(&server, "alice"), ["built", "reused"]);
}

#[test]
fn an_account_stops_what_it_has_left_and_is_told_what_that_means() {
    let Some(server) = server() else { return };
    let (alice, bob) = (server.client("alice").unwrap(), server.client("bob").unwrap());
    let expression = derivation("slow", "sleep 10; cat /proc/sys/kernel/random/uuid > $out");
    let client = start(&alice, &expression);
    wait_for("the build runs", || running(&server) == 1);
    let refused = alice.ssh(&["shell", "builds", "--stop", "slow"]).unwrap();
    assert!(
        !refused.ok && refused.stderr.contains("a client of this account waits"),
        "{refused:?}"
    );
    leave(client);
    let refused = bob.ssh(&["shell", "builds", "--stop", "slow"]).unwrap();
    assert!(
        !refused.ok && refused.stderr.contains("nothing of the name"),
        "{refused:?}"
    );
    let stopped = alice.ssh(&["shell", "builds", "--stop", "slow"]).unwrap();
    let told = stopped.success().unwrap().stdout;
    assert!(
        told.contains("stopped slow") && told.contains("for this account alone"),
        "{told}"
    );
    wait_for("the build ends", || running(&server) == 0);
    let mine = build(&alice, "ssh-ng", &expression).success().unwrap();
    assert!(
        mine.stderr.contains("an earlier run of it was stopped by hand"),
        "{}",
        mine.stderr
    );
    let why = alice
        .ssh(&["shell", "explain", "slow"])
        .unwrap()
        .success()
        .unwrap();
    assert!(why.stdout.contains("is for this account alone"), "{}", why.stdout);
    // Another one builds it: then it is everybody's again.
    build(&bob, "ssh-ng", &expression).success().unwrap();
    assert_eq!(rungs(&server, "bob"), ["built"]);
    let why = alice
        .ssh(&["shell", "explain", "slow"])
        .unwrap()
        .success()
        .unwrap();
    assert!(
        !why.stdout.contains("This ends when another account"),
        "{}",
        why.stdout
    );
    assert!(api(&alice, &["explain", "slow"])["apart"].is_null());
}

#[test]
fn the_last_client_that_leaves_ends_the_build_where_the_operator_says_so() {
    let Some(server) = stopping() else { return };
    let (alice, bob) = (server.client("alice").unwrap(), server.client("bob").unwrap());
    let marker = format!("{}", 100_000 + std::process::id());
    let expression = derivation("endless", &format!("sleep {marker}"));
    let first = start(&alice, &expression);
    wait_for("the build runs", || running(&server) == 1);
    let second = start(&bob, &expression);
    // Bob's interest shows only in what happens next; give his client time to ask.
    std::thread::sleep(Duration::from_secs(4));
    leave(first);
    assert_eq!(running(&server), 1, "bob still waits");
    leave(second);
    wait_for("the build ends", || running(&server) == 0);
    wait_for("its processes are gone", || !process_with_argument(&marker));
    wait_for("its files are gone", || {
        std::fs::read_dir(server.data_dir().join("builds"))
            .unwrap()
            .next()
            .is_none()
    });
    for account in ["alice", "bob"] {
        wait_for("it is noted", || !answers(&server, account).is_empty());
        let [(_, reason)] = &answers(&server, account)[..] else {
            panic!()
        };
        assert_eq!(reason, "stopped endless after its client had left");
    }
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
    let first = start(&alice, &expression);
    wait_for("the build runs", || running(&server) == 1);
    leave(first);
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
