//! Taking what others have built from the same graph: grounded results.
//!
//! Believing them needs no comparison of inputs: the paths follow from the graph, and everything below was built from checked leaves. Reading
//! them is another question: the account must have the leaves itself. Its plain paths it has, checked, or the graph would not be sound;
//! a fixed output it must have, or this service must have built it, which happens without anybody's login.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use firn_core::{Claim, Ground, KeyId, Origin, Rung};
use firn_nix::StorePath;
use firn_nix::derivation::DerivationKind;
use firn_protocol::{LogEvent, LogSink, StoreError};

use super::decide::Decider;
use super::load::Graph;
use super::plan::Plan;
use crate::ports::{Builds as _, GroundedOutput, Grounds as _, Ports, RequestRecord};
use crate::resolve::failed;
use crate::{AccountStore, signing};

/// Paths that the database is asked about at once.
const TOGETHER: usize = 1024;

/// What can be taken for one graph.
pub(super) struct Taker {
    ground: Ground,
    /// By node: whether the account may read what is built from the same leaves. Found when it is needed first.
    readable: Option<Vec<bool>>,
    by_output: HashMap<StorePath, usize>,
    /// What was taken, for the client.
    pub(super) taken: usize,
}

/// What was found of some paths.
#[derive(Default)]
struct Found {
    outputs: BTreeMap<StorePath, GroundedOutput>,
    /// Neither valid nor to be had.
    absent: BTreeSet<StorePath>,
}

impl Taker {
    /// `None` when the account takes nothing of others.
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
        let mut by_output = HashMap::new();
        for (number, node) in graph.nodes() {
            by_output.extend(
                node.outputs
                    .iter()
                    .filter_map(|(_, path)| Some((path.clone()?, number))),
            );
        }
        Ok(Some(Self {
            ground: Ground::of(&class),
            readable: None,
            by_output,
            taken: 0,
        }))
    }

    fn is_readable(&self, number: usize) -> bool {
        let readable = self.readable.as_ref().and_then(|readable| readable.get(number));
        readable.copied().unwrap_or(false)
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
        if taker.readable.is_none() {
            taker.readable = Some(self.readable(taker.ground).await?);
        }
        candidates.retain(|number, _| taker.is_readable(*number));
        let roots = candidates.values().flatten().cloned().collect();
        let found = self.closure(taker, roots).await?;
        candidates.retain(|_, paths| paths.iter().all(|path| !found.absent.contains(path)));
        let needed = needed(&found, candidates.values().flatten());
        if !candidates.is_empty() && !self.look {
            self.record(taker, &candidates, &needed).await?;
            taker.taken += candidates.len();
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

    /// By node: whether the account has, or anybody could have, every fixed output below it.
    async fn readable(&self, ground: Ground) -> Result<Vec<bool>, StoreError> {
        let graph = self.graph;
        let mut open = BTreeSet::new();
        let fixed = || {
            graph
                .nodes()
                .filter(|(_, node)| node.kind == DerivationKind::Fixed)
        };
        let asked: Vec<(usize, StorePath)> = fixed()
            .filter_map(|(number, node)| Some((number, node.outputs.first()?.1.clone()?)))
            .collect();
        for part in asked.chunks(TOGETHER) {
            let paths: Vec<StorePath> = part.iter().map(|(_, path)| path.clone()).collect();
            let view = self.store.house.view(&self.terms, &paths).await?;
            let has = |path: &StorePath| view.get(path).is_some_and(|choice| choice.object().ca.is_some());
            let lacking: Vec<StorePath> = paths.into_iter().filter(|path| !has(path)).collect();
            let found = self.grounded(ground, &lacking).await?;
            let lacking: BTreeSet<StorePath> = lacking
                .into_iter()
                .filter(|path| !found.contains_key(path))
                .collect();
            open.extend(
                part.iter()
                    .filter(|(_, path)| lacking.contains(path))
                    .map(|(number, _)| *number),
            );
        }
        let mut readable: Vec<bool> = Vec::with_capacity(graph.len());
        for (number, node) in graph.nodes() {
            let below = |(input, _): (usize, Vec<usize>)| readable.get(input).copied().unwrap_or(false);
            let here = match node.kind {
                DerivationKind::Fixed => !open.contains(&number),
                DerivationKind::InputAddressed => graph.inputs(node).all(below),
                _ => false,
            };
            readable.push(here);
        }
        Ok(readable)
    }

    /// These paths and what they refer to, as far as it is not valid; what has to do with something absent is absent.
    async fn closure(&self, taker: &Taker, roots: BTreeSet<StorePath>) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let mut seen = roots.clone();
        let mut open: Vec<StorePath> = roots.into_iter().collect();
        while !open.is_empty() {
            let view = self.store.house.view(&self.terms, &open).await?;
            open.retain(|path| view.get(path).is_none());
            let (readable, other): (Vec<StorePath>, Vec<StorePath>) = open.into_iter().partition(|path| {
                let node = taker.by_output.get(path);
                node.is_some_and(|number| self.graph.is_sound(*number) && taker.is_readable(*number))
            });
            found.absent.extend(other);
            let outputs = self.grounded(taker.ground, &readable).await?;
            found
                .absent
                .extend(readable.into_iter().filter(|path| !outputs.contains_key(path)));
            open = outputs
                .values()
                .flat_map(|output| &output.object.references)
                .filter(|reference| seen.insert((*reference).clone()))
                .cloned()
                .collect();
            found.outputs.extend(outputs);
        }
        loop {
            let lacks =
                |output: &GroundedOutput| output.object.references.iter().any(|r| found.absent.contains(r));
            let fallen: Vec<StorePath> = found
                .outputs
                .iter()
                .filter(|(_, output)| lacks(output))
                .map(|(path, _)| path.clone())
                .collect();
            if fallen.is_empty() {
                return Ok(found);
            }
            for path in fallen {
                found.outputs.remove(&path);
                found.absent.insert(path);
            }
        }
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
            let number = taker.by_output.get(path)?;
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
