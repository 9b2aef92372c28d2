//! Clients whose account is taken away while they are there.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::{is_well, says, server};
use crate::raw::{Raw, WORKER, file, object};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_removed_account_ends() {
    let Some(server) = server("", &["mallory", "alice"]) else {
        return;
    };
    let mut raw = Raw::open(&server, "mallory").await;
    let mine = object("mine", file(b"mine"));
    raw.upload(&mine).await.unwrap();
    server
        .firn(&["account", "remove", "mallory"])
        .unwrap()
        .success()
        .unwrap();
    // Somebody else under the same name is somebody else.
    server
        .firn(&["account", "add", "mallory"])
        .unwrap()
        .success()
        .unwrap();
    Raw::open(&server, "mallory")
        .await
        .upload(&object("theirs", file(b"theirs")))
        .await
        .unwrap();

    let end = raw.end().await;
    assert!(!end.ok && end.output.is_empty());
    says(&end.error, &["mallory", "does not exist any more"]);
    is_well(&server, "alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_a_removed_account_gets_no_new_session() {
    let Some(server) = server("", &["alice"]) else {
        return;
    };
    let mallory = server.client("mallory").unwrap();
    let socket = mallory.nix.dir().join("master");
    let ssh = |more: &[&str]| {
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(&mallory.ssh_config)
            .arg("-S")
            .arg(&socket)
            .args(more);
        command.stdin(Stdio::null());
        command
    };
    let mut master = ssh(&["-M", "-N", "firn"]).spawn().unwrap();
    for _ in 0..200 {
        if socket.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = ssh(&["firn", WORKER]).output().unwrap();
    assert!(before.stderr.is_empty(), "{}", before.stderr.escape_ascii());
    server
        .firn(&["account", "remove", "mallory"])
        .unwrap()
        .success()
        .unwrap();
    let after = ssh(&["firn", WORKER]).output().unwrap();
    assert!(!after.status.success() && after.stdout.is_empty());
    // Nobody has to end it.
    master.wait().unwrap();
    is_well(&server, "alice").await;
}
