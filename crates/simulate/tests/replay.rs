//! The simulator against the rules of `firn-core`, two ways: its scenarios step by step, and its counts against a slow client of its own.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use firn_core::{BuildKey, Rung};
use firn_nix::NarHash;
use firn_simulate::{
    Counts, Drv, Graph, Outcome, Params, Population, Scenario, Share, Step, TargetRange, World,
};
use proptest::prelude::*;
use support::{Slow, bytes};

/// Per cent of: reproducible, local, cached, runtime, absorb, stores.
type Shares = (u32, u32, u32, u32, u32, u32);

fn params() -> impl Strategy<Value = Params> {
    let any_share = || (0u32..=10).prop_map(|tenths| tenths * 10);
    let anything = (
        any_share(),
        any_share(),
        any_share(),
        any_share(),
        any_share(),
        any_share(),
    );
    // Contents that are equal while those of their references are not.
    let hidden = (50u32..80, 10u32..40, 0u32..30, 30u32..60, 60u32..=100, 0u32..70);
    let shares = prop_oneof![anything.boxed(), hidden.boxed()];
    let share = |percent: u32| Share::percent(percent.into());
    ((2u32..6, any::<u64>(), 1u32..6), shares).prop_map(
        move |((accounts, seed, max), shares): (_, Shares)| Params {
            accounts,
            reproducible: share(shares.0),
            local: share(shares.1),
            cached: share(shares.2),
            runtime: share(shares.3),
            absorb: share(shares.4),
            stores: share(shares.5),
            targets: TargetRange { min: 1, max },
            seed,
            ..Params::default()
        },
    )
}

/// Every rung and every content of a scenario is what the rules give.
fn replay(graph: &Graph, params: &Params) -> Result<(), TestCaseError> {
    let world = World::new(graph, params);
    let scenario = Scenario::new(&world, &Population::new(graph, params));
    let mut slow = Slow::new(graph, &world);
    let content = |c: firn_simulate::Content| bytes(c.0.into());
    let cached: BTreeMap<Drv, NarHash> = scenario.cached.iter().map(|(d, c)| (*d, content(*c))).collect();
    // Contents of reproducible derivations are a function of the real key, and a different one for each key.
    let mut of_key: HashMap<BuildKey, NarHash> = HashMap::new();
    let mut of_content: HashMap<NarHash, BuildKey> = HashMap::new();
    let mut ran_all = Vec::new();
    for step in &scenario.steps {
        match step.clone() {
            Step::Upload {
                account,
                drv,
                content: c,
            } => {
                prop_assert_eq!(slow.content(account, drv), None, "{:?}", step);
                slow.upload(account, drv, content(c));
                prop_assert_eq!(slow.content(account, drv), Some(content(c)), "{:?}", step);
            }
            Step::Substitute { account, drv } => {
                slow.fetch(drv, &cached);
                prop_assert_eq!(slow.content(account, drv), cached.get(&drv).copied());
            }
            Step::Request {
                account,
                drv,
                rung,
                content: c,
            } => {
                let mut ran = None;
                let answer = slow.request(account, drv, &cached, |key| {
                    ran = Some(key);
                    content(c.unwrap())
                });
                prop_assert_eq!(answer, rung, "{:?}", step);
                if let Some(c) = c {
                    prop_assert_eq!(slow.content(account, drv), Some(content(c)), "{:?}", step);
                }
                ran_all.extend(ran.zip(c).map(|(key, c)| (drv, key, content(c))));
            }
            Step::Graph {
                account,
                target,
                fetched,
                answers,
            } => {
                let told: BTreeMap<Drv, NarHash> =
                    answers.iter().map(|(d, _, c)| (*d, content(*c))).collect();
                let mut met = slow.build_graph(account, target, &cached, |drv, key| {
                    ran_all.push((drv, key, told[&drv]));
                    told[&drv]
                });
                met.retain(|_, rung| *rung != Rung::AlreadyValid);
                let found: Vec<Drv> = met
                    .extract_if(.., |_, r| *r == Rung::Substituted)
                    .map(|(d, _)| d)
                    .collect();
                prop_assert_eq!(found, fetched, "{:?}", step);
                prop_assert_eq!(
                    met,
                    answers.iter().map(|(d, r, _)| (*d, *r)).collect(),
                    "{:?}",
                    step
                );
                for (drv, content) in told {
                    prop_assert_eq!(slow.content(account, drv), Some(content), "{:?}", step);
                }
            }
        }
    }
    for (drv, key, content) in ran_all {
        if world.is_reproducible(drv) {
            prop_assert_eq!(*of_key.entry(key).or_insert(content), content);
            if !world.absorbs(drv) {
                prop_assert_eq!(*of_content.entry(content).or_insert(key), key);
            }
        }
    }
    Ok(())
}

/// One account's machine, without any of the simulator's shortcuts.
struct Machine {
    account: u32,
    store: BTreeMap<Drv, NarHash>,
    asked: BTreeSet<Drv>,
}

struct Model<'w> {
    slow: Slow<'w>,
    cached: BTreeMap<Drv, NarHash>,
    runs: Runs,
    outcome: Outcome,
    distinct: BTreeSet<Drv>,
}

/// What runs give.
struct Runs {
    fresh: u128,
}

impl Runs {
    fn run(&mut self, world: &World<'_>, drv: Drv, key: BuildKey) -> NarHash {
        let known = |tag: u8, n: u128| {
            let mut hash = key.0;
            if tag > 0 {
                hash = [0; 32];
                hash[0..16].copy_from_slice(&n.to_le_bytes());
                hash[31] = tag;
            }
            NarHash::new(hash)
        };
        if !world.is_reproducible(drv) {
            self.fresh += 1;
            known(1, self.fresh)
        } else if world.absorbs(drv) {
            known(2, drv.into())
        } else {
            known(0, 0)
        }
    }
}

impl Model<'_> {
    fn counts(&mut self, drv: Drv) -> &mut Counts {
        if self.slow.graph.is_fixed(drv) {
            &mut self.outcome.fixed
        } else {
            &mut self.outcome.ordinary
        }
    }

    fn want(&mut self, machine: &mut Machine, drv: Drv, seen: &mut BTreeSet<Drv>) {
        if !seen.insert(drv) {
            return;
        }
        let world = self.slow.world;
        let is_cached = self.cached.contains_key(&drv);
        let first = if is_cached {
            world.references(drv)
        } else {
            self.slow.graph.inputs(drv)
        };
        first.iter().for_each(|d| self.want(machine, *d, seen));
        if !is_cached {
            self.distinct.insert(drv);
        }
        if !world.is_local(machine.account, drv) {
            self.ask(machine, drv);
        } else if !machine.store.contains_key(&drv) {
            self.counts(drv).local += 1;
            let content = match self.cached.get(&drv) {
                Some(signed) if world.is_reproducible(drv) => *signed,
                // It is not reproducible: the key does not matter.
                Some(_) => self.runs.run(world, drv, BuildKey([0; 32])),
                None => {
                    let key = self.slow.key(drv, |input| machine.store[&input]);
                    self.runs.run(world, drv, key)
                }
            };
            machine.store.insert(drv, content);
        }
    }

    fn ask(&mut self, machine: &mut Machine, drv: Drv) {
        let account = machine.account;
        if !self.cached.contains_key(&drv) && self.slow.content(account, drv).is_none() {
            for input in self.slow.input_closure(drv) {
                if self.slow.content(account, input).is_some() {
                    continue;
                }
                if self.cached.contains_key(&input) {
                    self.slow.fetch(input, &self.cached);
                } else {
                    self.outcome.uploads += 1;
                    self.slow.upload(account, input, machine.store[&input]);
                }
            }
        }
        let (world, runs) = (self.slow.world, &mut self.runs);
        let rung = self
            .slow
            .request(account, drv, &self.cached, |key| runs.run(world, drv, key));
        let again = !machine.asked.insert(drv);
        let counts = self.counts(drv);
        match rung {
            Rung::AlreadyValid if again => counts.already_valid += 1,
            Rung::AlreadyValid => counts.signed += 1,
            Rung::Substituted => counts.substituted += 1,
            Rung::Shared => counts.shared += 1,
            Rung::Built => counts.built += 1,
            Rung::Trusted | Rung::Grounded | Rung::Joined | Rung::Failed => unreachable!(),
        }
        let content = self.slow.content(account, drv).unwrap();
        machine.store.insert(drv, content);
    }
}

impl Model<'_> {
    /// A remote store's account.
    fn store(&mut self, machine: &mut Machine, targets: &[Drv]) {
        let (account, world) = (machine.account, self.slow.world);
        let mut unasked = BTreeSet::new();
        let mut todo = targets.to_vec();
        while let Some(drv) = todo.pop() {
            if !self.cached.contains_key(&drv) && unasked.insert(drv) {
                todo.extend(self.slow.graph.inputs(drv));
            }
        }
        self.distinct.extend(&unasked);
        for target in targets {
            let runs = &mut self.runs;
            let met = self.slow.build_graph(account, *target, &self.cached, |drv, key| {
                runs.run(world, drv, key)
            });
            for (drv, rung) in &met {
                let again = machine.asked.contains(drv);
                let counts = self.counts(*drv);
                match rung {
                    Rung::AlreadyValid if again => counts.already_valid += 1,
                    Rung::AlreadyValid => counts.signed += 1,
                    Rung::Substituted => counts.substituted += 1,
                    Rung::Grounded => counts.grounded += 1,
                    Rung::Shared => counts.shared += 1,
                    Rung::Built => counts.built += 1,
                    Rung::Trusted | Rung::Joined | Rung::Failed => unreachable!(),
                }
                if !matches!(rung, Rung::AlreadyValid | Rung::Substituted) {
                    unasked.remove(drv);
                }
            }
            let mut todo: Vec<Drv> = met.into_keys().collect();
            while let Some(drv) = todo.pop() {
                if machine.asked.insert(drv) {
                    todo.extend(world.references(drv));
                }
            }
        }
        for drv in unasked {
            self.counts(drv).below += 1;
        }
    }
}

/// The counts that a client without shortcuts finds.
fn slow_outcome(graph: &Graph, params: &Params) -> Outcome {
    let world = World::new(graph, params);
    let mut model = Model {
        slow: Slow::new(graph, &world),
        cached: BTreeMap::new(),
        runs: Runs { fresh: 0 },
        outcome: Outcome::default(),
        distinct: BTreeSet::new(),
    };
    let mut farm = BTreeMap::new();
    for drv in graph.drvs() {
        let key = model.slow.key(drv, |input| farm[&input]);
        farm.insert(drv, model.runs.run(&world, drv, key));
    }
    farm.retain(|drv, _| world.is_cached(*drv));
    model.cached = farm;
    for (targets, account) in Population::new(graph, params).accounts().zip(0..) {
        let mut machine = Machine {
            account,
            store: BTreeMap::new(),
            asked: BTreeSet::new(),
        };
        if world.is_store(account) {
            model.store(&mut machine, targets);
            continue;
        }
        for target in targets {
            model.want(&mut machine, *target, &mut BTreeSet::new());
        }
    }
    for drv in model.distinct.clone() {
        model.counts(drv).distinct += 1;
    }
    model.outcome
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn scenarios_follow_the_rules(params in params(), size in 1u32..60) {
        replay(&Graph::synthetic(size, params.seed), &params)?;
    }

    #[test]
    fn counts_are_those_of_a_slow_model(params in params(), size in 1u32..60) {
        let graph = Graph::synthetic(size, params.seed);
        prop_assert_eq!(firn_simulate::simulate(&graph, &params), slow_outcome(&graph, &params));
    }
}
