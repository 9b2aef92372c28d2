//! The derivations and which of them each is built from.

#![expect(
    clippy::indexing_slicing,
    reason = "numbers of derivations are made here, below the length of every table"
)]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use firn_nix::derivation::{AtermError, MAX_ATERM};
use firn_nix::{Derivation, DerivationOutput, StorePath};

/// A derivation's number in its graph. Inputs have smaller numbers than what is built from them.
pub type Drv = u32;

/// Most derivations.
const MAX_DRVS: usize = 1 << 22;

/// Why a graph cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The folder or a file in it.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Longer or more than is believable.
    #[error("{0} is too large")]
    TooLarge(String),
    /// A file is not a derivation.
    #[error("{name} is not a derivation: {source}")]
    Malformed {
        /// Which.
        name: String,
        /// Why.
        source: AtermError,
    },
    /// The folder does not have it.
    #[error("{user} is built from {input}, which is not in the folder")]
    Missing {
        /// What is not there.
        input: String,
        /// Who needs it.
        user: String,
    },
    /// Nothing to simulate.
    #[error("{0} holds no .drv files")]
    Empty(String),
    /// Derivations that are built from each other.
    #[error("{0} is built from itself")]
    Cycle(String),
}

/// One derivation on its way into a graph.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) fixed: bool,
    /// Positions in the list of nodes.
    pub(crate) inputs: Vec<usize>,
}

/// A directed acyclic graph of derivations. The outputs of one derivation come together and are one thing here.
#[derive(Clone, Debug)]
pub struct Graph {
    names: Vec<String>,
    fixed: Vec<bool>,
    starts: Vec<u32>,
    inputs: Vec<Drv>,
    targets: Vec<Drv>,
}

impl Graph {
    /// Every `.drv` file of a folder, named as in a store; the folder must have their inputs too. Other files are passed over.
    ///
    /// # Errors
    /// [`GraphError`] names the file.
    pub fn read(folder: &Path) -> Result<Self, GraphError> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |source| GraphError::Read { path, source }
        };
        let mut derivations = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            let base = path.file_name().unwrap_or_default().as_encoded_bytes();
            let Ok(name) = StorePath::from_base_name(base) else {
                continue;
            };
            if !name.is_derivation() {
                continue;
            }
            let file = std::fs::File::open(&path).map_err(failed(&path))?;
            let mut bytes = Vec::new();
            file.take(MAX_ATERM as u64 + 1)
                .read_to_end(&mut bytes)
                .map_err(failed(&path))?;
            if bytes.len() > MAX_ATERM || derivations.len() >= MAX_DRVS {
                return Err(GraphError::TooLarge(path.display().to_string()));
            }
            let drv = Derivation::parse(&bytes).map_err(|source| GraphError::Malformed {
                name: name.base_name().to_owned(),
                source,
            })?;
            let fixed = drv
                .basic
                .outputs
                .values()
                .all(|output| matches!(output, DerivationOutput::Fixed { .. }));
            let inputs: Vec<StorePath> = drv.input_drvs.into_keys().collect();
            derivations.insert(name, (fixed, inputs));
        }
        let places: BTreeMap<&StorePath, usize> = derivations.keys().zip(0..).collect();
        let mut nodes = Vec::with_capacity(derivations.len());
        for (name, (fixed, inputs)) in &derivations {
            let inputs: Result<Vec<usize>, GraphError> = inputs
                .iter()
                .map(|input| {
                    places.get(input).copied().ok_or_else(|| GraphError::Missing {
                        input: input.base_name().to_owned(),
                        user: name.base_name().to_owned(),
                    })
                })
                .collect();
            nodes.push(Node {
                name: name.base_name().to_owned(),
                fixed: *fixed,
                inputs: inputs?,
            });
        }
        if nodes.is_empty() {
            return Err(GraphError::Empty(folder.display().to_string()));
        }
        Self::new(&nodes)
    }

    /// Numbers the nodes so that inputs come first.
    pub(crate) fn new(nodes: &[Node]) -> Result<Self, GraphError> {
        let mut users = vec![Vec::new(); nodes.len()];
        let mut waiting: Vec<usize> = Vec::with_capacity(nodes.len());
        for (place, node) in nodes.iter().enumerate() {
            waiting.push(node.inputs.len());
            for input in &node.inputs {
                users[*input].push(place);
            }
        }
        let mut order: Vec<usize> = (0..nodes.len()).filter(|p| waiting[*p] == 0).collect();
        let mut next = 0;
        while let Some(place) = order.get(next).copied() {
            next += 1;
            for user in &users[place] {
                waiting[*user] -= 1;
                if waiting[*user] == 0 {
                    order.push(*user);
                }
            }
        }
        if let Some(place) = (0..nodes.len()).find(|p| waiting[*p] > 0) {
            return Err(GraphError::Cycle(nodes[place].name.clone()));
        }
        let mut numbers: Vec<Drv> = vec![0; nodes.len()];
        for (place, number) in order.iter().zip(0..) {
            numbers[*place] = number;
        }
        let mut graph = Self {
            names: Vec::new(),
            fixed: Vec::new(),
            starts: vec![0],
            inputs: Vec::new(),
            targets: Vec::new(),
        };
        for (place, number) in order.iter().zip(0..) {
            let node = &nodes[*place];
            graph.names.push(node.name.clone());
            graph.fixed.push(node.fixed);
            let mut inputs: Vec<Drv> = node.inputs.iter().map(|i| numbers[*i]).collect();
            inputs.sort_unstable();
            inputs.dedup();
            graph.inputs.extend(inputs);
            graph.starts.push(
                u32::try_from(graph.inputs.len()).map_err(|_| GraphError::TooLarge("the graph".into()))?,
            );
            if users[*place].is_empty() && !node.fixed {
                graph.targets.push(number);
            }
        }
        Ok(graph)
    }

    /// Number of derivations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Number of pairs of a derivation and one that it is built from.
    #[must_use]
    pub fn edges(&self) -> usize {
        self.inputs.len()
    }

    /// All numbers, inputs first.
    pub fn drvs(&self) -> impl DoubleEndedIterator<Item = Drv> + use<> {
        0..self.fixed.len() as Drv
    }

    /// `<32 digits>-<name>.drv`, or what a synthetic graph calls it.
    ///
    /// # Panics
    /// On the number of another graph.
    #[must_use]
    pub fn name(&self, drv: Drv) -> &str {
        &self.names[drv as usize]
    }

    /// Whether the derivation states the hash of its output.
    ///
    /// # Panics
    /// On the number of another graph.
    #[must_use]
    pub fn is_fixed(&self, drv: Drv) -> bool {
        self.fixed[drv as usize]
    }

    /// What it is built from, ascending.
    ///
    /// # Panics
    /// On the number of another graph.
    #[must_use]
    pub fn inputs(&self, drv: Drv) -> &[Drv] {
        let at = drv as usize;
        &self.inputs[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// What accounts ask for: derivations that nothing is built from, without fixed outputs.
    #[must_use]
    pub fn targets(&self) -> &[Drv] {
        &self.targets
    }
}
