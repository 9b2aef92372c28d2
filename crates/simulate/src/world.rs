//! What is the same for all accounts: which derivations are reproducible, what the cache has, what outputs refer to.

#![expect(
    clippy::indexing_slicing,
    reason = "every table has an entry for each derivation of the graph"
)]

use std::cell::OnceCell;

use crate::hash::{About, mix, of};
use crate::{Drv, Graph, Params};

/// Lowest bit of keys, contents and classes: they stem from a run on one account's own machine that nobody can repeat. No other
/// account will ever show such an input, so that results under such keys need not be kept.
pub(crate) const PRIVATE: u64 = 1;

/// Short lists, one per derivation.
#[derive(Clone, Debug, Default)]
struct Lists {
    starts: Vec<u32>,
    items: Vec<Drv>,
}

impl Lists {
    fn new(lists: impl Iterator<Item = impl IntoIterator<Item = Drv>>) -> Self {
        let (mut starts, mut items) = (vec![0], Vec::new());
        for list in lists {
            items.extend(list);
            // Never more than the edges of the graph, which are counted in 32 bits.
            starts.push(items.len() as u32);
        }
        Self { starts, items }
    }

    fn of(&self, drv: Drv) -> &[Drv] {
        let at = drv as usize;
        &self.items[self.starts[at] as usize..self.starts[at + 1] as usize]
    }
}

/// The facts that follow from a graph, the parameters and the seed, before any account comes.
#[derive(Debug)]
pub struct World<'g> {
    pub(crate) graph: &'g Graph,
    pub(crate) params: Params,
    reproducible: Vec<bool>,
    absorbs: Vec<bool>,
    cached: Vec<bool>,
    /// Inputs without the fixed outputs, whose contents are the same for everybody.
    varying: Lists,
    references: Lists,
    cache_content: Vec<u64>,
    needed: Vec<OnceCell<Box<[Drv]>>>,
}

impl<'g> World<'g> {
    /// Draws the facts.
    #[must_use]
    pub fn new(graph: &'g Graph, params: &Params) -> Self {
        let seed = params.seed;
        let drawn = |about: About, drv: Drv| of(seed, about, u64::from(drv), 0);
        let reproducible = graph
            .drvs()
            .map(|d| params.reproducible.has(drawn(About::Reproducible, d)));
        let absorbs = graph.drvs().map(|d| params.absorb.has(drawn(About::Absorbs, d)));
        let varying = |d: Drv| graph.inputs(d).iter().copied().filter(|i| !graph.is_fixed(*i));
        let retained = |d: Drv, i: Drv| {
            params
                .runtime
                .has(of(seed, About::Retained, u64::from(d), u64::from(i)))
        };
        let references = graph
            .drvs()
            .map(|d| varying(d).filter(move |i| !graph.is_fixed(d) && retained(d, *i)));
        let mut world = Self {
            graph,
            params: params.clone(),
            reproducible: reproducible.collect(),
            absorbs: absorbs.collect(),
            cached: Vec::new(),
            varying: Lists::new(graph.drvs().map(varying)),
            references: Lists::new(references),
            cache_content: Vec::new(),
            needed: graph.drvs().map(|_| OnceCell::new()).collect(),
        };
        world.cached = world.draw_cache();
        world.cache_content = world.build_cache();
        world
    }

    /// In an order that the seed gives, derivations with all that they were built from, until there are enough: what a build farm
    /// that keeps everything has, and what is not in it is near the top.
    fn draw_cache(&self) -> Vec<bool> {
        let mut order: Vec<Drv> = self.graph.drvs().collect();
        order.sort_unstable_by_key(|d| of(self.params.seed, About::Cached, u64::from(*d), 0));
        let mut left = self.params.cached.of(self.graph.len());
        let mut cached = vec![false; self.graph.len()];
        for drv in order {
            let mut todo = if left > 0 { vec![drv] } else { break };
            while let Some(drv) = todo.pop() {
                if !std::mem::replace(&mut cached[drv as usize], true) {
                    left = left.saturating_sub(1);
                    todo.extend(self.graph.inputs(drv));
                }
            }
        }
        cached
    }

    /// The cache has built everything from its own results, once.
    fn build_cache(&self) -> Vec<u64> {
        let mut classes = vec![0; self.graph.len()];
        let mut contents = Vec::with_capacity(self.graph.len());
        for drv in self.graph.drvs() {
            let key = self.key(drv, |i| classes[i as usize]);
            let run = of(self.params.seed, About::CacheRun, u64::from(drv), 0) & !PRIVATE;
            let content = self.output(drv, key, run);
            classes[drv as usize] = self.class(drv, content, |i| classes[i as usize]);
            contents.push(content);
        }
        contents
    }

    /// Whether every run with the same build key gives the same output.
    ///
    /// # Panics
    /// On the number of another graph, as all methods here.
    #[must_use]
    pub fn is_reproducible(&self, drv: Drv) -> bool {
        self.reproducible[drv as usize] || self.graph.is_fixed(drv)
    }

    /// Whether the output is the same whatever the bytes of the inputs are.
    #[must_use]
    pub fn absorbs(&self, drv: Drv) -> bool {
        self.is_reproducible(drv) && (self.absorbs[drv as usize] || self.graph.is_fixed(drv))
    }

    /// Whether the public cache has it; it then has all its inputs, too.
    #[must_use]
    pub fn is_cached(&self, drv: Drv) -> bool {
        self.cached[drv as usize]
    }

    /// Derivations whose outputs its outputs refer to: some of its inputs.
    #[must_use]
    pub fn references(&self, drv: Drv) -> &[Drv] {
        self.references.of(drv)
    }

    /// Whether a remote builder's account builds a derivation on its own machine, if it needs it.
    #[must_use]
    pub fn is_local(&self, account: u32, drv: Drv) -> bool {
        self.params.local.has(of(
            self.params.seed,
            About::Local,
            u64::from(account),
            u64::from(drv),
        ))
    }

    /// Whether an account uses the service as a remote store; then it builds nothing on its own machine.
    #[must_use]
    pub fn is_store(&self, account: u32) -> bool {
        let drawn = of(self.params.seed, About::Store, u64::from(account), 0);
        self.params.stores.has(drawn)
    }

    /// What the cache has, or would have.
    pub(crate) fn cache_content(&self, drv: Drv) -> u64 {
        self.cache_content[drv as usize]
    }

    /// What has to be there for a top-level derivation, ascending: inputs of what the cache does not have, references of what it has.
    pub fn needed(&self, target: Drv) -> &[Drv] {
        self.needed[target as usize].get_or_init(|| {
            let mut seen = vec![false; target as usize + 1];
            let (mut needed, mut todo) = (Vec::new(), vec![target]);
            while let Some(drv) = todo.pop() {
                if !std::mem::replace(&mut seen[drv as usize], true) {
                    needed.push(drv);
                    todo.extend(if self.is_cached(drv) {
                        self.references(drv)
                    } else {
                        self.graph.inputs(drv)
                    });
                }
            }
            needed.sort_unstable();
            needed.into()
        })
    }

    /// The build key of a derivation. `class` of an input stands for its content and those of the closure of its references, so that
    /// the classes of the direct inputs stand for the whole input mapping.
    pub(crate) fn key(&self, drv: Drv, class: impl Fn(Drv) -> u64) -> u64 {
        fold(
            of(0, About::Key, u64::from(drv), 0) & !PRIVATE,
            self.varying.of(drv),
            class,
        )
    }

    /// The class of an object.
    pub(crate) fn class(&self, drv: Drv, content: u64, class: impl Fn(Drv) -> u64) -> u64 {
        let own = of(0, About::Class, content, 0) & !PRIVATE | content & PRIVATE;
        fold(own, self.references.of(drv), class)
    }

    /// The content that a run under a key gives; `run` is what it gives when every run is different.
    pub(crate) fn output(&self, drv: Drv, key: u64, run: u64) -> u64 {
        if !self.is_reproducible(drv) {
            run
        } else if self.absorbs(drv) {
            of(0, About::Output, u64::from(drv), 1) & !PRIVATE
        } else {
            of(0, About::Output, key, 0) & !PRIVATE | key & PRIVATE
        }
    }
}

fn fold(start: u64, drvs: &[Drv], class: impl Fn(Drv) -> u64) -> u64 {
    let mut hash = start;
    let mut private = start & PRIVATE;
    for drv in drvs {
        let class = class(*drv);
        hash = mix(hash, class);
        private |= class & PRIVATE;
    }
    hash & !PRIVATE | private
}
