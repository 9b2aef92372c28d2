//! The harmless attempts, against the table.

use std::collections::BTreeMap;

use firn_attack::THREATS;

use super::backend::{Attack, Backend, Ended};

/// Every attempt comes out as the table says.
pub async fn all(backend: &impl Backend) {
    let attack = Attack::new(&["probe-all"]);
    let ended = tokio::select! {
        ended = attack.run(backend) => ended,
        never = backend.outside().stir() => match never {},
    };
    check(backend, &ended);
    assert_eq!(backend.outside().touched(), Vec::<&str>::new());
    assert_eq!(backend.left(), Vec::<String>::new());
}

/// The report of a build that has made every attempt.
pub fn check(backend: &impl Backend, ended: &Ended) {
    let said = ended.log.escape_ascii().to_string().replace("\\n", "\n");
    let outputs = ended
        .result
        .as_ref()
        .unwrap_or_else(|failure| panic!("{failure}\n{said}"));
    check_report(backend, &std::fs::read_to_string(&outputs["out"]).unwrap());
}

/// Every outcome, against the table.
pub fn check_report(backend: &impl Backend, report: &str) {
    let outcomes = outcomes(report);
    let mut wrong = Vec::new();
    for threat in THREATS {
        let outcome = outcomes[threat.id];
        let answer = threat.answer(backend.column());
        println!("{:?} {} {}: {outcome}", backend.column(), threat.row, threat.id);
        if !answer.allows(outcome) {
            wrong.push(format!(
                "{} ({}): {outcome}, and must be {answer:?}",
                threat.id, threat.what
            ));
        }
    }
    assert_eq!(outcomes.len(), THREATS.len());
    assert!(wrong.is_empty(), "{:?}:\n{}", backend.column(), wrong.join("\n"));
}

/// By name.
pub fn outcomes(report: &str) -> BTreeMap<&str, &str> {
    report.lines().map(|line| line.split_once(' ').unwrap()).collect()
}
