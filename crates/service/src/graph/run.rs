//! Taking the steps of a plan, as many at a time as is useful, the most urgent first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use firn_nix::StorePath;
use firn_nix::derivation::Resolved;
use firn_protocol::{BuildMode, BuildOptions, BuildResult, BuildStatus, LogEvent, LogSink, StoreError};
use tokio::task::JoinSet;

use super::decide::Decider;
use super::load::Graph;
use super::node::Node;
use super::plan::{Plan, Step};
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
    /// With the paths of outputs that did not follow from the graph.
    Built(BuildResult, BTreeMap<String, StorePath>),
}

/// By derivation and name of the output: where it is.
type Inputs = HashMap<(StorePath, String), StorePath>;

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
                        let wanted = plan.wanted_paths(graph, number).unwrap_or_default();
                        running.spawn(async move {
                            let fetched = store.substitute(wanted.into_iter().collect()).await;
                            (number, fetched.map(|_| Ended::Fetched))
                        });
                    }
                    _ => {
                        let inputs = inputs(graph, plan, node);
                        let mode = match decider.is_forced(number) {
                            true => mode,
                            false => BuildMode::Normal,
                        };
                        let (node, log) = (Arc::clone(node), log.clone());
                        let sound = graph.is_sound(number);
                        running.spawn(async move {
                            let step = async {
                                let resolved = match store.resolved(&node.path, &inputs).await? {
                                    Ok(resolved) => resolved,
                                    Err(why) => {
                                        let rejected = BuildResult::new(BuildStatus::InputRejected, why);
                                        return Ok(Ended::Built(rejected, BTreeMap::new()));
                                    }
                                };
                                let stated = resolved.drv.outputs.iter();
                                let stated: BTreeMap<String, StorePath> = stated
                                    .filter_map(|(name, output)| Some((name.clone(), output.path()?.clone())))
                                    .collect();
                                let request = Request {
                                    drv_path: resolved.drv_path,
                                    drv: resolved.drv,
                                    mode,
                                    options,
                                    number: number as u64,
                                    urgency,
                                    sound,
                                    log,
                                };
                                let result = store.realise(request).await?;
                                let realised = store.note_realised(&node, stated, &result).await?;
                                Ok(Ended::Built(result, realised))
                            };
                            (number, step.await)
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
                Ended::Built(result, realised) => {
                    for (name, path) in realised {
                        if let Some(output) = graph.node(number).and_then(|node| node.output(&name)) {
                            plan.realise(number, output, path);
                        }
                    }
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
        let Some(wanted) = plan.wanted_paths(graph, number) else {
            return Ok(false);
        };
        let view = self.view(&wanted).await?;
        Ok(wanted.iter().all(|path| view.get(path).is_some()))
    }

    /// A derivation with the outputs of other derivations as plain inputs, or why there is none.
    async fn resolved(
        &self,
        drv_path: &StorePath,
        inputs: &Inputs,
    ) -> Result<Result<Resolved, String>, StoreError> {
        let drv = self.derivation(drv_path).await?;
        let path = |drv: &StorePath, output: &str| inputs.get(&(drv.clone(), output.to_owned())).cloned();
        let resolved = drv.resolve(drv_path, &path);
        Ok(resolved.map_err(|e| format!("cannot build '{drv_path}': {e}")))
    }

    /// Remembers, by the derivation as it stands in the graph, where outputs are whose paths did not follow from it. So it need not be
    /// resolved to find them.
    async fn note_realised(
        &self,
        node: &Node,
        stated: BTreeMap<String, StorePath>,
        result: &BuildResult,
    ) -> Result<BTreeMap<String, StorePath>, StoreError> {
        let mut realised = BTreeMap::new();
        if !result.status.is_success() {
            return Ok(realised);
        }
        for (name, _) in node.outputs.iter().filter(|(_, path)| path.is_none()) {
            let built = result.built_outputs.get(name).map(|output| &output.out_path);
            if let Some(path) = built.or_else(|| stated.get(name)) {
                realised.insert(name.clone(), path.clone());
            }
        }
        if !realised.is_empty() {
            let ids = realised.iter();
            let ids = ids.filter_map(|(name, path)| Some((node.id(name)?, path.clone())));
            self.record_realisations(&ids.collect()).await?;
        }
        Ok(realised)
    }
}

/// Where all outputs are that a node uses.
fn inputs(graph: &Graph, plan: &Plan, node: &Node) -> Inputs {
    let mut found = Inputs::new();
    for (drv_path, names) in &node.inputs {
        let Some(number) = graph.find(drv_path) else {
            continue;
        };
        let Some(input) = graph.node(number) else { continue };
        for name in names {
            let path = input
                .output(name)
                .and_then(|output| plan.path(graph, number, output));
            if let Some(path) = path {
                found.insert((drv_path.clone(), name.clone()), path.clone());
            }
        }
    }
    found
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
