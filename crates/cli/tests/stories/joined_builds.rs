//! Requests for a build that is running join it.

use std::collections::{BTreeMap, BTreeSet};

use firn_protocol::BuildMode;

use crate::raw::{Raw, content, path, shell};
use crate::{answers, build, derivation, rungs, server};

#[test]
fn many_requests_at_once_are_one_run() {
    let Some(server) = server() else { return };
    let clients: Vec<_> = (0..5)
        .map(|i| server.client(&format!("account{i}")).unwrap())
        .collect();
    let expression = derivation(
        "slow",
        "echo first line; sleep 6; echo last line; cat /proc/sys/kernel/random/uuid > $out",
    );
    let runs: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = clients
            .iter()
            .map(|client| scope.spawn(|| build(client, "ssh-ng", &expression)))
            .collect();
        started
            .into_iter()
            .map(|t| t.join().unwrap().success().unwrap())
            .collect()
    });
    let mut rungs: Vec<String> = (0..5)
        .map(|i| answers(&server, &format!("account{i}"))[0].0.clone())
        .collect();
    rungs.sort();
    assert_eq!(rungs, ["built", "joined", "joined", "joined", "joined"]);
    let out = &runs[0].lines()[0];
    let hashes: std::collections::BTreeSet<String> =
        clients.iter().map(|c| c.nix.nar_hash(out).unwrap()).collect();
    assert_eq!(hashes.len(), 1, "the builder is random: one run gives one answer");
    for run in &runs {
        assert!(
            run.stderr.contains("first line") && run.stderr.contains("last line"),
            "whole log: {}",
            run.stderr
        );
    }
}

/// Requests at once, of how many accounts.
const REQUESTS: usize = 200;
const ACCOUNTS: usize = 20;
/// Lines of the log.
const LINES: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_requests_of_twenty_accounts_are_one_run() {
    let Some(server) = server() else { return };
    let accounts: Vec<String> = (0..ACCOUNTS).map(|n| format!("account{n}")).collect();
    for account in &accounts {
        server
            .firn(&["account", "add", account])
            .unwrap()
            .success()
            .unwrap();
    }
    let out = path("wanted");
    let script = format!(
        "i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i.; done; sleep 10; echo last line; \
         cat /proc/sys/kernel/random/uuid > $out"
    );
    let (drv_path, drv) = shell("wanted", out.clone(), &script);
    let mut clients = Vec::new();
    for n in 0..REQUESTS {
        clients.push(Raw::open(&server, &accounts[n % ACCOUNTS]).await);
    }
    let mut requests = tokio::task::JoinSet::new();
    for mut client in clients {
        let (drv_path, drv, out) = (drv_path.clone(), drv.clone(), out.clone());
        requests.spawn(async move {
            let (result, log) = client.build_in(&drv_path, &drv, BuildMode::Normal).await.unwrap();
            let nar = client.download(&out).await.unwrap();
            assert!(client.end().await.ok);
            (result.status.is_success(), result.start_time, content(&nar), log)
        });
    }
    let mut answers = BTreeSet::new();
    for (ok, start, content, mut log) in requests.join_all().await {
        let told = log.pop().unwrap();
        assert!(told.starts_with("firn: "), "{told}");
        let expected = (1..=LINES).map(|n| format!("line {n}."));
        let expected: Vec<String> = expected.chain(["last line".to_owned()]).collect();
        assert!(log == expected, "a log of {} lines: {told}", log.len());
        answers.insert((ok, start, content));
    }
    assert_eq!(answers.len(), 1, "equal answers: {answers:?}");
    let mut by_rung: BTreeMap<String, usize> = BTreeMap::new();
    for rung in accounts.iter().flat_map(|account| rungs(&server, account)) {
        *by_rung.entry(rung).or_default() += 1;
    }
    assert_eq!(by_rung["built"], 1, "{by_rung:?}");
    assert_eq!(by_rung["joined"], REQUESTS - 1, "{by_rung:?}");
}
