//! What has to be done for the targets of a graph, from the targets down: nothing is looked up that nobody needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firn_nix::StorePath;
use firn_nix::realisation::DrvOutput;
use firn_protocol::{LogSink, StoreError};

use super::load::Graph;
use super::plan::{Outputs, Plan};
use super::take::Taker;
use crate::AccountStore;
use crate::findings::Findings;
use crate::offers::Offer;
use crate::ports::Ports;
use crate::terms::Terms;

/// Derivations that are looked up together, from the second time on: asking the database one by one for a long chain takes long.
const TOGETHER: usize = 512;

/// Decides for one graph and one account.
pub(crate) struct Decider<'a, P: Ports> {
    pub(super) store: &'a AccountStore<P>,
    pub(super) graph: &'a Graph,
    pub(super) terms: Arc<Terms>,
    pub(super) taker: Option<Taker>,
    /// To be built, whatever is valid.
    forced: BTreeSet<usize>,
    /// Nothing may be taken, only looked up.
    pub(super) look: bool,
    /// Not to be fetched: it was tried.
    unfetchable: BTreeSet<usize>,
    /// What the caches have of all that is to be fetched.
    offers: BTreeMap<StorePath, Offer>,
    together: usize,
}

impl<'a, P: Ports> Decider<'a, P> {
    pub(crate) async fn new(store: &'a AccountStore<P>, graph: &'a Graph) -> Result<Self, StoreError> {
        Ok(Self {
            store,
            graph,
            terms: store.terms().await?,
            taker: Taker::new(store, graph).await?,
            forced: BTreeSet::new(),
            look: false,
            unfetchable: BTreeSet::new(),
            offers: BTreeMap::new(),
            together: 1,
        })
    }

    /// Builds these in any case.
    pub(crate) fn force(&mut self, numbers: impl Iterator<Item = usize>) {
        self.forced.extend(numbers);
    }

    /// Whether a derivation is built whatever is valid.
    pub(crate) fn is_forced(&self, number: usize) -> bool {
        self.forced.contains(&number)
    }

    /// Changes nothing in the account's view.
    pub(crate) fn only_look(&mut self) {
        self.look = true;
    }

    /// Does not fetch it again. What was found of grounded results may not hold any more, after steps have run: no more of them.
    pub(crate) fn give_up_fetching(&mut self, number: usize) {
        self.unfetchable.insert(number);
        self.taker = None;
    }

    /// What the caches have of all that is to be fetched.
    pub(crate) fn into_offers(self) -> BTreeMap<StorePath, Offer> {
        self.offers
    }

    /// Decides everything that is open; the builds that were decided.
    pub(crate) async fn decide(
        &mut self,
        plan: &mut Plan,
        log: Option<&LogSink>,
    ) -> Result<BTreeSet<usize>, StoreError> {
        let mut builds = BTreeSet::new();
        loop {
            let wave = plan.take_open();
            if wave.is_empty() {
                return Ok(builds);
            }
            self.look_up(plan, &wave).await?;
            let (forced, free): (BTreeSet<usize>, BTreeSet<usize>) =
                wave.into_iter().partition(|number| self.forced.contains(number));
            let (done, missing): (BTreeSet<usize>, BTreeSet<usize>) =
                free.into_iter().partition(|number| plan.has_all(*number));
            done.iter().for_each(|number| plan.done(*number));
            let fetched = self.offered(plan, &missing).await?;
            fetched.iter().for_each(|number| plan.fetch(*number));
            let missing: BTreeSet<usize> = missing.difference(&fetched).copied().collect();
            let taken = self.take(plan, &missing, log).await?;
            for number in &taken {
                plan.note_valid(*number, plan.wanted(*number));
                plan.done(*number);
            }
            for number in forced.into_iter().chain(missing.difference(&taken).copied()) {
                plan.build(number, self.graph);
                builds.insert(number);
            }
        }
    }

    /// Learns which outputs of a wave are valid, and of what is below it, so that the database is asked seldom.
    async fn look_up(&mut self, plan: &mut Plan, wave: &BTreeSet<usize>) -> Result<(), StoreError> {
        let unknown = plan.unknown(self.graph, wave, self.together.max(wave.len()));
        self.together = TOGETHER;
        if unknown.is_empty() {
            return Ok(());
        }
        let nodes = || {
            unknown
                .iter()
                .filter_map(|number| Some((*number, self.graph.node(*number)?)))
        };
        let asked: Vec<StorePath> = nodes()
            .flat_map(|(_, node)| node.outputs.iter().filter_map(|(_, path)| path.clone()))
            .collect();
        let view = self.store.house.view(&self.terms, &asked).await?;
        for (number, node) in nodes() {
            // A lost content comes back when it is built again.
            let there = |path: &StorePath| {
                view.get(path)
                    .is_some_and(|choice| self.store.house.content.contains(&choice.object().content))
            };
            let outputs = node.outputs.iter().enumerate();
            let valid = outputs.filter(|(_, (_, path))| path.as_ref().is_some_and(there));
            plan.note_valid(number, Outputs::of(valid.map(|(n, _)| n)));
        }
        self.look_up_realised(plan, &unknown).await
    }

    /// Learns where outputs are whose paths do not follow from the graph.
    async fn look_up_realised(&self, plan: &mut Plan, numbers: &[usize]) -> Result<(), StoreError> {
        let mut asked: BTreeMap<DrvOutput, Vec<(usize, usize)>> = BTreeMap::new();
        for &number in numbers {
            let Some(node) = self.graph.node(number) else {
                continue;
            };
            for (output, (name, path)) in node.outputs.iter().enumerate() {
                if let Some(id) = node.id(name).filter(|_| path.is_none()) {
                    asked.entry(id).or_default().push((number, output));
                }
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let ids: Vec<DrvOutput> = asked.keys().cloned().collect();
        for (id, realisation) in self.store.realisations(&ids).await? {
            for &(number, output) in asked.get(&id).into_iter().flatten() {
                let path = &realisation.out_path;
                if self
                    .graph
                    .node(number)
                    .is_some_and(|node| node.may_have(output, path))
                {
                    plan.realise(number, output, path.clone());
                    plan.note_valid(number, Outputs::of([output]));
                }
            }
        }
        Ok(())
    }

    /// Those of which a cache has all that is wanted.
    async fn offered(
        &mut self,
        plan: &Plan,
        missing: &BTreeSet<usize>,
    ) -> Result<BTreeSet<usize>, StoreError> {
        let settings = &self.terms.settings;
        if !settings.substitute || settings.substituters.is_empty() {
            return Ok(BTreeSet::new());
        }
        let absent = |number: usize| {
            let paths = plan.wanted_paths(self.graph, number)?;
            Some((number, paths))
        };
        let wanted: Vec<(usize, Vec<StorePath>)> = missing
            .iter()
            .filter(|number| !self.unfetchable.contains(number) && !plan.has_all(**number))
            .filter_map(|number| absent(*number))
            .collect();
        let asked: BTreeSet<StorePath> = wanted
            .iter()
            .flat_map(|(number, paths)| {
                let node = self.graph.node(*number);
                paths.iter().filter(move |path| {
                    let place =
                        node.and_then(|n| n.outputs.iter().position(|(_, p)| p.as_ref() == Some(*path)));
                    !place.is_some_and(|output| plan.is_valid(*number, output))
                })
            })
            .cloned()
            .collect();
        if asked.is_empty() {
            return Ok(BTreeSet::new());
        }
        let findings = Findings::default();
        let offers = self.store.offers(&self.terms, asked.clone(), &findings).await?;
        self.store.note(&findings);
        let has = |path: &StorePath| !asked.contains(path) || offers.found.contains_key(path);
        let found = wanted.iter().filter(|(_, paths)| paths.iter().all(has));
        let found: BTreeSet<usize> = found.map(|(number, _)| *number).collect();
        if self.look {
            self.offers.extend(offers.found);
        }
        Ok(found)
    }
}
