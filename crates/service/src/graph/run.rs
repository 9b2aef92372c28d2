//! Taking the steps of a plan, as many at a time as is useful, the most urgent first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use firn_nix::{BasicDerivation, StorePath};
use firn_protocol::{BuildMode, BuildOptions, BuildResult, BuildStatus, LogEvent, LogSink, StoreError};
use tokio::task::JoinSet;

use super::decide::Decider;
use super::load::Graph;
use super::node::Node;
use super::plan::{Plan, Step, paths};
use crate::AccountStore;
use crate::ports::Ports;
use crate::realise::Request;

/// Steps of one request that are under way at once, beyond what can run: what is reused waits for the disk, not for a slot.
const AHEAD: usize = 24;
/// Milliseconds that a build is taken to last of whose package nothing is known.
const UNKNOWN_COST: u64 = 1000;
/// Names that the database is asked about at once.
const TOGETHER: usize = 1024;

/// How a request went.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    results: HashMap<usize, BuildResult>,
    /// Of what failed because of something else: the step that failed.
    causes: HashMap<usize, usize>,
    /// The first step that failed, when nothing was begun after it.
    stopped: Option<usize>,
}

/// How one step ended.
enum Ended {
    Fetched,
    Built(BuildResult),
}

impl<P: Ports> AccountStore<P> {
    /// Decides and takes steps until the targets are valid, or cannot be.
    pub(super) async fn run_plan(
        &self,
        graph: &Graph,
        plan: &mut Plan,
        decider: &mut Decider<'_, P>,
        mode: BuildMode,
        options: BuildOptions,
        log: LogSink,
    ) -> Result<Ran, StoreError> {
        let keep_going = self.settings().await?.keep_going;
        let most = self
            .house
            .settings
            .max_jobs
            .saturating_mul(2)
            .saturating_add(AHEAD);
        let mut ran = Ran::default();
        let mut progress = Progress::default();
        let mut running = JoinSet::new();
        self.decide_and_link(graph, plan, decider, &log).await?;
        loop {
            while running.len() < most
                && ran.stopped.is_none()
                && let Some((number, urgency)) = plan.next()
            {
                let Some(node) = graph.node(number) else { continue };
                let store = self.clone();
                match plan.step(number) {
                    Step::Fetch => {
                        let wanted = paths(graph, number, plan.wanted(number)).unwrap_or_default();
                        running.spawn(async move {
                            let fetched = store.substitute(wanted.into_iter().collect()).await;
                            (number, fetched.map(|_| Ended::Fetched))
                        });
                    }
                    _ => {
                        let outputs = outputs_of_inputs(graph, node);
                        let mode = if decider.is_forced(number) {
                            mode
                        } else {
                            BuildMode::Normal
                        };
                        let (drv_path, log) = (node.path.clone(), log.clone());
                        let sound = graph.is_sound(number);
                        running.spawn(async move {
                            let step = async {
                                let outputs = match outputs {
                                    Ok(outputs) => outputs,
                                    Err(why) => return Ok(BuildResult::new(BuildStatus::InputRejected, why)),
                                };
                                let drv = store.with_inputs(&drv_path, outputs).await?;
                                let request = Request {
                                    drv_path,
                                    drv,
                                    mode,
                                    options,
                                    number: number as u64,
                                    urgency,
                                    sound,
                                    log,
                                };
                                store.realise(request).await
                            };
                            (number, step.await.map(Ended::Built))
                        });
                    }
                }
            }
            progress.tell(&log, plan, running.len(), &ran).await;
            let Some(joined) = running.join_next().await else {
                return Ok(ran);
            };
            let (number, ended) = joined.map_err(|error| {
                tracing::error!(%error, "a step of a graph has failed");
                StoreError::new(
                    "internal error: a build of the graph was lost; the operator's log has the details",
                )
            })?;
            match ended? {
                Ended::Fetched => {
                    if self.has_wanted(graph, plan, number).await? {
                        ran.results
                            .insert(number, BuildResult::new(BuildStatus::Substituted, ""));
                        plan.succeeded(number);
                    } else {
                        decider.give_up_fetching(number);
                        plan.build(number, graph);
                        let mut builds = decider.decide(plan, Some(&log)).await?;
                        builds.insert(number);
                        self.note_fallen(graph, plan, &builds, &mut ran);
                    }
                }
                Ended::Built(result) => {
                    let success = result.status.is_success();
                    ran.results.insert(number, result);
                    if success {
                        plan.succeeded(number);
                    } else {
                        ran.fell(plan.failed(number), number);
                        if !keep_going {
                            ran.stopped = Some(number);
                            running.abort_all();
                            while running.join_next().await.is_some() {}
                        }
                    }
                }
            }
        }
    }

    async fn decide_and_link(
        &self,
        graph: &Graph,
        plan: &mut Plan,
        decider: &mut Decider<'_, P>,
        log: &LogSink,
    ) -> Result<(), StoreError> {
        let builds = decider.decide(plan, Some(log)).await?;
        let costs = self.costs(graph, &builds).await;
        plan.rank(graph, |number| {
            costs.get(&number).copied().unwrap_or(UNKNOWN_COST)
        });
        plan.link(graph, &builds);
        Ok(())
    }

    /// Milliseconds that builds are expected to take, where that is known.
    async fn costs(&self, graph: &Graph, builds: &BTreeSet<usize>) -> HashMap<usize, u64> {
        let mut costs = HashMap::new();
        let mut by_system: BTreeMap<&[u8], Vec<(usize, &str)>> = BTreeMap::new();
        for &number in builds {
            if let Some(node) = graph.node(number)
                && let Some(name) = node.path.derivation_name()
            {
                by_system.entry(&node.platform).or_default().push((number, name));
            }
        }
        let Ok(terms) = self.terms().await else {
            return costs;
        };
        for (platform, nodes) in by_system {
            let Ok(system) = std::str::from_utf8(platform) else {
                continue;
            };
            for part in nodes.chunks(TOGETHER) {
                let names = part.iter().map(|(_, name)| (*name).to_owned()).collect();
                // It is for the order only.
                let expected = self.house.expected(terms.sharing(), system, &names).await;
                let expected = expected.unwrap_or_default();
                costs.extend(part.iter().filter_map(|(number, name)| {
                    let wall_ms = expected.get(*name)?.wall_ms;
                    Some((*number, wall_ms.max(1)))
                }));
            }
        }
        costs
    }

    /// Links builds that were decided late; what they need may have failed already.
    fn note_fallen(&self, graph: &Graph, plan: &mut Plan, builds: &BTreeSet<usize>, ran: &mut Ran) {
        plan.rank(graph, |_| UNKNOWN_COST);
        for (number, failed) in plan.link(graph, builds) {
            let cause = ran.causes.get(&failed).copied().unwrap_or(failed);
            ran.fell(plan.failed(number), cause);
        }
    }

    async fn has_wanted(&self, graph: &Graph, plan: &Plan, number: usize) -> Result<bool, StoreError> {
        let Some(wanted) = paths(graph, number, plan.wanted(number)) else {
            return Ok(false);
        };
        let view = self.view(&wanted).await?;
        Ok(wanted.iter().all(|path| view.get(path).is_some()))
    }

    /// A derivation with the outputs of other derivations as plain inputs.
    async fn with_inputs(
        &self,
        drv_path: &StorePath,
        outputs: BTreeSet<StorePath>,
    ) -> Result<BasicDerivation, StoreError> {
        let mut drv = self.derivation(drv_path).await?.basic;
        drv.input_srcs.extend(outputs);
        Ok(drv)
    }
}

/// The paths of all outputs that a node uses.
fn outputs_of_inputs(graph: &Graph, node: &Node) -> Result<BTreeSet<StorePath>, String> {
    let mut found = BTreeSet::new();
    for (drv_path, names) in &node.inputs {
        let input = graph.find(drv_path).and_then(|number| graph.node(number));
        let input = input.ok_or_else(|| {
            format!(
                "cannot build '{}': its input '{drv_path}' is not a valid derivation",
                node.path
            )
        })?;
        for name in names {
            let path = input.output(name).and_then(|n| input.outputs.get(n));
            let path = path.and_then(|(_, path)| path.clone()).ok_or_else(|| {
                format!(
                    "cannot build '{}': the path of output '{}' of '{drv_path}' is not known",
                    node.path,
                    name.escape_debug()
                )
            })?;
            found.insert(path);
        }
    }
    Ok(found)
}

impl Ran {
    fn fell(&mut self, fallen: Vec<usize>, cause: usize) {
        for number in fallen.into_iter().filter(|number| *number != cause) {
            self.causes.insert(number, cause);
        }
    }

    /// What became of a node that was wanted.
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
                    "'{}' was not built, because '{}' failed (to build on after a failure: FIRN_KEEP_GOING=true)",
                    path(number),
                    path(stopped)
                ),
            ),
            _ => BuildResult::new(
                BuildStatus::MiscFailure,
                format!("'{}' was not built", path(number)),
            ),
        }
    }
}

/// Numbers for the client's progress line.
#[derive(Default)]
struct Progress {
    told: Option<(u64, u64, u64, u64)>,
}

impl Progress {
    async fn tell(&mut self, log: &LogSink, plan: &Plan, running: usize, ran: &Ran) {
        let failed = ran.results.values().filter(|r| !r.status.is_success()).count() as u64;
        let done = ran.results.len() as u64 - failed;
        let now = (done, done + plan.pending() as u64, running as u64, failed);
        if self.told == Some(now) || now.1 == 0 {
            return;
        }
        self.told = Some(now);
        let (done, expected, running, failed) = now;
        let event = LogEvent::Progress {
            done,
            expected,
            running,
            failed,
        };
        // A client that is gone drops the request anyway.
        let _ = log.send(event).await;
    }
}
