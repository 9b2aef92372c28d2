//! What failed by the builder's own doing fails for everybody at once, log and all; unless one wants it tried again.

use std::io::Write as _;

use firn_protocol::{BuildMode, BuildStatus};

use crate::raw::{Raw, path, shell};
use crate::{Client, Run, answers, build, derivation, rungs, server};

/// Of a long log.
const LINES: usize = 20_000;

/// A setting of every session from now on.
fn set_env(client: &Client, variable: &str) {
    let mut config = std::fs::OpenOptions::new()
        .append(true)
        .open(&client.ssh_config)
        .unwrap();
    writeln!(config, "  SetEnv {variable}").unwrap();
}

/// What tells one run of these builders from another: a line of the log.
fn mark(run: &Run) -> String {
    let line = run.stderr.lines().find_map(|line| line.split("mark=").nth(1));
    line.unwrap_or_else(|| panic!("no mark in: {}", run.stderr))
        .trim()
        .to_owned()
}

#[test]
fn a_failure_is_replayed_with_its_log_and_status() {
    let Some(server) = server() else { return };
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| server.client(name).unwrap());
    let expression = derivation(
        "fails",
        "read id < /proc/sys/kernel/random/uuid; echo mark=$id; echo some last words; exit 7",
    );
    let first = build(&alice, "ssh-ng", &expression);
    let second = build(&bob, "ssh-ng", &expression);
    for run in [&first, &second] {
        assert!(!run.ok);
        assert!(run.stderr.contains("exit code 7"), "{}", run.stderr);
        assert!(run.stderr.contains("some last words"), "{}", run.stderr);
    }
    assert_eq!(mark(&first), mark(&second), "nothing was run");
    assert!(
        second.stderr.contains("it failed before with the same inputs"),
        "{}",
        second.stderr
    );
    assert_eq!(rungs(&server, "bob"), ["failed-before"]);

    set_env(&carol, "FIRN_REUSE_BUILD_FAILURES=false");
    let third = build(&carol, "ssh-ng", &expression);
    assert!(!third.ok && mark(&third) != mark(&first), "it was run again");
    assert_eq!(rungs(&server, "carol"), ["failed"]);
}

#[test]
fn a_time_out_is_replayed_only_to_who_wants_it() {
    let Some(mut server) = server() else { return };
    server.configure("[build]\ntimeout = 2\n").unwrap();
    server.kill();
    server.launch().unwrap();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| server.client(name).unwrap());
    let expression = derivation(
        "slow",
        "read id < /proc/sys/kernel/random/uuid; echo mark=$id; sleep 600",
    );
    let first = build(&alice, "ssh-ng", &expression);
    let second = build(&bob, "ssh-ng", &expression);
    set_env(&carol, "FIRN_REUSE_BUILD_TIMEOUTS=true");
    let third = build(&carol, "ssh-ng", &expression);
    for run in [&first, &second, &third] {
        assert!(
            !run.ok && run.stderr.contains("timed out after 2 seconds"),
            "{}",
            run.stderr
        );
    }
    assert_ne!(mark(&first), mark(&second), "it was run again");
    assert!(
        [mark(&first), mark(&second)].contains(&mark(&third)),
        "nothing was run"
    );
    assert_eq!(rungs(&server, "bob"), ["failed"]);
    let (rung, reason) = answers(&server, "carol").remove(0);
    assert_eq!(rung, "failed-before", "{reason}");
    assert!(
        reason.contains("to try again: ssh firn shell settings set reuse-build-timeouts false"),
        "{reason}"
    );
}

/// The commands that the words under a replayed failure name, taken out of them.
fn hint(run: &Run) -> (Vec<String>, String) {
    let (_, hint) = run.stderr.split_once("to try again: ssh firn ").unwrap();
    let (command, rest) = hint.split_once(';').unwrap();
    let (_, line) = rest.split_once("in ssh_config: ").unwrap();
    let line = line.split(')').next().unwrap();
    (command.split(' ').map(str::to_owned).collect(), line.to_owned())
}

/// Whether the service is a builder or a store, and by which protocol, what is printed is typed, and the build runs again.
#[test]
fn the_hint_works_as_it_stands() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    let expression = derivation(
        "fails",
        "read id < /proc/sys/kernel/random/uuid; echo mark=$id; exit 7",
    );
    type Way<'w> = (&'w str, Box<dyn Fn(&Client) -> Run + 'w>);
    let ways: [Way<'_>; 3] = [
        (
            "builder, ssh-ng",
            Box::new(|client| build(client, "ssh-ng", &expression)),
        ),
        (
            "builder, ssh",
            Box::new(|client| build(client, "ssh", &expression)),
        ),
        (
            "store",
            Box::new(|client| client.build_in_store(&expression, &["-L"]).unwrap()),
        ),
    ];
    build(&alice, "ssh-ng", &expression);
    for (n, (way, ask)) in ways.iter().enumerate() {
        let bob = server.client(&format!("bob-{n}")).unwrap();
        let first = ask(&bob);
        assert!(!first.ok, "{way}");
        let (command, line) = hint(&first);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        bob.ssh(&command).unwrap().success().unwrap();
        assert_ne!(mark(&ask(&bob)), mark(&first), "{way}: it was run again");
        let unset = ["shell", "settings", "unset", command[3]];
        bob.ssh(&unset).unwrap().success().unwrap();
        let replayed = ask(&bob);
        set_env(&bob, line.trim_start_matches("SetEnv "));
        assert_ne!(mark(&ask(&bob)), mark(&replayed), "{way}: it was run again");
    }
}

/// Nix shows what its build hook wrote until that ended, which may be less than what came: the protocol itself shows all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_replayed_to_its_last_line() {
    let Some(server) = server() else { return };
    let script = format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i.; done; exit 7");
    let (drv_path, drv) = shell("fails", path("fails"), &script);
    for (account, said) in [
        ("alice", "exit code 7"),
        ("bob", "it failed before with the same inputs"),
    ] {
        let client = server.client(account).unwrap();
        let mut raw = Raw::ssh(&client.ssh_config);
        raw.shake().await.unwrap();
        let answer = raw.build_in(&drv_path, &drv, BuildMode::Normal).await;
        let (result, mut log) = answer.unwrap();
        assert_eq!(result.status, BuildStatus::PermanentFailure);
        let last = log.pop().unwrap();
        assert!(
            last.starts_with("firn: failed fails: ") && last.contains(said),
            "{last}"
        );
        let expected: Vec<String> = (1..=LINES).map(|n| format!("line {n}.")).collect();
        assert!(log == expected, "{account} got {} lines", log.len());
    }
}
