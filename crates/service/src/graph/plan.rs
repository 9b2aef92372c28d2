//! Which derivations of a graph have to be fetched or built, and in which order.

use std::collections::{BTreeSet, BinaryHeap, HashMap};

use firn_nix::StorePath;

use super::load::Graph;

/// Outputs of one derivation, by number: a node has no more than 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outputs(u64);

impl Outputs {
    pub(crate) fn of(numbers: impl IntoIterator<Item = usize>) -> Self {
        let bit = |n: usize| 1u64 << n.min(63);
        Self(numbers.into_iter().map(bit).fold(0, |all, bit| all | bit))
    }

    pub(crate) fn has(self, number: usize) -> bool {
        self.0 & Self::of([number]).0 != 0
    }

    pub(crate) fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What becomes of a derivation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nobody needs it, as far as is known.
    #[default]
    Unneeded,
    /// What is wanted of it is there.
    Done,
    /// It comes out of a binary cache.
    Fetch,
    /// It is built, or reused.
    Build,
    /// It failed, or what it needs.
    Failed,
}

#[derive(Clone, Debug, Default)]
struct Place {
    step: Step,
    wanted: Outputs,
    /// What is known to be valid of it; `None` when nobody looked.
    valid: Option<Outputs>,
    /// Steps that it waits for.
    waits: usize,
    /// Steps that wait for it.
    needed_by: Vec<u32>,
    urgency: u64,
    /// Handed out.
    begun: bool,
}

/// The state of every derivation of a graph. Decides nothing about what is valid: it is told.
#[derive(Debug)]
pub(crate) struct Plan {
    places: Vec<Place>,
    /// To be decided.
    open: BTreeSet<usize>,
    ready: BinaryHeap<(u64, usize)>,
    /// Steps that are fetched or built and have not ended.
    pending: usize,
    /// Paths of outputs that did not follow from the graph, by the numbers of node and output.
    realised: HashMap<(usize, usize), StorePath>,
}

impl Plan {
    pub(crate) fn of(graph: &Graph) -> Self {
        Self {
            places: vec![Place::default(); graph.len()],
            open: BTreeSet::new(),
            ready: BinaryHeap::new(),
            pending: 0,
            realised: HashMap::new(),
        }
    }

    /// An output is at this path.
    pub(crate) fn realise(&mut self, number: usize, output: usize, path: StorePath) {
        self.realised.insert((number, output), path);
    }

    /// Where an output is or will be, as far as that is known.
    pub(crate) fn path<'p>(
        &'p self,
        graph: &'p Graph,
        number: usize,
        output: usize,
    ) -> Option<&'p StorePath> {
        let stated = graph.node(number)?.outputs.get(output)?.1.as_ref();
        stated.or_else(|| self.realised.get(&(number, output)))
    }

    /// Where all that is wanted of a node is or will be; `None` when that is not known of all.
    pub(crate) fn wanted_paths(&self, graph: &Graph, number: usize) -> Option<Vec<StorePath>> {
        let wanted = self.wanted(number);
        let outputs = 0..graph.node(number)?.outputs.len();
        let paths = outputs.filter(|output| wanted.has(*output));
        paths
            .map(|output| self.path(graph, number, output).cloned())
            .collect()
    }

    fn place(&self, number: usize) -> Option<&Place> {
        self.places.get(number)
    }

    pub(crate) fn step(&self, number: usize) -> Step {
        self.place(number).map_or(Step::Unneeded, |place| place.step)
    }

    pub(crate) fn wanted(&self, number: usize) -> Outputs {
        self.place(number)
            .map_or(Outputs::default(), |place| place.wanted)
    }

    pub(crate) fn is_valid(&self, number: usize, output: usize) -> bool {
        let valid = self.place(number).and_then(|place| place.valid);
        valid.is_some_and(|valid| valid.has(output))
    }

    /// Everything that is decided so, by number.
    pub(crate) fn all(&self, step: Step) -> impl Iterator<Item = usize> + '_ {
        let places = self.places.iter().enumerate();
        places
            .filter(move |(_, place)| place.step == step)
            .map(|(number, _)| number)
    }

    /// Fetches and builds that have not ended.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Wants these outputs. What was decided on fewer is decided again.
    pub(crate) fn want(&mut self, number: usize, outputs: Outputs) {
        let Some(place) = self.places.get_mut(number) else {
            return;
        };
        let before = place.wanted;
        place.wanted = before.and(outputs);
        let more = place.wanted != before;
        match place.step {
            Step::Unneeded => {
                self.open.insert(number);
            }
            Step::Done if more && !place.valid.is_some_and(|valid| place.wanted.is_within(valid)) => {
                place.step = Step::Unneeded;
                self.open.insert(number);
            }
            // A fetch that turns out to bring too little is decided again when it has ended.
            _ => {}
        }
    }

    /// Those that are to be decided; they are not open any more.
    pub(crate) fn take_open(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.open)
    }

    /// The open ones and what is below them, as many of whose validity is not known, nearest first.
    pub(crate) fn unknown(&self, graph: &Graph, wave: &BTreeSet<usize>, most: usize) -> Vec<usize> {
        let unknown = |number: &usize| self.place(*number).is_some_and(|place| place.valid.is_none());
        let mut found: Vec<usize> = wave.iter().copied().filter(unknown).collect();
        if found.is_empty() {
            return found;
        }
        let mut seen: BTreeSet<usize> = found.iter().copied().collect();
        let mut next = 0;
        while let Some(&number) = found.get(next)
            && found.len() < most
        {
            next += 1;
            let Some(node) = graph.node(number) else { continue };
            let below = graph.inputs(node).map(|(input, _)| input);
            found.extend(below.filter(|input| unknown(input) && seen.insert(*input)));
        }
        found
    }

    pub(crate) fn note_valid(&mut self, number: usize, outputs: Outputs) {
        if let Some(place) = self.places.get_mut(number) {
            place.valid = Some(place.valid.unwrap_or_default().and(outputs));
        }
    }

    /// Whether all that is wanted of it is known to be valid.
    pub(crate) fn has_all(&self, number: usize) -> bool {
        let place = self.place(number);
        place.is_some_and(|p| p.valid.is_some_and(|valid| p.wanted.is_within(valid)))
    }

    /// Nothing is to be done about it.
    pub(crate) fn done(&mut self, number: usize) {
        if let Some(place) = self.places.get_mut(number) {
            place.step = Step::Done;
        }
    }

    pub(crate) fn fetch(&mut self, number: usize) {
        self.begin(number, Step::Fetch);
        self.when_ready(number);
    }

    /// It is to be built, and what it needs is wanted.
    pub(crate) fn build(&mut self, number: usize, graph: &Graph) {
        let Some(node) = graph.node(number) else { return };
        self.begin(number, Step::Build);
        for (input, outputs) in graph.inputs(node) {
            self.want(input, Outputs::of(outputs));
        }
    }

    fn begin(&mut self, number: usize, step: Step) {
        if let Some(place) = self.places.get_mut(number) {
            if !matches!(place.step, Step::Fetch | Step::Build) {
                self.pending += 1;
            }
            place.step = step;
            place.begun = false;
        }
    }

    /// After everything is decided: what waits for what. `newly` are the builds that were decided since the last time. Those of them that need
    /// something that has failed, with that.
    pub(crate) fn link(&mut self, graph: &Graph, newly: &BTreeSet<usize>) -> Vec<(usize, usize)> {
        let mut fallen = Vec::new();
        for &number in newly {
            let Some(node) = graph.node(number) else { continue };
            let needed: BTreeSet<usize> = graph.inputs(node).map(|(input, _)| input).collect();
            let mut waits = 0;
            for input in needed {
                let Some(place) = self.places.get_mut(input) else {
                    continue;
                };
                if matches!(place.step, Step::Fetch | Step::Build) {
                    place.needed_by.push(u32::try_from(number).unwrap_or(u32::MAX));
                    waits += 1;
                } else if place.step == Step::Failed {
                    fallen.push((number, input));
                }
            }
            if let Some(place) = self.places.get_mut(number) {
                place.waits = waits;
            }
            self.when_ready(number);
        }
        fallen
    }

    /// Gives every build the length of the longest way from it to a target, itself included. `cost` is what a node takes, at least 1.
    pub(crate) fn rank(&mut self, graph: &Graph, cost: impl Fn(usize) -> u64) {
        // What needs a node stands behind it.
        for number in (0..self.places.len()).rev() {
            if self.step(number) != Step::Build {
                continue;
            }
            let Some(node) = graph.node(number) else { continue };
            let own = self.place(number).map_or(0, |p| p.urgency).max(cost(number));
            if let Some(place) = self.places.get_mut(number) {
                place.urgency = own;
            }
            for (input, _) in graph.inputs(node) {
                if let Some(place) = self.places.get_mut(input) {
                    place.urgency = place.urgency.max(own.saturating_add(cost(input)));
                }
            }
        }
    }

    fn when_ready(&mut self, number: usize) {
        if let Some(place) = self.place(number)
            && place.waits == 0
            && !place.begun
            && matches!(place.step, Step::Fetch | Step::Build)
        {
            self.ready.push((place.urgency, number));
        }
    }

    /// The most urgent step that waits for nothing, with its urgency.
    pub(crate) fn next(&mut self) -> Option<(usize, u64)> {
        while let Some((urgency, number)) = self.ready.pop() {
            if let Some(place) = self.places.get_mut(number)
                && !std::mem::replace(&mut place.begun, true)
            {
                return Some((number, urgency));
            }
        }
        None
    }

    /// A step has ended well: all that is wanted is valid.
    pub(crate) fn succeeded(&mut self, number: usize) {
        self.ended(number, Step::Done);
        let needed_by = self
            .places
            .get_mut(number)
            .map(|p| std::mem::take(&mut p.needed_by));
        for waiter in needed_by.unwrap_or_default() {
            let waiter = waiter as usize;
            if let Some(place) = self.places.get_mut(waiter) {
                place.waits = place.waits.saturating_sub(1);
            }
            self.when_ready(waiter);
        }
    }

    /// A step has failed; all that needs it fails with it, in the order in which they are found.
    pub(crate) fn failed(&mut self, number: usize) -> Vec<usize> {
        let mut fallen = Vec::new();
        let mut stack = vec![number];
        while let Some(number) = stack.pop() {
            if self.step(number) == Step::Failed {
                continue;
            }
            self.ended(number, Step::Failed);
            fallen.push(number);
            let needed_by = self
                .places
                .get_mut(number)
                .map(|p| std::mem::take(&mut p.needed_by));
            stack.extend(needed_by.unwrap_or_default().into_iter().map(|n| n as usize));
        }
        fallen
    }

    fn ended(&mut self, number: usize, step: Step) {
        if let Some(place) = self.places.get_mut(number) {
            if matches!(place.step, Step::Fetch | Step::Build) {
                self.pending = self.pending.saturating_sub(1);
            }
            place.step = step;
            place.begun = true;
        }
    }
}
