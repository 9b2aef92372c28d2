//! Builds wait for their turn, and their clients are told for what.

use std::time::Duration;

use crate::{Run, Server, answers, build, derivation, server, start, status, wait_for};

fn configured(toml: &str) -> Option<Server> {
    let mut server = server()?;
    server.stop();
    server.configure(toml).unwrap();
    server.launch().unwrap();
    Some(server)
}

fn until(server: &Server, is: [u64; 2]) {
    wait_for(&format!("{is:?}"), || status(server) == is);
}

#[test]
fn a_client_sees_what_its_build_waits_for() {
    for scheme in ["ssh-ng", "ssh"] {
        let Some(server) = configured("[build]\nmax-jobs = 1\nfinish-left-builds = 0\n") else {
            return;
        };
        let (alice, bob) = (server.client("alice").unwrap(), server.client("bob").unwrap());
        let mut busy = start(&alice, &derivation("busy", "sleep 10000"));
        until(&server, [1, 0]);
        let run: Run = std::thread::scope(|scope| {
            let waits = scope.spawn(|| build(&bob, scheme, &derivation("next", "echo it runs; echo > $out")));
            until(&server, [1, 1]);
            // Nobody is told of a wait of less than a second.
            std::thread::sleep(Duration::from_secs(4));
            busy.kill().unwrap();
            busy.wait().unwrap();
            waits.join().unwrap()
        });
        let seen = run.success().unwrap().stderr;
        let told = seen.find("waiting for a free slot (1 of 1 in use)");
        assert!(told.is_some() && told < seen.find("it runs"), "{scheme}: {seen}");
    }
}

/// `nix build` shows waiting in its progress bar, and without a terminal it has none.
#[test]
fn a_client_of_a_store_sees_it_without_a_terminal() {
    let Some(server) = configured("[build]\nmax-jobs = 1\nfinish-left-builds = 0\n") else {
        return;
    };
    let (alice, bob) = (server.client("alice").unwrap(), server.client("bob").unwrap());
    let mut busy = start(&alice, &derivation("busy", "sleep 10000"));
    until(&server, [1, 0]);
    let run: Run = std::thread::scope(|scope| {
        let next = derivation("next", "echo it runs; echo > $out");
        let waits = scope.spawn(move || bob.build_in_store(&next, &["-L"]).unwrap());
        until(&server, [1, 1]);
        // Nobody is told of a wait of less than a second.
        std::thread::sleep(Duration::from_secs(4));
        busy.kill().unwrap();
        busy.wait().unwrap();
        waits.join().unwrap()
    });
    let seen = run.success().unwrap().stderr;
    let told = seen.find("waiting for a free slot (1 of 1 in use)");
    assert!(told.is_some() && told < seen.find("it runs"), "{seen}");
}

#[test]
fn a_build_that_is_short_of_memory_is_run_once_more() {
    let mebibytes = |n: u64| n << 20;
    let toml = format!(
        "[build]\nmemory = {}\nmax-memory = {}\nunknown-memory = {}\nlimit-to-reservation = true\n",
        mebibytes(1024),
        mebibytes(512),
        mebibytes(48)
    );
    let Some(server) = configured(&toml) else { return };
    let log = server.log();
    if log
        .lines()
        .any(|line| line.contains("no control groups") && line.contains("memory"))
    {
        println!("skipped: memory cannot be limited here");
        return;
    }
    let alice = server.client("alice").unwrap();
    let takes = |name: &str, mebibytes: u64| {
        let script = format!("dd if=/dev/zero of=/dev/shm/x bs=1048576 count={mebibytes}; echo > $out");
        build(
            &alice,
            "ssh-ng",
            &derivation(name, &format!("PATH=/bin; {script}")),
        )
    };
    let again = "the build was short of memory; it is run once more";
    let first = takes("hungry-1.0", 150).success().unwrap();
    assert!(first.stderr.contains(again), "{}", first.stderr);
    // What it took is known now, and is no different for the next version.
    let next = takes("hungry-1.1", 150).success().unwrap();
    assert!(!next.stderr.contains(again), "{}", next.stderr);
    let too_much = takes("greedy-1.0", 600);
    assert!(
        !too_much.ok && too_much.stderr.contains("ran out of memory"),
        "{}",
        too_much.stderr
    );
    let rungs: Vec<String> = answers(&server, "alice")
        .into_iter()
        .map(|(rung, _)| rung)
        .collect();
    assert_eq!(rungs, ["built", "built", "failed"]);
}
