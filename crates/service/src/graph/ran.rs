//! What became of the steps of a plan, for the client.

use std::collections::{BTreeSet, HashMap};

use firn_protocol::{BuildResult, BuildStatus, LogEvent, LogSink};

use super::load::Graph;
use super::plan::{Plan, Step};
use crate::hint;

/// How a request went.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    /// What the client wants to hear of.
    asked: BTreeSet<usize>,
    /// Of what failed, and of what was asked for.
    results: HashMap<usize, BuildResult>,
    /// Of what failed because of something else: the step that failed.
    causes: HashMap<usize, usize>,
    /// The first step that failed, when nothing was begun after it.
    pub(super) stopped: Option<usize>,
    done: u64,
    failed: u64,
    /// What the client was told last.
    told: Option<[u64; 4]>,
}

impl Ran {
    pub(super) fn new(asked: BTreeSet<usize>) -> Self {
        Self {
            asked,
            ..Self::default()
        }
    }

    /// A step has ended.
    pub(super) fn note(&mut self, number: usize, result: BuildResult) {
        let success = result.status.is_success();
        match success {
            true => self.done += 1,
            false => self.failed += 1,
        }
        if !success || self.asked.contains(&number) {
            self.results.insert(number, result);
        }
    }

    /// What something failed for that needs a step that has failed or fallen.
    pub(super) fn cause(&self, number: usize) -> usize {
        self.causes.get(&number).copied().unwrap_or(number)
    }

    /// Numbers for the client's progress line, when they have changed.
    pub(super) async fn tell(&mut self, log: &LogSink, plan: &Plan, running: usize) {
        let expected = self.done + plan.pending() as u64;
        let now = [self.done, expected, running as u64, self.failed];
        if self.told == Some(now) || expected == 0 {
            return;
        }
        self.told = Some(now);
        let event = LogEvent::Progress {
            done: self.done,
            expected,
            running: running as u64,
            failed: self.failed,
        };
        // A client that is gone drops the request anyway.
        let _ = log.send(event).await;
    }

    pub(super) fn fell(&mut self, fallen: Vec<usize>, cause: usize) {
        for number in fallen.into_iter().filter(|number| *number != cause) {
            self.causes.insert(number, cause);
        }
    }

    /// What became of a node that was asked for.
    pub(super) fn result(&self, graph: &Graph, plan: &Plan, number: usize) -> BuildResult {
        if let Some(result) = self.results.get(&number) {
            return result.clone();
        }
        let path = |number: usize| {
            graph
                .node(number)
                .map_or_else(String::new, |n| n.path.to_string())
        };
        let text = |cause: &usize| {
            let result = self.results.get(cause);
            result.map_or_else(Vec::new, |result| result.error_msg.clone())
        };
        if let Some(cause) = self.causes.get(&number) {
            let mut why = format!(
                "cannot build '{}', which needs '{}': ",
                path(number),
                path(*cause)
            )
            .into_bytes();
            why.extend(text(cause));
            return BuildResult::new(BuildStatus::DependencyFailed, why);
        }
        match (plan.step(number), self.stopped) {
            (Step::Done, _) => BuildResult::new(BuildStatus::AlreadyValid, ""),
            (_, Some(stopped)) => BuildResult::new(
                BuildStatus::MiscFailure,
                format!(
                    "'{}' was not built, because '{}' failed (to build on after a failure: {})",
                    path(number),
                    path(stopped),
                    hint::set("keep-going", "true")
                ),
            ),
            _ => BuildResult::new(
                BuildStatus::MiscFailure,
                format!("'{}' was not built", path(number)),
            ),
        }
    }
}
