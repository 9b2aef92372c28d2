//! Accounts that use the service as a remote store: it has the whole graph, builds all of it, and takes what was built before from the
//! same graph.

#![expect(
    clippy::indexing_slicing,
    reason = "every table has an entry for each derivation of the graph"
)]

use firn_core::{Rung, Standing};

use crate::Drv;
use crate::client::{Entry, Pending};
use crate::run::{Service, Watch, fetch};

/// What came of one graph.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Out of the cache.
    pub(crate) fetched: Vec<Drv>,
    /// Requests that the service records, with contents.
    pub(crate) recorded: Vec<(Drv, Rung, u64)>,
}

/// By derivation: when it was come to last, as numbers of accounts and of their requests.
pub(crate) struct Met {
    needed: Vec<u32>,
    planned: Vec<u64>,
    requests: u64,
}

impl Met {
    pub(crate) fn new(derivations: usize) -> Self {
        Self {
            needed: vec![u32::MAX; derivations],
            planned: vec![0; derivations],
            requests: 0,
        }
    }

    fn needs(&mut self, account: u32, drv: Drv) -> bool {
        std::mem::replace(&mut self.needed[drv as usize], account) != account
    }

    fn plans(&mut self, drv: Drv) -> bool {
        std::mem::replace(&mut self.planned[drv as usize], self.requests) != self.requests
    }
}

impl<W: Watch> Service<'_, W> {
    /// A remote store asks for a top-level derivation. What is valid when it asks decides: what comes along with something else that is
    /// taken is still taken itself where it is needed.
    pub(crate) fn build_graph(&mut self, account: u32, target: Drv, seen: &mut [bool]) {
        let world = self.world;
        for drv in world
            .needed(target)
            .iter()
            .copied()
            .filter(|d| !world.is_cached(*d))
        {
            if self.met.needs(account, drv) {
                self.counts(drv).below += 1;
                if !std::mem::replace(&mut seen[drv as usize], true) {
                    self.counts(drv).distinct += 1;
                }
            }
        }
        let mut answers = Answers::default();
        let (mut found, mut builds, mut open) = (Vec::new(), Vec::new(), vec![target]);
        let mut known = Vec::new();
        self.met.requests += 1;
        while let Some(drv) = open.pop() {
            if !self.met.plans(drv) {
                continue;
            }
            if self.client.has(drv) {
                self.counts(drv).already_valid += 1;
            } else if world.is_cached(drv) {
                found.push(drv);
                if self.signed[drv as usize] {
                    self.counts(drv).signed += 1;
                } else {
                    self.counts(drv).substituted += 1;
                    answers.fetched.push(drv);
                }
            } else if let Some(content) = self.grounded[drv as usize]
                && self.may_take(drv, &mut known)
            {
                found.push(drv);
                self.counts(drv).grounded += 1;
                answers.recorded.push((drv, Rung::Grounded, content));
            } else {
                builds.push(drv);
                open.extend(world.graph.inputs(drv));
            }
        }
        for drv in &answers.fetched {
            fetch(world, &mut self.signed, *drv);
        }
        self.bring(found);
        builds.sort_unstable();
        for drv in builds {
            let (rung, content) = self.by_key(drv);
            let known = |i: &Drv| world.graph.is_fixed(*i) || self.grounded[*i as usize].is_some();
            if world.graph.inputs(drv).iter().all(known) {
                self.grounded[drv as usize] = Some(content);
            }
            let entry = self.entry(drv, content, content, Pending::Nothing);
            self.client.put(drv, entry);
            answers.recorded.push((drv, rung, content));
        }
        for (drv, ..) in &answers.recorded {
            self.counts(*drv).below -= 1;
        }
        self.watch.graph(account, target, &answers);
    }

    /// Whether what is grounded is for the account. `known` is what was found of this request: by derivation, whether that holds for what is
    /// built of it.
    fn may_take(&self, drv: Drv, known: &mut Vec<Option<bool>>) -> bool {
        let graph = self.world.graph;
        known.resize(graph.len(), None);
        let mut todo = graph.inputs(drv).to_vec();
        while let Some(&next) = todo.last() {
            let inputs = graph.inputs(next).iter();
            let unknown: Vec<Drv> = inputs
                .filter(|i| known[**i as usize].is_none())
                .copied()
                .collect();
            if unknown.is_empty() {
                todo.pop();
                known[next as usize] = Some(self.standing(next).is_open(self.below(next, known)));
            } else {
                todo.extend(unknown);
            }
        }
        self.standing(drv).may_take(self.below(drv, known))
    }

    fn below(&self, drv: Drv, known: &[Option<bool>]) -> bool {
        let mut inputs = self.world.graph.inputs(drv).iter();
        inputs.all(|input| known[*input as usize] == Some(true))
    }

    fn standing(&self, drv: Drv) -> Standing {
        let grounded = self.grounded[drv as usize];
        // What the cache has signed is in every view, once somebody has brought it.
        let signed = self.world.is_cached(drv) && self.signed[drv as usize];
        let own = match self.client.has(drv) {
            true => Some(self.client.get(drv).content),
            false => signed.then(|| self.world.cache_content(drv)),
        };
        match self.world.graph.is_fixed(drv) {
            true => Standing::Fixed {
                has: own.is_some(),
                grounded: grounded.is_some(),
            },
            false => Standing::Built {
                differs: own.is_some() && own != grounded,
            },
        }
    }

    /// What the cache has or what is grounded becomes valid, with all that it refers to, which is of the same kind.
    fn bring(&mut self, mut open: Vec<Drv>) {
        let mut closure = Vec::new();
        while let Some(drv) = open.pop() {
            if !self.client.has(drv) {
                self.client.put(drv, Entry::default());
                closure.push(drv);
                open.extend(self.world.references(drv));
            }
        }
        // References first.
        closure.sort_unstable();
        for drv in closure {
            let content = match self.grounded[drv as usize] {
                Some(content) if !self.world.is_cached(drv) => content,
                _ => self.world.cache_content(drv),
            };
            let entry = self.entry(drv, content, content, Pending::Nothing);
            self.client.put(drv, entry);
        }
    }
}
