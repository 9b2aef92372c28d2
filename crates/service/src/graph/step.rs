//! One step of a plan: a fetch, or a derivation whose inputs are built.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use firn_nix::StorePath;
use firn_nix::derivation::Resolved;
use firn_protocol::{BuildMode, BuildOptions, BuildResult, BuildStatus, LogSink, StoreError};

use super::load::Graph;
use super::node::{Node, parse};
use super::plan::Plan;
use crate::ports::Ports;
use crate::realise::Request;
use crate::{AccountStore, large};

/// What the client asked for besides its targets.
#[derive(Clone)]
pub(super) struct Wishes {
    /// For the targets; everything else is built when it is missing.
    pub(super) mode: BuildMode,
    pub(super) options: BuildOptions,
    pub(super) log: LogSink,
}

/// By derivation and name of the output: where it is.
type Inputs = HashMap<(StorePath, String), StorePath>;

/// A derivation to build.
pub(super) struct Build {
    node: Arc<Node>,
    number: usize,
    urgency: u64,
    sound: bool,
    inputs: Inputs,
}

/// How one step ended.
pub(super) enum Ended {
    Fetched,
    /// With the paths of outputs that did not follow from the graph.
    Built(BuildResult, BTreeMap<String, StorePath>),
}

impl Build {
    pub(super) fn new(graph: &Graph, plan: &Plan, number: usize, urgency: u64) -> Option<Self> {
        let node = graph.node(number)?;
        Some(Self {
            node: Arc::clone(node),
            number,
            urgency,
            sound: graph.is_sound(number),
            inputs: inputs(graph, plan, node),
        })
    }
}

/// Where all outputs are that a node uses.
fn inputs(graph: &Graph, plan: &Plan, node: &Node) -> Inputs {
    let mut found = Inputs::new();
    for (drv_path, outputs) in &node.inputs {
        let Some(number) = graph.find(drv_path) else {
            continue;
        };
        let Some(input) = graph.node(number) else { continue };
        for output in outputs.iter().map(|output| usize::from(*output)) {
            if let Some((name, _)) = input.outputs.get(output)
                && let Some(path) = plan.path(graph, number, output)
            {
                found.insert((drv_path.clone(), name.clone()), path.clone());
            }
        }
    }
    found
}

impl<P: Ports> AccountStore<P> {
    pub(super) async fn take_step(&self, build: Build, wishes: Wishes) -> Result<Ended, StoreError> {
        let resolved = match self.resolved(&build.node.path, &build.inputs).await? {
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
            mode: wishes.mode,
            options: wishes.options,
            number: build.number as u64,
            urgency: build.urgency,
            sound: build.sound,
            log: wishes.log,
            begun: AtomicBool::new(false),
        };
        let result = self.realise(request).await?;
        let realised = self.note_realised(&build.node, stated, &result).await?;
        Ok(Ended::Built(result, realised))
    }

    /// A derivation with the outputs of other derivations as plain inputs, or why there is none.
    async fn resolved(
        &self,
        drv_path: &StorePath,
        inputs: &Inputs,
    ) -> Result<Result<Resolved, String>, StoreError> {
        // Again what its path says: the account may have put another text in its place since the graph was read.
        let (turn, text) = self.derivation_text(drv_path).await?;
        let path = |drv: &StorePath, output: &str| inputs.get(&(drv.clone(), output.to_owned())).cloned();
        let resolved = large::read(text.len(), || {
            let drv = parse(drv_path, &text).map_err(|error| error.to_string())?;
            let resolved = drv.resolve(drv_path, &path);
            resolved.map_err(|e| format!("cannot build '{drv_path}': {e}"))
        });
        drop(turn);
        Ok(resolved)
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
            // What is below may be of one form, though nothing of this does refer to itself.
            let form = self.session.client.to_build();
            self.record_realisations(&ids.collect(), Some(form)).await?;
        }
        Ok(realised)
    }
}
