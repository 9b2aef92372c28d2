//! `--check`: a build that is run again on purpose, compared, and remembered; what is shared stays as it was.
//!
//! Raw clients: Nix checks derivations of a remote builder on its own machine.

use firn_nix::StorePath;
use firn_protocol::{BuildMode, BuildStatus};

use crate::raw::{Raw, path, shell};
use crate::server;

fn ledger(server: &crate::Server, account: &str) -> serde_json::Value {
    let run = server
        .firn(&["reproducibility", "--account", account, "--json"])
        .unwrap()
        .success()
        .unwrap();
    serde_json::from_str(&run.stdout).unwrap()
}

async fn bytes(raw: &mut Raw, out: &StorePath) -> Vec<u8> {
    raw.download(out).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_differs_names_the_file_and_stands_in_the_ledger() {
    let Some(server) = server() else { return };
    for account in ["alice", "bob"] {
        server
            .firn(&["account", "add", account])
            .unwrap()
            .success()
            .unwrap();
    }
    let out = path("random");
    let script = "mkdir $out; echo same > $out/same; cat /proc/sys/kernel/random/uuid > $out/other";
    let (drv_path, drv) = shell("random", out.clone(), script);
    let mut alice = Raw::open(&server, "alice").await;
    let (built, _) = alice.build_in(&drv_path, &drv, BuildMode::Normal).await.unwrap();
    assert_eq!(built.status, BuildStatus::Built);
    let first = bytes(&mut alice, &out).await;
    assert_eq!(ledger(&server, "alice")["builds"], serde_json::json!([]));

    let (checked, log) = alice.build_in(&drv_path, &drv, BuildMode::Check).await.unwrap();
    assert_eq!(checked.status, BuildStatus::NotDeterministic);
    let text = String::from_utf8(checked.error_msg).unwrap();
    assert!(
        text.contains("may not be deterministic") && text.contains("other (differs from byte"),
        "{text}"
    );
    assert!(
        log.last().unwrap().contains("may not be deterministic"),
        "{log:?}"
    );

    let row = ledger(&server, "alice")["builds"][0].clone();
    assert_eq!(row["derivation"], drv_path.to_string(), "{row}");
    assert_eq!(row["contents"].as_array().unwrap().len(), 2, "{row}");
    let differences = row["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 1, "{row}");
    assert_eq!(differences[0]["file"], "other", "{row}");
    let diff = [
        "explain",
        "--diff",
        &out.to_string(),
        "--account",
        "alice",
        "--json",
    ];
    let diff = server.firn(&diff).unwrap().success().unwrap();
    assert!(diff.stdout.contains(r#""file":"other""#), "{}", diff.stdout);

    // Her view and what is shared stay as they were.
    assert_eq!(bytes(&mut alice, &out).await, first);
    let mut bob = Raw::open(&server, "bob").await;
    bob.build(&drv_path, &drv).await.unwrap();
    assert_eq!(bytes(&mut bob, &out).await, first);

    let (drv_path, drv) = shell("stable", path("stable"), "echo stable > $out");
    for mode in [BuildMode::Normal, BuildMode::Check] {
        let (result, _) = alice.build_in(&drv_path, &drv, mode).await.unwrap();
        assert_eq!(result.status, BuildStatus::Built);
    }
    assert_eq!(ledger(&server, "alice")["builds"].as_array().unwrap().len(), 1);
    assert!(alice.end().await.ok && bob.end().await.ok);
}
