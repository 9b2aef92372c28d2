//! Whole graphs of derivations, built on the server.
//!
//! [`load`] reads and checks the graph, [`plan`] keeps what has to be done, [`decide`] asks the view and the caches what is
//! there, [`take`] takes what was built before from the same graph, and [`run`] takes the steps, each of which goes down the reuse ladder like a single build.

mod decide;
mod load;
mod node;
mod plan;
mod ran;
mod run;
mod step;
mod take;

use std::collections::{BTreeMap, BTreeSet};

use firn_nix::realisation::DrvOutput;
use firn_nix::{StorePath, excerpt};
use firn_protocol::{
    BuildMode, BuildOptions, BuildResult, BuildStatus, BuiltOutput, DerivedPath, LogSink, Missing,
    OutputsSpec, Store as _, StoreError,
};

pub(crate) use load::{Graph, Nodes};

use crate::AccountStore;
use crate::findings::Findings;
use crate::ports::Ports;
use decide::Decider;
use node::Node;
use plan::{Outputs, Plan, Step};
use ran::Ran;
use run::Run;
use step::Wishes;

impl<P: Ports> AccountStore<P> {
    /// Makes targets valid; one result for each, in order.
    pub(crate) async fn build_targets(
        &self,
        targets: &[DerivedPath],
        mode: BuildMode,
        options: BuildOptions,
        log: LogSink,
    ) -> Result<Vec<BuildResult>, StoreError> {
        let (valid, findings) = self.named_and_fetched(targets).await?;
        if mode == BuildMode::Normal
            && let Some(results) = self.nothing_to_do(targets, &valid).await?
        {
            return Ok(results);
        }
        let roots = derivations(targets);
        let roots: BTreeSet<StorePath> = roots.intersection(&valid).cloned().collect();
        let graph = self.graph(&roots).await?;
        let mut decider = Decider::new(self, &graph).await?;
        let mut plan = Plan::of(&graph);
        for target in targets {
            want(&graph, &mut plan, target);
        }
        let asked: BTreeSet<usize> = roots.iter().filter_map(|root| graph.find(root)).collect();
        if mode != BuildMode::Normal {
            decider.force(asked.iter().copied());
        }
        let wishes = Wishes { mode, options, log };
        let ran = Run::new(decider, &mut plan, wishes, asked).finish().await?;
        Ok(targets
            .iter()
            .map(|target| result(&graph, &plan, &ran, (&valid, &findings), target))
            .collect())
    }

    /// The results, when all targets are valid and their derivations were looked at before.
    async fn nothing_to_do(
        &self,
        targets: &[DerivedPath],
        valid: &BTreeSet<StorePath>,
    ) -> Result<Option<Vec<BuildResult>>, StoreError> {
        let mut results = Vec::with_capacity(targets.len());
        let mut wanted = Vec::new();
        let mut checked = Vec::new();
        for target in targets {
            let mut result = BuildResult::new(BuildStatus::AlreadyValid, "");
            match target {
                DerivedPath::Opaque(path) if valid.contains(path) => {}
                DerivedPath::Opaque(_) => return Ok(None),
                DerivedPath::Built { drv_path, outputs } => {
                    let Some(node) = self
                        .house
                        .nodes
                        .get(drv_path)
                        .filter(|_| valid.contains(drv_path))
                    else {
                        return Ok(None);
                    };
                    let Ok(numbers) = numbers(&node, outputs) else {
                        return Ok(None);
                    };
                    let path = |number: usize| node.outputs.get(number)?.1.as_ref();
                    let paths: Option<Vec<StorePath>> = numbers.iter().map(|n| path(*n).cloned()).collect();
                    let Some(paths) = paths else { return Ok(None) };
                    result.built_outputs = told(&node, |n| path(n).filter(|_| numbers.contains(&n)));
                    wanted.extend(paths);
                    checked.push(drv_path.clone());
                }
            }
            results.push(result);
        }
        let view = self.view(&[&checked[..], &wanted].concat()).await?;
        let is_checked = |path: &StorePath| view.get(path).is_some_and(|c| c.object().is_addressed());
        let nothing = checked.iter().all(is_checked) && self.has_all(&view, &wanted);
        Ok(nothing.then_some(results))
    }

    /// By derivation and name: where outputs are whose paths do not follow from their graphs, as far as the account believes to know.
    pub(crate) async fn realised_outputs(
        &self,
        drv_paths: &BTreeSet<StorePath>,
    ) -> Result<BTreeMap<StorePath, BTreeMap<String, StorePath>>, StoreError> {
        let graph = self.graph(drv_paths).await?;
        let asked = || drv_paths.iter().filter_map(|path| graph.node(graph.find(path)?));
        let open = |node: &Node| {
            let outputs = node
                .outputs
                .iter()
                .enumerate()
                .filter(|(_, (_, path))| path.is_none());
            let ids = outputs.filter_map(|(output, (name, _))| Some((output, node.id(name)?)));
            ids.collect::<Vec<_>>()
        };
        let ids: Vec<DrvOutput> = asked().flat_map(|node| open(node)).map(|(_, id)| id).collect();
        let mut realised = BTreeMap::new();
        if ids.is_empty() {
            return Ok(realised);
        }
        let found = self.realisations(&ids).await?;
        for node in asked() {
            let known = open(node).into_iter().filter_map(|(output, id)| {
                let path = &found.get(&id)?.out_path;
                node.may_have(output, path).then(|| (id.output, path.clone()))
            });
            realised.insert(node.path.clone(), known.collect());
        }
        Ok(realised)
    }

    /// What making targets valid would need.
    pub(crate) async fn missing(&self, targets: &[DerivedPath]) -> Result<Missing, StoreError> {
        let mut missing = Missing::default();
        let mut asked = derivations(targets);
        asked.extend(targets.iter().filter_map(|target| match target {
            DerivedPath::Opaque(path) => Some(path.clone()),
            DerivedPath::Built { .. } => None,
        }));
        let valid = self.query_valid_paths(asked.clone(), false).await?;
        missing.unknown = asked.difference(&valid).cloned().collect();
        let roots: BTreeSet<StorePath> = derivations(targets).intersection(&valid).cloned().collect();
        let graph = self.graph(&roots).await?;
        let mut plan = Plan::of(&graph);
        if let Some(error) = roots.iter().find_map(|root| graph.error(root)) {
            return Err(StoreError::new(error.to_string()));
        }
        for target in targets {
            if let DerivedPath::Built { drv_path, .. } = target
                && let Some(Err(unknown)) = located(&graph, target)
            {
                return Err(StoreError::new(no_output(drv_path, unknown)));
            }
            want(&graph, &mut plan, target);
        }
        let mut decider = Decider::new(self, &graph).await?;
        decider.only_look();
        decider.decide(&mut plan, None).await?;
        let build = plan.all(Step::Build).filter_map(|number| graph.node(number));
        missing.will_build = build.map(|node| node.path.clone()).collect();
        let mut offers = decider.into_offers();
        let terms = self.terms().await?;
        if terms.settings.substitute && !missing.unknown.is_empty() {
            let findings = Findings::default();
            offers.extend(
                self.offers(&terms, missing.unknown.clone(), &findings)
                    .await?
                    .found,
            );
            self.note(&findings);
        }
        for (path, offer) in offers {
            missing.unknown.remove(&path);
            missing.download_size += offer.info.file_size.unwrap_or(0);
            missing.nar_size += offer.info.nar_size;
            missing.will_substitute.insert(path);
        }
        Ok(missing)
    }

    /// Those of the paths and derivations of targets that are valid, after the caches were asked for the others.
    async fn named_and_fetched(
        &self,
        targets: &[DerivedPath],
    ) -> Result<(BTreeSet<StorePath>, Findings), StoreError> {
        let named = targets.iter().map(|target| match target {
            DerivedPath::Opaque(path) => path.clone(),
            DerivedPath::Built { drv_path, .. } => drv_path.clone(),
        });
        self.fetched(named.collect()).await
    }
}

fn derivations(targets: &[DerivedPath]) -> BTreeSet<StorePath> {
    let built = targets.iter().filter_map(|target| match target {
        DerivedPath::Built { drv_path, .. } => Some(drv_path.clone()),
        DerivedPath::Opaque(_) => None,
    });
    built.collect()
}

/// The numbers of a target's derivation and outputs, or the name of an output that it does not have.
fn located<'t>(graph: &Graph, target: &'t DerivedPath) -> Option<Result<(usize, Outputs), &'t str>> {
    let DerivedPath::Built { drv_path, outputs } = target else {
        return None;
    };
    let number = graph.find(drv_path)?;
    let numbers = numbers(graph.node(number)?, outputs);
    Some(numbers.map(|numbers| (number, Outputs::of(numbers))))
}

/// The numbers of a node's outputs, or the name of one that it does not have.
fn numbers<'t>(node: &Node, outputs: &'t OutputsSpec) -> Result<Vec<usize>, &'t str> {
    match outputs {
        OutputsSpec::All => Ok((0..node.outputs.len()).collect()),
        OutputsSpec::Names(names) => {
            let number = |name: &'t String| node.output(name).ok_or(name.as_str());
            names.iter().map(number).collect()
        }
    }
}

fn no_output(drv_path: &StorePath, name: &str) -> String {
    format!("derivation '{drv_path}' has no output '{}'", excerpt(name))
}

fn want(graph: &Graph, plan: &mut Plan, target: &DerivedPath) {
    if let Some(Ok((number, outputs))) = located(graph, target) {
        plan.want(number, outputs);
    }
}

/// What became of one target.
fn result(
    graph: &Graph,
    plan: &Plan,
    ran: &Ran,
    (valid, findings): (&BTreeSet<StorePath>, &Findings),
    target: &DerivedPath,
) -> BuildResult {
    let drv_path = match target {
        DerivedPath::Opaque(path) | DerivedPath::Built { drv_path: path, .. } if !valid.contains(path) => {
            let why = match findings.why(path) {
                Some(why) => format!("path '{path}' is not valid: {why}"),
                None => format!("path '{path}' is not valid, and no cache of the account has it"),
            };
            return BuildResult::new(BuildStatus::NoSubstituters, why);
        }
        DerivedPath::Opaque(_) => return BuildResult::new(BuildStatus::AlreadyValid, ""),
        DerivedPath::Built { drv_path, .. } => drv_path,
    };
    match located(graph, target) {
        Some(Ok((number, outputs))) => {
            let mut result = ran.result(graph, plan, number);
            if result.status.is_success() {
                result.built_outputs = built_outputs(graph, plan, number, outputs);
            }
            result
        }
        Some(Err(unknown)) => BuildResult::new(BuildStatus::InputRejected, no_output(drv_path, unknown)),
        None => {
            let why = match graph.error(drv_path) {
                Some(error) => error.to_string(),
                None => format!("'{drv_path}' is not a derivation"),
            };
            BuildResult::new(BuildStatus::InputRejected, why)
        }
    }
}

fn built_outputs(
    graph: &Graph,
    plan: &Plan,
    number: usize,
    outputs: Outputs,
) -> BTreeMap<String, BuiltOutput> {
    match graph.node(number) {
        Some(node) => told(node, |output| {
            plan.path(graph, number, output).filter(|_| outputs.has(output))
        }),
        None => BTreeMap::new(),
    }
}

/// Clients learn from this where outputs are. `path` has those that are to be told.
fn told<'p>(node: &Node, path: impl Fn(usize) -> Option<&'p StorePath>) -> BTreeMap<String, BuiltOutput> {
    let outputs = node.outputs.iter().enumerate();
    let told = outputs.filter_map(|(number, (name, _))| {
        let output = BuiltOutput {
            drv_hash: node.ids.get(name)?.hex(),
            out_path: path(number)?.clone(),
            signatures: BTreeSet::new(),
            path_signatures: BTreeSet::new(),
        };
        Some((name.clone(), output))
    });
    told.collect()
}
