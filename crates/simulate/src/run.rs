//! The simulation: accounts come one after the other and go down the ladder.

#![expect(
    clippy::indexing_slicing,
    reason = "every table has an entry for each derivation of the graph"
)]

use std::collections::HashMap;

use firn_core::Rung;

use crate::client::{Client, Entry, Pending};
use crate::hash::{About, ByHash, of};
use crate::store::{Answers, Met};
use crate::world::PRIVATE;
use crate::{Counts, Drv, Graph, Order, Outcome, Params, Population, World};

/// Who looks on.
pub(crate) trait Watch {
    fn upload(&mut self, account: u32, drv: Drv, content: u64);
    fn substitute(&mut self, account: u32, drv: Drv);
    fn request(&mut self, account: u32, drv: Drv, rung: Rung, content: u64);
    fn graph(&mut self, account: u32, target: Drv, answers: &Answers);
}

/// Nobody.
impl Watch for () {
    fn upload(&mut self, _: u32, _: Drv, _: u64) {}
    fn substitute(&mut self, _: u32, _: Drv) {}
    fn request(&mut self, _: u32, _: Drv, _: Rung, _: u64) {}
    fn graph(&mut self, _: u32, _: Drv, _: &Answers) {}
}

/// Runs one point.
#[must_use]
pub fn simulate(graph: &Graph, params: &Params) -> Outcome {
    let world = World::new(graph, params);
    run(&world, &Population::new(graph, params), &mut ())
}

pub(crate) fn run(world: &World<'_>, population: &Population, watch: &mut impl Watch) -> Outcome {
    let mut service = Service {
        world,
        results: HashMap::default(),
        runs: 0,
        grounded: vec![None; world.graph.len()],
        signed: vec![false; world.graph.len()],
        met: Met::new(world.graph.len()),
        client: Client::new(world.graph.len()),
        outcome: Outcome::default(),
        watch,
    };
    let mut seen = vec![false; world.graph.len()];
    for (targets, account) in population.accounts().zip(0..) {
        service.client.next_account();
        for target in targets {
            if world.is_store(account) {
                service.build_graph(account, *target, &mut seen);
                continue;
            }
            for drv in world.needed(*target) {
                if !service.client.has(*drv) {
                    service.first(account, *drv);
                    if !world.is_cached(*drv) && !std::mem::replace(&mut seen[*drv as usize], true) {
                        service.counts(*drv).distinct += 1;
                    }
                } else if !world.is_local(account, *drv) {
                    service.counts(*drv).already_valid += 1;
                    service.watch.request(account, *drv, Rung::AlreadyValid, 0);
                }
            }
        }
    }
    service.outcome
}

pub(crate) struct Service<'w, W> {
    pub(crate) world: &'w World<'w>,
    /// Content by build key, of all keys that more than one account can show.
    results: HashMap<u64, u64, ByHash>,
    runs: u64,
    /// Content by derivation, where one was built from nothing but contents that are known beforehand and what is grounded itself.
    pub(crate) grounded: Vec<Option<u64>>,
    /// Whether somebody has brought the cache's signature: it counts for all who trust the key.
    pub(crate) signed: Vec<bool>,
    /// What remote stores have come to.
    pub(crate) met: Met,
    pub(crate) client: Client,
    outcome: Outcome,
    pub(crate) watch: &'w mut W,
}

impl<W: Watch> Service<'_, W> {
    pub(crate) fn counts(&mut self, drv: Drv) -> &mut Counts {
        if self.world.graph.is_fixed(drv) {
            &mut self.outcome.fixed
        } else {
            &mut self.outcome.ordinary
        }
    }

    /// An account needs a derivation for the first time; it has the inputs.
    fn first(&mut self, account: u32, drv: Drv) {
        let local = self.world.is_local(account, drv);
        let entry = match (self.world.is_cached(drv), local) {
            (false, false) => self.request(account, drv),
            (false, true) => self.build_locally(account, drv),
            (true, false) => self.substitute(account, drv),
            (true, true) => self.had_before_the_cache(account, drv),
        };
        self.client.put(drv, entry);
        if local {
            self.counts(drv).local += 1;
        }
    }

    /// What an account has of a derivation, from the bytes on either side.
    pub(crate) fn entry(&self, drv: Drv, view: u64, own: u64, pending: Pending) -> Entry {
        let client = &self.client;
        Entry {
            view: self.world.class(drv, view, |i| client.view(i)),
            own: self.world.class(drv, own, |i| client.own(i)),
            content: own,
            pending: match pending {
                Pending::Nothing if client.is_open(self.world, drv) => Pending::References,
                pending => pending,
            },
            ..Entry::default()
        }
    }

    /// A remote builder's request.
    fn request(&mut self, account: u32, drv: Drv) -> Entry {
        let (uploads, watch) = (&mut self.outcome.uploads, &mut *self.watch);
        self.client
            .take_pending(self.world, drv, |drv, pending, content| match pending {
                Pending::Upload => {
                    *uploads += 1;
                    watch.upload(account, drv, content);
                }
                Pending::Substitute => {
                    fetch(self.world, &mut self.signed, drv);
                    watch.substitute(account, drv);
                }
                Pending::References | Pending::Nothing => {}
            });
        let (rung, content) = self.by_key(drv);
        self.watch.request(account, drv, rung, content);
        // The client fetches what it has asked for.
        self.entry(drv, content, content, Pending::Nothing)
    }

    /// The stored result of the build key, or a run.
    pub(crate) fn by_key(&mut self, drv: Drv) -> (Rung, u64) {
        let key = self.world.key(drv, |i| self.client.view(i));
        if let Some(content) = self.results.get(&key).copied() {
            self.counts(drv).shared += 1;
            return (Rung::Shared, content);
        }
        self.counts(drv).built += 1;
        self.runs += 1;
        let run = of(self.world.params.seed, About::Run, self.runs, 0) & !PRIVATE | key & PRIVATE;
        let content = self.world.output(drv, key, run);
        if key & PRIVATE == 0 {
            self.results.insert(key, content);
        }
        (Rung::Built, content)
    }

    /// Rung 2, or rung 1 when another account has brought it.
    fn substitute(&mut self, account: u32, drv: Drv) -> Entry {
        let content = self.world.cache_content(drv);
        if self.signed[drv as usize] {
            self.counts(drv).signed += 1;
            self.watch.request(account, drv, Rung::AlreadyValid, content);
        } else {
            fetch(self.world, &mut self.signed, drv);
            self.counts(drv).substituted += 1;
            self.watch.request(account, drv, Rung::Substituted, content);
        }
        self.entry(drv, content, content, Pending::Nothing)
    }

    fn local_run(&self, account: u32, drv: Drv) -> u64 {
        of(
            self.world.params.seed,
            About::LocalRun,
            u64::from(account),
            u64::from(drv),
        ) | PRIVATE
    }

    /// From what the machine has, whatever the view has.
    fn build_locally(&mut self, account: u32, drv: Drv) -> Entry {
        let key = self.world.key(drv, |i| self.client.own(i));
        let content = self.world.output(drv, key, self.local_run(account, drv));
        if self.world.params.order == Order::SharedFirst {
            let key = self.world.key(drv, |i| self.client.view(i));
            if let Some(shared) = self.results.get(&key) {
                return self.entry(drv, *shared, content, Pending::Nothing);
            }
        }
        self.entry(drv, content, content, Pending::Upload)
    }

    /// Built from the inputs that the cache had, before the cache had the result.
    fn had_before_the_cache(&self, account: u32, drv: Drv) -> Entry {
        let signed = self.world.cache_content(drv);
        let own = if self.world.is_reproducible(drv) {
            signed
        } else {
            self.local_run(account, drv)
        };
        match self.world.params.order {
            Order::UploadsFirst => self.entry(drv, own, own, Pending::Upload),
            Order::Firn | Order::SharedFirst => self.entry(drv, signed, own, Pending::Substitute),
        }
    }
}

/// A fetch brings the closure.
pub(crate) fn fetch(world: &World<'_>, signed: &mut [bool], drv: Drv) {
    let mut todo = vec![drv];
    while let Some(drv) = todo.pop() {
        if !std::mem::replace(&mut signed[drv as usize], true) {
            todo.extend(world.references(drv));
        }
    }
}
