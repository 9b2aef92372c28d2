//! Taking the steps of a plan, as many at a time as is useful, the most urgent first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;

use firn_protocol::{BuildMode, BuildResult, BuildStatus, LogEvent, StoreError};
use tokio::task::JoinSet;

use super::decide::Decider;
use super::load::Graph;
use super::plan::{Plan, Step};
use super::ran::Ran;
use super::step::{Build, Ended, Wishes};
use crate::findings::Findings;
use crate::ports::Ports;
use crate::{AccountStore, on_behalf_of};

/// Steps of one request that are under way at once, beyond what can run: what is reused waits for the disk, not for a slot.
const AHEAD: usize = 24;
/// Milliseconds that a build is taken to last of whose package nothing is known.
const UNKNOWN_COST: u64 = 1000;
/// Names that the database is asked about at once.
const TOGETHER: usize = 1024;

/// One request under way.
pub(super) struct Run<'r, P: Ports> {
    store: &'r AccountStore<P>,
    graph: &'r Graph,
    plan: &'r mut Plan,
    decider: Decider<'r, P>,
    wishes: Wishes,
    running: JoinSet<(usize, Result<Ended, StoreError>)>,
    ran: Ran,
}

impl<'r, P: Ports> Run<'r, P> {
    /// `asked` are the targets.
    pub(super) fn new(
        decider: Decider<'r, P>,
        plan: &'r mut Plan,
        wishes: Wishes,
        asked: BTreeSet<usize>,
    ) -> Self {
        Self {
            store: decider.store,
            graph: decider.graph,
            plan,
            decider,
            wishes,
            running: JoinSet::new(),
            ran: Ran::new(asked),
        }
    }

    /// Decides and takes steps until the targets are valid, or cannot be. Dropped before, it leaves no step behind.
    pub(super) async fn finish(mut self) -> Result<Ran, StoreError> {
        let keep_going = self.store.settings().await?.keep_going;
        let jobs = self.store.house.settings.max_jobs;
        let most = jobs.saturating_mul(2).saturating_add(AHEAD);
        self.decide().await?;
        loop {
            while self.running.len() < most
                && self.ran.stopped.is_none()
                && let Some((number, urgency)) = self.plan.next()
            {
                self.begin(number, urgency);
            }
            let running = self.running.len();
            self.ran.tell(&self.wishes.log, self.plan, running).await;
            let Some(joined) = self.running.join_next().await else {
                return Ok(self.ran);
            };
            let (number, ended) = joined.map_err(|error| {
                tracing::error!(%error, "a step of a graph has failed");
                StoreError::new(
                    "internal error: a build of the graph was lost; the operator's log has the details",
                )
            })?;
            if !self.end(number, ended?).await? && !keep_going {
                self.ran.stopped = Some(number);
                self.running.shutdown().await;
            }
        }
    }

    async fn decide(&mut self) -> Result<(), StoreError> {
        let builds = self.decider.decide(self.plan, Some(&self.wishes.log)).await?;
        // Before any build, and so that it is seen where builds' logs are not.
        for line in self.store.session.untold() {
            let _ = self
                .wishes
                .log
                .send(LogEvent::Message(format!("firn: {line}")))
                .await;
        }
        let costs = self.costs(&builds).await;
        let cost = |number| costs.get(&number).copied().unwrap_or(UNKNOWN_COST);
        self.plan.rank(self.graph, cost);
        self.link(&builds);
        Ok(())
    }

    /// Has new builds wait for what they need, which may have failed already.
    fn link(&mut self, builds: &BTreeSet<usize>) {
        for (number, failed) in self.plan.link(self.graph, builds) {
            let cause = self.ran.cause(failed);
            self.ran.fell(self.plan.failed(number), cause);
        }
    }

    fn begin(&mut self, number: usize, urgency: u64) {
        let store = self.store.clone();
        if self.plan.step(number) == Step::Fetch {
            let wanted = self.plan.wanted_paths(self.graph, number).unwrap_or_default();
            self.spawn(async move {
                let findings = Findings::default();
                let fetched = store.substitute(wanted.into_iter().collect(), &findings).await;
                (number, fetched.map(|_| Ended::Fetched))
            });
            return;
        }
        let Some(build) = Build::new(self.graph, self.plan, number, urgency) else {
            return;
        };
        let mut wishes = self.wishes.clone();
        if !self.decider.is_forced(number) {
            wishes.mode = BuildMode::Normal;
        }
        self.spawn(async move { (number, store.take_step(build, wishes).await) });
    }

    fn spawn(&mut self, step: impl Future<Output = (usize, Result<Ended, StoreError>)> + Send + 'static) {
        self.running.spawn(on_behalf_of(self.store.account.id, step));
    }

    /// Whether it ended well, or goes on in another way.
    async fn end(&mut self, number: usize, ended: Ended) -> Result<bool, StoreError> {
        match ended {
            Ended::Fetched if self.has_wanted(number).await? => {
                self.ran
                    .note(number, BuildResult::new(BuildStatus::Substituted, ""));
                self.plan.succeeded(number);
            }
            Ended::Fetched => {
                self.decider.give_up_fetching(number);
                self.plan.build(number, self.graph);
                let mut builds = self.decider.decide(self.plan, Some(&self.wishes.log)).await?;
                builds.insert(number);
                self.link(&builds);
            }
            Ended::Built(result, realised) => {
                let node = self.graph.node(number);
                for (name, path) in realised {
                    if let Some(output) = node.and_then(|node| node.output(&name)) {
                        self.plan.realise(number, output, path);
                    }
                }
                let success = result.status.is_success();
                self.ran.note(number, result);
                match success {
                    true => self.plan.succeeded(number),
                    false => self.ran.fell(self.plan.failed(number), number),
                }
                return Ok(success);
            }
        }
        Ok(true)
    }

    async fn has_wanted(&self, number: usize) -> Result<bool, StoreError> {
        let Some(wanted) = self.plan.wanted_paths(self.graph, number) else {
            return Ok(false);
        };
        let view = self.store.view(&wanted).await?;
        Ok(wanted.iter().all(|path| view.get(path).is_some()))
    }

    /// Milliseconds that builds are expected to take, where that is known.
    async fn costs(&self, builds: &BTreeSet<usize>) -> HashMap<usize, u64> {
        let mut costs = HashMap::new();
        let mut by_system: BTreeMap<&[u8], Vec<(usize, &str)>> = BTreeMap::new();
        for &number in builds {
            if let Some(node) = self.graph.node(number)
                && let Some(name) = node.path.derivation_name()
            {
                by_system.entry(&node.platform).or_default().push((number, name));
            }
        }
        let Ok(terms) = self.store.terms().await else {
            return costs;
        };
        for (platform, nodes) in by_system {
            let Ok(system) = std::str::from_utf8(platform) else {
                continue;
            };
            for part in nodes.chunks(TOGETHER) {
                let names = part.iter().map(|(_, name)| (*name).to_owned()).collect();
                // It is for the order only.
                let expected = self.store.house.expected(terms.sharing(), system, &names).await;
                let expected = expected.unwrap_or_default();
                costs.extend(part.iter().filter_map(|(number, name)| {
                    let wall_ms = expected.get(*name)?.wall_ms;
                    Some((*number, wall_ms.max(1)))
                }));
            }
        }
        costs
    }
}
