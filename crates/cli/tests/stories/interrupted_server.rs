//! `kill -9` during uploads and builds: what was acknowledged stays, nothing half-written shows.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::{build_locally, derivation, server};

const URL: &str = "ssh-ng://firn";

#[test]
fn acknowledged_paths_survive_and_broken_ones_leave_nothing() {
    let Some(mut server) = server() else { return };
    let alice = server.client("alice").unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        let small = build_locally(
            &alice,
            &derivation(&format!("small-{round}"), "echo small > $out"),
        )
        .remove(0);
        alice
            .nix
            .run("nix", &["copy", "--no-check-sigs", "--to", URL, &small])
            .unwrap()
            .success()
            .unwrap();
        acknowledged.push(small);

        let big = derivation(&format!("big-{round}"), "head -c 60000000 /dev/urandom > $out");
        let big = build_locally(&alice, &big).remove(0);
        let mut upload = spawn(&alice, &["nix", "copy", "--no-check-sigs", "--to", URL, &big]);
        let slow = derivation(&format!("slow-{round}"), "echo started; sleep 600");
        let drv = alice
            .nix
            .instantiate(&alice.nix.expression(&slow).unwrap(), &[])
            .unwrap()
            .remove(0);
        let builders = format!("{URL} x86_64-linux - 8 1 - - -");
        let mut build = spawn(
            &alice,
            &[
                "nix-store",
                "--realise",
                "--max-jobs",
                "0",
                "--builders",
                &builders,
                &drv,
            ],
        );
        std::thread::sleep(Duration::from_millis(150 * (round + 1)));
        server.kill();
        for child in [&mut upload, &mut build] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        server.launch().unwrap();
        let valid = |path: &str| {
            alice
                .nix
                .run("nix", &["path-info", "--store", URL, path])
                .unwrap()
                .ok
        };
        for path in &acknowledged {
            assert!(valid(path), "{path} was acknowledged");
        }
        let staging = server.data_dir().join("contents/staging");
        // What is there is the running server's own, and holds no content.
        let sessions: Vec<_> = std::fs::read_dir(staging)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        let names: Vec<_> = std::fs::read_dir(&sessions[0])
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["unsynced"]);
        assert_eq!(
            std::fs::read_dir(server.data_dir().join("builds"))
                .unwrap()
                .count(),
            0
        );
        // The same upload goes through now, whether or not the first one had been acknowledged.
        alice
            .nix
            .run("nix", &["copy", "--no-check-sigs", "--to", URL, &big])
            .unwrap()
            .success()
            .unwrap();
    }
    let laptop = server.another_client("alice", "laptop").unwrap();
    for path in &acknowledged {
        laptop
            .nix
            .run("nix", &["copy", "--no-check-sigs", "--from", URL, path])
            .unwrap()
            .success()
            .unwrap();
        assert_eq!(
            laptop.nix.nar_hash(path).unwrap(),
            alice.nix.nar_hash(path).unwrap()
        );
    }

    // What a killed server leaves to its next start is the testkit's to clear when there is none.
    let groups = server.groups();
    println!("{groups:?}");
    server.kill();
    drop(server);
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
}

fn spawn(client: &crate::Client, words: &[&str]) -> Child {
    let mut command = client.nix.command(words[0], true);
    command
        .args(&words[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
