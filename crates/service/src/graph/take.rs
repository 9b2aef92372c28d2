//! Taking what others have built from the same graph: grounded results.
//!
//! Believing them needs no comparison of inputs: the paths follow from the graph, and everything below was built from checked leaves. Only
//! what the account has already of the graph must be what they were built of; else its own build would use something else.
//!
//! Reading them is another question: the account must have the leaves itself. Its plain paths it has, checked, or the graph would not be
//! sound; a fixed output it must have, or this service must have built it from this very derivation, which happens without anybody's login.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use firn_core::{BuildId, Ground, ObjectId, Rung, Standing};
use firn_nix::StorePath;
use firn_nix::derivation::DerivationKind;
use firn_protocol::{LogEvent, LogSink, StoreError};

use super::decide::Decider;
use super::load::Graph;
use super::plan::Plan;
use crate::AccountStore;
use crate::ports::{Builds as _, GroundedOutput, Grounds as _, Ports, RequestRecord};
use crate::resolve::failed;

/// Paths that the database is asked about at once.
const TOGETHER: usize = 1024;

/// Builds whose inputs are asked for at once.
const BUILDS: usize = 64;

/// What can be taken for one graph.
pub(super) struct Taker {
    ground: Ground,
    /// By node. Found when it is needed first.
    openness: Option<Vec<Openness>>,
    by_output: HashMap<StorePath, Vec<usize>>,
    found: Found,
}

/// What is for the account.
#[derive(Clone, Copy, Default)]
struct Openness {
    /// What is built of the node.
    above: bool,
    /// The node itself.
    itself: bool,
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
            openness: None,
            by_output,
            found: Found::default(),
        }))
    }

    fn may_take(&self, number: usize) -> bool {
        let openness = self.openness.as_ref().and_then(|all| all.get(number));
        openness.is_some_and(|openness| openness.itself)
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
        if taker.openness.is_none() {
            taker.openness = Some(self.openness(taker.ground).await?);
        }
        candidates.retain(|number, _| taker.may_take(*number));
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

    /// Looks up all of the graph.
    async fn openness(&self, ground: Ground) -> Result<Vec<Openness>, StoreError> {
        let graph = self.graph;
        let mut standings = vec![Standing::Unsound; graph.len()];
        let mut outputs = Vec::new();
        for (number, node) in graph.nodes().filter(|(number, _)| graph.is_sound(*number)) {
            if let Some(standing) = standings.get_mut(number) {
                *standing = match node.kind {
                    DerivationKind::Fixed => Standing::Fixed {
                        has: false,
                        grounded: false,
                    },
                    DerivationKind::InputAddressed => Standing::Built { differs: false },
                    _ => Standing::Unsound,
                };
            }
            outputs.extend(
                node.outputs
                    .iter()
                    .filter_map(|(_, path)| Some((number, path.clone()?))),
            );
        }
        let sharing = self.terms.sharing();
        for part in outputs.chunks(TOGETHER) {
            let paths: Vec<StorePath> = part.iter().map(|(_, path)| path.clone()).collect();
            let made = |(number, path): &(usize, StorePath)| {
                let node = graph
                    .node(*number)
                    .filter(|node| node.kind == DerivationKind::Fixed)?;
                Some((path.clone(), node.path.clone()))
            };
            let made = part.iter().filter_map(made).collect();
            let database = &self.store.house.db;
            let made = database.grounded_from(&made, &ground, sharing.account, sharing.takes);
            let made = made.await.map_err(failed)?;
            let view = self.store.house.view(&self.terms, &paths).await?;
            let found = self.grounded(ground, &paths).await?;
            for (number, path) in part {
                let (own, others) = (view.get(path), found.get(path));
                match (standings.get_mut(*number), graph.node(*number)) {
                    (Some(Standing::Fixed { has, grounded }), Some(node)) => {
                        *has = own.is_some_and(|choice| choice.object().is_pinned());
                        // A lost content comes back when it is built again.
                        *grounded = others.is_some() && made.contains(&(path.clone(), node.path.clone()));
                    }
                    (Some(Standing::Built { differs }), _) => {
                        *differs |= own.is_some_and(|choice| {
                            others.is_none_or(|output| output.id != choice.candidate.id)
                        });
                    }
                    _ => {}
                }
            }
        }
        let mut all: Vec<Openness> = Vec::with_capacity(graph.len());
        for ((_, node), standing) in graph.nodes().zip(standings) {
            let mut inputs = graph.inputs(node);
            let below = inputs.all(|(input, _)| all.get(input).is_some_and(|openness| openness.above));
            all.push(Openness {
                above: standing.is_open(below),
                itself: standing.may_take(below),
            });
        }
        Ok(all)
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
                nodes.is_some_and(|nodes| nodes.iter().any(|number| taker.may_take(*number)))
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
        let fits = |output: &GroundedOutput, inputs: &BTreeMap<BuildId, BTreeSet<ObjectId>>| {
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
        let mut by_build: BTreeMap<BuildId, Vec<&StorePath>> = BTreeMap::new();
        for (path, output) in new {
            by_build.entry(output.build).or_default().push(path);
        }
        let mut strangers = Vec::new();
        let builds: Vec<BuildId> = by_build.keys().copied().collect();
        // One may have very many inputs.
        for part in builds.chunks(BUILDS) {
            let part: BTreeSet<BuildId> = part.iter().copied().collect();
            let inputs = self.store.house.db.inputs_of(&part).await.map_err(failed)?;
            let paths = part.iter().filter_map(|build| by_build.get(build)).flatten();
            let strange = paths.filter(|path| new.get(**path).is_some_and(|output| !fits(output, &inputs)));
            strangers.extend(strange.map(|path| (*path).clone()));
        }
        Ok(strangers)
    }

    /// Makes them valid for the account, and notes how its request was answered.
    async fn record(
        &self,
        taker: &Taker,
        taken: &BTreeMap<usize, Vec<StorePath>>,
        outputs: &[&GroundedOutput],
    ) -> Result<(), StoreError> {
        let deriver = |path: &StorePath| {
            let number = taker.by_output.get(path)?.first()?;
            Some(self.graph.node(*number)?.path.clone())
        };
        let kept = outputs.iter().map(|o| (&o.object, deriver(&o.object.path)));
        self.store.keep_built(kept).await?;
        let builds: HashMap<&StorePath, BuildId> =
            outputs.iter().map(|o| (&o.object.path, o.build)).collect();
        for (number, paths) in taken {
            let Some(node) = self.graph.node(*number) else {
                continue;
            };
            let request = RequestRecord {
                account: self.store.account.id,
                drv_path: node.path.clone(),
                rung: Some(Rung::Grounded),
                reason: reason(&node.path).into(),
                build: paths.iter().find_map(|path| builds.get(path).copied()),
                time: self.store.house.now(),
                wall_ms: 0,
            };
            // The answer stands without being counted.
            if let Err(e) = self.store.house.db.record_request(&request).await {
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
