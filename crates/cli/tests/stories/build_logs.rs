//! `ssh HOST shell log`: a build's log while it runs, after its client has left, and afterwards.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::{Client, api, build, derivation, server};

/// A command over ssh whose output is read as it comes.
fn follow(client: &Client, words: &[&str]) -> (std::process::Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new("ssh")
        .arg("-F")
        .arg(&client.ssh_config)
        .arg("firn")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines.map(Result::unwrap))
}

#[test]
fn a_build_that_was_left_running_is_found_and_followed() {
    let Some(server) = server() else { return };
    let [alice, bob] = ["alice", "bob"].map(|name| server.client(name).unwrap());
    api(&alice, &["settings", "set", "keep-builds-running", "true"]);
    let expression = derivation("followed-1.0", "echo first; sleep 6; echo last; : > $out");
    let drv = alice
        .nix
        .instantiate(&alice.nix.expression(&expression).unwrap(), &[])
        .unwrap()
        .remove(0);
    let mut client = alice
        .nix
        .command("nix-store", true)
        .args([
            "--realise",
            &drv,
            "--max-jobs",
            "0",
            "--builders",
            "ssh-ng://firn x86_64-linux - 32 1",
        ])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    let running = loop {
        let running = api(&alice, &["builds", "--running"]);
        if running[0]["state"] == "running" {
            break running;
        }
        assert!(begun.elapsed().as_secs() < 60, "it never ran");
    };
    assert_eq!(running[0]["derivation"], drv);
    client.kill().unwrap();
    client.wait().unwrap();

    let (mut ssh, mut lines) = follow(&alice, &["shell", "log", "followed"]);
    assert_eq!(lines.next().unwrap(), "first");
    // Of others it is not there, running or not.
    assert_eq!(api(&bob, &["builds", "--running"]), serde_json::json!([]));
    let refused = bob.ssh(&["shell", "log", &drv]).unwrap();
    assert!(
        !refused.ok && refused.stderr.contains("there is no log of"),
        "{refused:?}"
    );
    assert_eq!(lines.next().unwrap(), "last");
    assert_eq!(lines.next(), None);
    assert!(ssh.wait().unwrap().success());

    // It has ended, though nobody waited: it stands among her requests, and its log is there.
    let name = drv.trim_start_matches("/nix/store/");
    for wanted in [drv.as_str(), name, "followed", "followed-1.0"] {
        let run = alice.ssh(&["shell", "log", wanted]).unwrap().success().unwrap();
        assert_eq!(run.stdout, "first\nlast\n", "{wanted}");
    }
    let run = alice.ssh(&["api", "log", name]).unwrap().success().unwrap();
    let lines: Vec<serde_json::Value> = run
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["derivation"], drv);
    assert_eq!(
        lines[1..],
        [
            serde_json::json!({ "line": "first" }),
            serde_json::json!({ "line": "last" })
        ]
    );
    let run = server
        .firn(&["log", "followed", "--account", "alice"])
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(run.stdout, "first\nlast\n");
    let reason = api(&alice, &["builds"])[0]["reason"].clone();
    assert!(
        reason.as_str().unwrap().ends_with("after its client had left"),
        "{reason}"
    );
}

#[test]
fn the_log_of_a_failure_is_there_afterwards() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    assert!(!build(&alice, "ssh-ng", &derivation("broken", "echo why; exit 3")).ok);
    let run = alice.ssh(&["shell", "log", "broken"]).unwrap().success().unwrap();
    assert_eq!(run.stdout, "why\n");
}
