//! A small simulation step by step, to be played against a real service.

use firn_core::Rung;

use crate::run::{Watch, run};
use crate::store::Answers;
use crate::{Drv, Outcome, Population, World};

/// Names the bytes of all outputs of one derivation, without holding any: equal numbers are equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content(pub u64);

/// What a client does to the service, and what must come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends the outputs of a derivation, unsigned. The view has their references.
    Upload {
        /// Who.
        account: u32,
        /// Which derivation's.
        drv: Drv,
        /// The bytes that it has built.
        content: Content,
    },
    /// Asks which outputs of a derivation are valid and lets the service fetch them from its caches. They must be valid then.
    Substitute {
        /// Who.
        account: u32,
        /// Which derivation's.
        drv: Drv,
    },
    /// Asks for a derivation. Its inputs are in the view, unless the cache has its outputs.
    Request {
        /// Who.
        account: u32,
        /// Which.
        drv: Drv,
        /// The rung that must answer.
        rung: Rung,
        /// The bytes that the account's view must have then; when the rung is [`Rung::Built`], what the builder must be made to give.
        /// `None` when the account asked for it before: nothing changes.
        content: Option<Content>,
    },
    /// A remote store sends the whole graph of a top-level derivation and asks for that.
    Graph {
        /// Who.
        account: u32,
        /// For which.
        target: Drv,
        /// Derivations whose outputs the cache must be asked for, besides what these refer to; ascending.
        fetched: Vec<Drv>,
        /// Which requests must be recorded, ascending: the rung and the bytes, as in [`Request`](Self::Request).
        answers: Vec<(Drv, Rung, Content)>,
    },
}

/// Everything that all accounts do, in order, by the rules of Firn.
///
/// To play it: give each derivation a path per number, make an object's references those of [`World::references`], let the cache have
/// (signed by a key that all accounts trust) what [`cached`](Self::cached) says, and make the builder give the bytes that the step
/// of the running request names. Outputs of [`Graph::is_fixed`](crate::Graph::is_fixed) derivations are content-addressed. A derivation with one output is enough: outputs come together here.
///
/// ```
/// use firn_simulate::{Graph, Params, Population, Scenario, Step, World};
/// let graph = Graph::synthetic(40, 7);
/// let params = Params { accounts: 5, ..Params::default() };
/// let world = World::new(&graph, &params);
/// let scenario = Scenario::new(&world, &Population::new(&graph, &params));
/// let requests = scenario.steps.iter().filter(|s| matches!(s, Step::Request { .. })).count();
/// assert_eq!(requests as u64, scenario.outcome.ordinary.requests() + scenario.outcome.fixed.requests());
/// ```
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What the public cache has before the first step.
    pub cached: Vec<(Drv, Content)>,
    /// What derivations with fixed outputs give, known beforehand.
    pub fixed: Vec<(Drv, Content)>,
    /// In order.
    pub steps: Vec<Step>,
    /// The same, counted.
    pub outcome: Outcome,
}

impl Scenario {
    /// Plays a simulation and writes down what happens. Takes memory for each step: for small populations.
    #[must_use]
    pub fn new(world: &World<'_>, population: &Population) -> Self {
        let mut steps = Vec::new();
        let outcome = run(world, population, &mut Record(&mut steps));
        let content = |drv: Drv| (drv, Content(world.cache_content(drv)));
        let cached = world.graph.drvs().filter(|d| world.is_cached(*d));
        let fixed = world.graph.drvs().filter(|d| world.graph.is_fixed(*d));
        Self {
            cached: cached.map(content).collect(),
            // The cache's is everybody's.
            fixed: fixed.map(content).collect(),
            steps,
            outcome,
        }
    }
}

struct Record<'s>(&'s mut Vec<Step>);

impl Watch for Record<'_> {
    fn upload(&mut self, account: u32, drv: Drv, content: u64) {
        let content = Content(content);
        self.0.push(Step::Upload {
            account,
            drv,
            content,
        });
    }

    fn substitute(&mut self, account: u32, drv: Drv) {
        self.0.push(Step::Substitute { account, drv });
    }

    fn request(&mut self, account: u32, drv: Drv, rung: Rung, content: u64) {
        let content = (content != 0).then_some(Content(content));
        self.0.push(Step::Request {
            account,
            drv,
            rung,
            content,
        });
    }

    fn graph(&mut self, account: u32, target: Drv, answers: &Answers) {
        let mut fetched = answers.fetched.clone();
        fetched.sort_unstable();
        let answer = |(drv, rung, content): &(Drv, Rung, u64)| (*drv, *rung, Content(*content));
        let mut answers: Vec<_> = answers.recorded.iter().map(answer).collect();
        answers.sort_unstable();
        self.0.push(Step::Graph {
            account,
            target,
            fetched,
            answers,
        });
    }
}
