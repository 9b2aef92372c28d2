//! What cannot be built gets a clear answer, and the connection goes on.

use crate::{build, derivation, server};

#[test]
fn each_refusal_names_the_thing() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    let with = |attributes: &str| {
        format!(
            "derivation {{ name = \"refused\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; args = [ \"-c\" \"echo > $out\" ]; {attributes} }}"
        )
    };
    let cases = [
        (
            derivation("fails", "echo some last words; exit 7"),
            &["exit code 7", "some last words"][..],
        ),
        (derivation("nothing", "true"), &["failed to produce output path"]),
        (
            with("allowedReferences = [ ]; x = builtins.toFile \"dep\" \"y\";")
                .replace("echo > $out", "echo $x > $out"),
            &["not allowed to refer to"],
        ),
    ];
    for (expression, expected) in cases {
        let run = build(&alice, "ssh-ng", &expression);
        assert!(!run.ok);
        for text in expected {
            assert!(run.stderr.contains(text), "'{text}' is not in: {}", run.stderr);
        }
    }
    build(&alice, "ssh-ng", &derivation("fine", "echo fine > $out"))
        .success()
        .unwrap();
}

#[test]
fn an_unknown_key_gets_in_nowhere() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    let keys = server
        .firn(&["ssh-keys", "list", "--account", "alice", "--json"])
        .unwrap()
        .success()
        .unwrap();
    let keys: serde_json::Value = serde_json::from_str(&keys.stdout).unwrap();
    let fingerprint = keys[0]["fingerprint"].as_str().unwrap();
    server
        .firn(&["ssh-keys", "remove", fingerprint, "--account", "alice"])
        .unwrap()
        .success()
        .unwrap();
    let run = alice.ssh(&["nix-daemon", "--stdio"]).unwrap();
    assert!(
        !run.ok && run.stderr.contains("Permission denied"),
        "{}",
        run.stderr
    );
}
