//! Requests for a build that is running join it.

use crate::{answers, build, derivation, server};

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
