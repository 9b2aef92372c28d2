//! Taking what others have built from the same graph: grounded results.
//!
//! Believing them needs no comparison of inputs: the paths follow from the graph, and everything below was built from checked leaves. Only
//! what the account has already of the graph must be what they were built of; else its own build would use something else.
//!
//! Reading them is another question: the account must have the leaves itself. Its plain paths it has, checked, or the graph would not be
//! sound; a fixed output it must have, or this service must have built it from this very derivation, which happens without anybody's login.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use firn_core::{Claim, Ground, KeyId, Origin, Rung};
use firn_nix::StorePath;
use firn_nix::derivation::DerivationKind;
use firn_protocol::{LogEvent, LogSink, StoreError};

use super::decide::Decider;
use super::load::Graph;
use super::node::Node;
use super::plan::Plan;
use crate::ports::{Builds as _, GroundedOutput, Grounds as _, Ports, RequestRecord};
use crate::resolve::failed;
use crate::{AccountStore, signing};

/// Paths that the database is asked about at once.
const TOGETHER: usize = 1024;

/// What can be taken for one graph.
pub(super) struct Taker {
    ground: Ground,
    /// By node: whether what is built of it may be taken. Found when it is needed first.
    open: Option<Vec<bool>>,
    by_output: HashMap<StorePath, Vec<usize>>,
    found: Found,
}

/// What was found of some paths. Everything that these refer to is valid or found, too.
#[derive(Default)]
struct Found {
    outputs: BTreeMap<StorePath, GroundedOutput>,
    /// Neither valid nor to be had.
    absent: BTreeSet<StorePath>,
}

impl Taker {
    /// `None` when there is no sandbox for the account.
    pub(super) async fn new<P: Ports>(
        store: &AccountStore<P>,
        graph: &Graph,
    ) -> Result<Option<Self>, StoreError> {
        let terms = store.terms().await?;
        let settings = &store.house.settings;
        let system = settings.systems.first().map_or("", String::as_str);
        let Ok((_, class)) = store.house.class(system, terms.settings.sandbox) else {
            return Ok(None);
        };
        let mut by_output: HashMap<StorePath, Vec<usize>> = HashMap::new();
        for (number, node) in graph.nodes() {
            for path in node.outputs.iter().filter_map(|(_, path)| path.as_ref()) {
                by_output.entry(path.clone()).or_default().push(number);
            }
        }
        Ok(Some(Self {
            ground: store.house.ground(&class),
            open: None,
            by_output,
            found: Found::default(),
        }))
    }

    /// Whether the node's own inputs are open; of a fixed output, whether it is itself.
    fn may_take(&self, graph: &Graph, number: usize) -> bool {
        let open = |number: usize| {
            let open = self.open.as_ref().and_then(|open| open.get(number));
            open.copied().unwrap_or(false)
        };
        let Some(node) = graph.node(number).filter(|_| graph.is_sound(number)) else {
            return false;
        };
        match node.kind {
            DerivationKind::Fixed => open(number),
            _ => graph.inputs(node).all(|(input, _)| open(input)),
        }
    }
}

impl<P: Ports> Decider<'_, P> {
    /// Takes those of which all that is wanted is grounded, with what that refers to.
    pub(super) async fn take(
        &mut self,
        plan: &mut Plan,
        missing: &BTreeSet<usize>,
        log: Option<&LogSink>,
    ) -> Result<BTreeSet<usize>, StoreError> {
        let Some(mut taker) = self.taker.take() else {
            return Ok(BTreeSet::new());
        };
        let taken = self.take_with(&mut taker, plan, missing, log).await;
        self.taker = Some(taker);
        taken
    }

    async fn take_with(
        &self,
        taker: &mut Taker,
        plan: &mut Plan,
        missing: &BTreeSet<usize>,
        log: Option<&LogSink>,
    ) -> Result<BTreeSet<usize>, StoreError> {
        let graph = self.graph;
        let wanted = |number: usize| plan.wanted_paths(graph, number);
        let mut candidates: BTreeMap<usize, Vec<StorePath>> = missing
            .iter()
            .filter(|number| graph.is_sound(**number))
            .filter_map(|number| Some((*number, wanted(*number)?)))
            .collect();
        let asked: Vec<StorePath> = candidates.values().flatten().cloned().collect();
        let found = self.grounded(taker.ground, &asked).await?;
        candidates.retain(|_, paths| paths.iter().any(|path| found.contains_key(path)));
        if candidates.is_empty() {
            return Ok(BTreeSet::new());
        }
        if taker.open.is_none() {
            taker.open = Some(self.open(taker.ground).await?);
        }
        candidates.retain(|number, _| taker.may_take(graph, *number));
        let roots = candidates.values().flatten().cloned().collect();
        self.close(taker, roots).await?;
        let found = &taker.found;
        candidates.retain(|_, paths| paths.iter().all(|path| !found.absent.contains(path)));
        let needed = needed(found, candidates.values().flatten());
        if !candidates.is_empty() && !self.look {
            self.record(taker, &candidates, &needed).await?;
            if let Some(log) = log {
                self.tell(&candidates, needed.len(), log).await;
            }
        }
        Ok(candidates.into_keys().collect())
    }

    async fn grounded(
        &self,
        ground: Ground,
        paths: &[StorePath],
    ) -> Result<BTreeMap<StorePath, GroundedOutput>, StoreError> {
        let sharing = self.terms.sharing();
        let house = &self.store.house;
        let mut found = BTreeMap::new();
        for part in paths.chunks(TOGETHER) {
            let outputs = house
                .db
                .grounded_outputs(part, &ground, sharing.account, sharing.takes);
            found.extend(outputs.await.map_err(failed)?);
        }
        // A lost content comes back when it is built again.
        found.retain(|_, output| house.content.contains(&output.object.content));
        Ok(found)
    }

    /// By node: whether what is built of it may be taken. All leaves below must be there, or to be had by anybody; and what the account
    /// has of it must be what others have built of.
    async fn open(&self, ground: Ground) -> Result<Vec<bool>, StoreError> {
        let graph = self.graph;
        let known = |(number, node): (usize, &Node)| {
            let paths = node.outputs.iter().filter_map(|(_, path)| path.clone());
            paths.map(|path| (number, path)).collect::<Vec<_>>()
        };
        let outputs: Vec<(usize, StorePath)> = graph.nodes().flat_map(known).collect();
        // Fixed outputs that are there, those that were built of the same derivation, and nodes of which the account has something else.
        let (mut there, mut built, mut other) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for part in outputs.chunks(TOGETHER) {
            let paths: Vec<StorePath> = part.iter().map(|(_, path)| path.clone()).collect();
            let view = self.store.house.view(&self.terms, &paths).await?;
            let found = self.grounded(ground, &paths).await?;
            for (number, path) in part {
                let Some(node) = graph.node(*number) else { continue };
                let (own, grounded) = (view.get(path), found.get(path));
                if node.kind == DerivationKind::Fixed {
                    if own.is_some_and(|choice| choice.object().ca.is_some()) {
                        there.insert(*number);
                    }
                    if grounded.is_some_and(|output| output.drv_path == node.path) {
                        built.insert(*number);
                    }
                } else if own.is_some_and(|choice| grounded.is_none_or(|g| g.id != choice.candidate.id)) {
                    other.insert(*number);
                }
            }
        }
        let mut open: Vec<bool> = Vec::with_capacity(graph.len());
        for (number, node) in graph.nodes() {
            let mut inputs = graph.inputs(node);
            let below = inputs.all(|(input, _)| open.get(input).copied().unwrap_or(false));
            let here = match node.kind {
                DerivationKind::Fixed => there.contains(&number) || (built.contains(&number) && below),
                DerivationKind::InputAddressed => below && !other.contains(&number),
                _ => false,
            };
            open.push(here && graph.is_sound(number));
        }
        Ok(open)
    }

    /// Finds these paths and what they refer to, as far as it is not valid; what has to do with something absent is absent.
    async fn close(&self, taker: &mut Taker, roots: BTreeSet<StorePath>) -> Result<(), StoreError> {
        let known =
            |found: &Found, path: &StorePath| found.outputs.contains_key(path) || found.absent.contains(path);
        let mut new: BTreeMap<StorePath, GroundedOutput> = BTreeMap::new();
        let mut absent: Vec<StorePath> = Vec::new();
        let mut seen = roots.clone();
        let mut todo: Vec<StorePath> = roots.into_iter().collect();
        while !todo.is_empty() {
            todo.retain(|path| !known(&taker.found, path));
            let view = self.store.house.view(&self.terms, &todo).await?;
            todo.retain(|path| view.get(path).is_none());
            let (open, other): (Vec<StorePath>, Vec<StorePath>) = todo.into_iter().partition(|path| {
                let nodes = taker.by_output.get(path);
                nodes.is_some_and(|nodes| nodes.iter().any(|number| taker.may_take(self.graph, *number)))
            });
            absent.extend(other);
            let outputs = self.grounded(taker.ground, &open).await?;
            absent.extend(open.into_iter().filter(|path| !outputs.contains_key(path)));
            let references = outputs.values().flat_map(|output| &output.object.references);
            todo = references
                .filter(|r| seen.insert((*r).clone()))
                .cloned()
                .collect();
            new.extend(outputs);
        }
        absent.extend(self.strangers(taker, &new).await?);
        // What refers to something absent is absent.
        let mut needed_by: BTreeMap<&StorePath, Vec<&StorePath>> = BTreeMap::new();
        for (path, output) in &new {
            for reference in &output.object.references {
                needed_by.entry(reference).or_default().push(path);
                if taker.found.absent.contains(reference) {
                    absent.push(path.clone());
                }
            }
        }
        let mut fallen = BTreeSet::new();
        while let Some(path) = absent.pop() {
            if fallen.insert(path.clone()) {
                absent.extend(needed_by.get(&path).into_iter().flatten().map(|p| (*p).clone()));
            }
        }
        new.retain(|path, _| !fallen.contains(path));
        taker.found.outputs.extend(new);
        taker.found.absent.extend(fallen);
        Ok(())
    }

    /// Those that refer to something that their build did not see so: as the account would have it, it is a mixture that nobody built.
    async fn strangers(
        &self,
        taker: &Taker,
        new: &BTreeMap<StorePath, GroundedOutput>,
    ) -> Result<Vec<StorePath>, StoreError> {
        let builds = new.values().map(|output| output.build).collect();
        let inputs = self.store.house.db.inputs_of(&builds).await.map_err(failed)?;
        let references = new.values().flat_map(|output| &output.object.references);
        let references: BTreeSet<StorePath> = references.cloned().collect();
        let references: Vec<StorePath> = references.into_iter().collect();
        let view = self.store.house.view(&self.terms, &references).await?;
        let object = |path: &StorePath| match view.get(path) {
            Some(choice) => Some((choice.candidate.id, None)),
            None => {
                let output = new.get(path).or_else(|| taker.found.outputs.get(path))?;
                Some((output.id, Some(output.build)))
            }
        };
        let fits = |output: &GroundedOutput| {
            output
                .object
                .references
                .iter()
                .all(|reference| match object(reference) {
                    Some((_, Some(build))) if build == output.build => true,
                    Some((id, _)) => inputs
                        .get(&output.build)
                        .is_some_and(|inputs| inputs.contains(&id)),
                    // It is absent, and so is this.
                    None => true,
                })
        };
        Ok(new
            .iter()
            .filter(|(_, output)| !fits(output))
            .map(|(path, _)| path.clone())
            .collect())
    }

    /// Makes them valid for the account, and notes how its request was answered.
    async fn record(
        &self,
        taker: &Taker,
        taken: &BTreeMap<usize, Vec<StorePath>>,
        outputs: &[&GroundedOutput],
    ) -> Result<(), StoreError> {
        let house = &self.store.house;
        let account = self.store.account.id;
        let key = signing::active_key(&house.db, account).await.map_err(failed)?;
        let now = house.now();
        let deriver = |path: &StorePath| {
            let number = taker.by_output.get(path)?.first()?;
            Some(self.graph.node(*number)?.path.clone())
        };
        let claims: Vec<Claim> = outputs
            .iter()
            .map(|output| Claim {
                object: output.object.clone(),
                origin: Origin::Built,
                deriver: deriver(&output.object.path),
                signatures: key.iter().map(|k| signing::sign(k, &output.object)).collect(),
                registered: now,
                cache: None,
                shareable: true,
            })
            .collect();
        house
            .record_claims(account, &claims.into(), Vec::new(), KeyId(0))
            .await
            .map_err(failed)?;
        for (number, paths) in taken {
            let Some(node) = self.graph.node(*number) else {
                continue;
            };
            let build = outputs
                .iter()
                .find(|o| paths.contains(&o.object.path))
                .map(|o| o.build);
            let request = RequestRecord {
                account,
                drv_path: node.path.clone(),
                rung: Some(Rung::Grounded),
                reason: reason(&node.path),
                build,
                time: now,
                wall_ms: 0,
            };
            // The answer stands without being counted.
            if let Err(e) = house.db.record_request(&request).await {
                tracing::error!(error = &e as &dyn std::error::Error, "a request is not recorded");
            }
        }
        Ok(())
    }

    /// One line for each that the client wanted.
    async fn tell(&self, taken: &BTreeMap<usize, Vec<StorePath>>, paths: usize, log: &LogSink) {
        let names = taken.keys().filter_map(|number| self.graph.node(*number));
        for node in names {
            let text = format!("firn: {}", reason(&node.path));
            // A client that is gone drops the request anyway.
            let _ = log.send(LogEvent::Message(text)).await;
        }
        tracing::info!(account = %self.store.account.name, derivations = taken.len(), paths, "took grounded results");
    }
}

fn reason(drv_path: &StorePath) -> String {
    let name = drv_path.derivation_name().unwrap_or_else(|| drv_path.name());
    format!("reused {name}: built before from the same graph, down to its sources")
}

/// What these paths need of what was found, themselves included.
fn needed<'f>(found: &'f Found, roots: impl Iterator<Item = &'f StorePath>) -> Vec<&'f GroundedOutput> {
    let mut seen = BTreeSet::new();
    let mut needed = Vec::new();
    let mut open: Vec<&StorePath> = roots.collect();
    while let Some(path) = open.pop() {
        if let Some(output) = found.outputs.get(path)
            && seen.insert(path)
        {
            open.extend(&output.object.references);
            needed.push(output);
        }
    }
    needed
}
