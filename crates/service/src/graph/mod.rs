//! Whole graphs of derivations, built on the server.
//!
//! [`load`] reads and checks the graph, [`plan`] keeps what has to be done, [`decide`] asks the view and the caches what is
//! there, [`take`] takes what was built before from the same graph, and [`run`] takes the steps, each of which goes down the reuse ladder like a single build.

mod decide;
mod load;
mod node;
mod plan;
mod run;
mod take;

use std::collections::{BTreeMap, BTreeSet};

use firn_nix::StorePath;
use firn_protocol::{
    BuildMode, BuildOptions, BuildResult, BuildStatus, BuiltOutput, DerivedPath, LogSink, Missing,
    OutputsSpec, Store as _, StoreError,
};

pub(crate) use load::{Graph, Nodes};

use crate::AccountStore;
use crate::ports::Ports;
use decide::Decider;
use plan::{Outputs, Plan, Step};
use run::Ran;

impl<P: Ports> AccountStore<P> {
    /// Makes targets valid; one result for each, in order.
    pub(crate) async fn build_targets(
        &self,
        targets: &[DerivedPath],
        mode: BuildMode,
        options: BuildOptions,
        log: LogSink,
    ) -> Result<Vec<BuildResult>, StoreError> {
        let valid = self.fetched(targets).await?;
        let roots = derivations(targets);
        let roots: BTreeSet<StorePath> = roots.intersection(&valid).cloned().collect();
        let graph = self.graph(&roots).await?;
        let mut decider = Decider::new(self, &graph).await?;
        let mut plan = Plan::of(&graph);
        for target in targets {
            want(&graph, &mut plan, target);
        }
        if mode != BuildMode::Normal {
            decider.force(roots.iter().filter_map(|root| graph.find(root)));
        }
        let ran = self
            .run_plan(&graph, &mut plan, &mut decider, mode, options, log)
            .await?;
        Ok(targets
            .iter()
            .map(|target| result(&graph, &plan, &ran, &valid, target))
            .collect())
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
        for target in targets {
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
            offers.extend(self.offers(&terms, missing.unknown.clone()).await?.found);
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
    async fn fetched(&self, targets: &[DerivedPath]) -> Result<BTreeSet<StorePath>, StoreError> {
        let named = targets.iter().map(|target| match target {
            DerivedPath::Opaque(path) => path.clone(),
            DerivedPath::Built { drv_path, .. } => drv_path.clone(),
        });
        self.query_valid_paths(named.collect(), true).await
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
    let node = graph.node(number)?;
    let numbers = match outputs {
        OutputsSpec::All => (0..node.outputs.len()).map(Ok).collect::<Result<Vec<_>, _>>(),
        OutputsSpec::Names(names) => names
            .iter()
            .map(|name| node.output(name).ok_or(name.as_str()))
            .collect(),
    };
    Some(numbers.map(|numbers| (number, Outputs::of(numbers))))
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
    valid: &BTreeSet<StorePath>,
    target: &DerivedPath,
) -> BuildResult {
    let drv_path = match target {
        DerivedPath::Opaque(path) | DerivedPath::Built { drv_path: path, .. } if !valid.contains(path) => {
            let why = format!("path '{path}' is not valid, and no cache of the account has it");
            return BuildResult::new(BuildStatus::NoSubstituters, why);
        }
        DerivedPath::Opaque(_) => return BuildResult::new(BuildStatus::AlreadyValid, ""),
        DerivedPath::Built { drv_path, .. } => drv_path,
    };
    match located(graph, target) {
        Some(Ok((number, outputs))) => {
            let mut result = ran.result(graph, plan, number);
            if result.status.is_success() {
                result.built_outputs = built_outputs(graph, number, outputs);
            }
            result
        }
        Some(Err(unknown)) => BuildResult::new(
            BuildStatus::InputRejected,
            format!(
                "derivation '{drv_path}' has no output '{}'",
                unknown.escape_debug()
            ),
        ),
        None => {
            let why = match graph.error(drv_path) {
                Some(error) => error.to_string(),
                None => format!("'{drv_path}' is not a derivation"),
            };
            BuildResult::new(BuildStatus::InputRejected, why)
        }
    }
}

/// Clients learn from this where the outputs are.
fn built_outputs(graph: &Graph, number: usize, outputs: Outputs) -> BTreeMap<String, BuiltOutput> {
    let Some(node) = graph.node(number) else {
        return BTreeMap::new();
    };
    let wanted = node.outputs.iter().enumerate().filter(|(n, _)| outputs.has(*n));
    let told = wanted.filter_map(|(_, (name, path))| {
        let output = BuiltOutput {
            drv_hash: node.ids.outputs.get(name)?.hex(),
            out_path: path.clone()?,
            signatures: BTreeSet::new(),
        };
        Some((name.clone(), output))
    });
    told.collect()
}
