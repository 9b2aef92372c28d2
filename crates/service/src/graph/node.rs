//! One derivation of a graph: read from its text, and checked against its path and its inputs.

use std::collections::BTreeSet;
use std::sync::Arc;

use firn_nix::derivation::{AtermError, DerivationKind, DrvHash, InvalidDerivation, Modulo, ModuloError};
use firn_nix::realisation::{DrvId, DrvOutput};
use firn_nix::rewrite::placeholder;
use firn_nix::{
    CaMethod, ContentAddress, Derivation, DerivationOutput, Hash, PathError, StorePath, excerpt,
    output_path_name,
};

/// What planning needs of a derivation. Everything follows from its path: the text hashes to it, and its outputs' paths follow from the
/// text and those of its inputs, which are nodes themselves. So it is the same for everybody.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) path: StorePath,
    pub(crate) kind: DerivationKind,
    /// Whether fixed outputs are named by hashes for which nobody can find two contents.
    pub(super) pinned: bool,
    /// The system that it is built for.
    pub(crate) platform: Box<[u8]>,
    /// In the order of names, with paths as far as they are known before the build.
    pub(crate) outputs: Box<[(String, Option<StorePath>)]>,
    /// Derivations that it is built from, with the numbers of the outputs that it uses of each.
    pub(crate) inputs: Box<[(StorePath, Box<[u16]>)]>,
    /// What it is as the input of another one.
    hash: Arc<DrvHash>,
    /// By output: what the ids of its realisations contain.
    pub(crate) ids: DrvHash,
}

/// Most outputs of a derivation in a graph.
pub(super) const MAX_OUTPUTS: usize = 64;
/// Longest name of a system.
const MAX_PLATFORM: usize = 256;

/// Why a derivation is not taken as it stands.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("cannot read derivation '{path}': {why}")]
    Unreadable { path: StorePath, why: String },
    #[error("cannot read derivation '{path}': {source}")]
    Syntax { path: StorePath, source: AtermError },
    #[error("derivation '{path}' has a text that belongs to '{computed}'")]
    OtherPath { path: StorePath, computed: StorePath },
    #[error("derivation '{path}' has {count} {what}, and may have {most} in a graph")]
    TooMany {
        path: StorePath,
        what: &'static str,
        count: usize,
        most: usize,
    },
    #[error("derivation '{path}': {source}")]
    Invalid {
        path: StorePath,
        source: InvalidDerivation,
    },
    #[error(
        "derivation '{path}' states the path '{stated}' for its output '{output}', but its graph gives '{computed}'"
    )]
    OutputPath {
        path: StorePath,
        output: String,
        stated: String,
        computed: String,
    },
    #[error(
        "derivation '{path}' has '{stated}' in its environment for its output '{output}', which must be '{expected}'"
    )]
    Environment {
        path: StorePath,
        output: String,
        stated: String,
        expected: String,
    },
    #[error("derivation '{path}': {source}")]
    Hash { path: StorePath, source: ModuloError },
    #[error("derivation '{path}': {source}")]
    Name { path: StorePath, source: PathError },
}

impl Node {
    /// Reads and checks the text at `path`. `input` has the nodes of its inputs.
    pub(crate) fn read<'n>(
        path: &StorePath,
        text: &[u8],
        input: impl Fn(&StorePath) -> Option<&'n Self>,
    ) -> Result<Self, NodeError> {
        let named = || path.clone();
        let drv = parse(path, text)?;
        let kind = drv.basic.check(path).map_err(|source| NodeError::Invalid {
            path: named(),
            source,
        })?;
        for (what, count, most) in [
            ("outputs", drv.basic.outputs.len(), MAX_OUTPUTS),
            ("bytes of platform", drv.basic.platform.len(), MAX_PLATFORM),
        ] {
            if count > most {
                let path = named();
                return Err(NodeError::TooMany {
                    path,
                    what,
                    count,
                    most,
                });
            }
        }
        let name = path.derivation_name().unwrap_or_default();
        let failed = |source| NodeError::Hash {
            path: named(),
            source,
        };
        let mut modulo = Modulo::new();
        for drv_path in drv.input_drvs.keys() {
            if let Some(node) = input(drv_path) {
                modulo.insert(drv_path.clone(), Arc::clone(&node.hash));
            }
        }
        let ids = modulo.output_hash(&drv, name, |_| None).map_err(failed)?;
        let mut outputs = Vec::with_capacity(drv.basic.outputs.len());
        for (output_name, output) in &drv.basic.outputs {
            let computed = computed(name, output_name, output, &ids).map_err(|source| NodeError::Name {
                path: named(),
                source,
            })?;
            agrees(path, &drv, output_name, output, computed.as_ref())?;
            outputs.push((output_name.clone(), computed));
        }
        let hash = modulo.own_hash(&drv, name).map_err(failed)?;
        // A fixed output does not depend on its inputs: they may be missing here, and then it cannot be built.
        let numbers = |(path, names): (&StorePath, &BTreeSet<String>)| {
            let node = input(path);
            let number = |name: &String| u16::try_from(node?.output(name)?).ok();
            // The same string for all that need it.
            let path = node.map_or(path, |node| &node.path);
            (path.clone(), names.iter().filter_map(number).collect())
        };
        let inputs: Vec<(StorePath, Box<[u16]>)> = drv.input_drvs.iter().map(numbers).collect();
        Ok(Self {
            path: named(),
            kind,
            pinned: drv.basic.outputs.values().all(is_pinned),
            platform: drv.basic.platform.into(),
            outputs: outputs.into(),
            inputs: inputs.into(),
            hash: Arc::new(hash),
            ids,
        })
    }

    /// Under which name an output's realisations are known.
    pub(crate) fn id(&self, output: &str) -> Option<DrvOutput> {
        Some(DrvOutput {
            drv: DrvId::Modulo(*self.ids.get(output)?),
            output: output.to_owned(),
        })
    }

    /// Whether an output can be at that path. Ids leave out the derivation's name, and two that differ in nothing else have outputs of their own.
    pub(crate) fn may_have(&self, output: usize, path: &StorePath) -> bool {
        let name = || {
            let drv_name = self.path.derivation_name()?;
            output_path_name(drv_name, &self.outputs.get(output)?.0).ok()
        };
        name().is_some_and(|name| name == path.name())
    }

    /// What it takes to remember it, in edges, of 64 bytes each.
    pub(super) fn weight(&self) -> usize {
        let outputs = self.outputs.iter();
        // A path, two hashes, and its name four times.
        let outputs: usize = outputs.map(|(name, _)| 6 + name.len() / 16).sum();
        8 + self.inputs.len() + outputs
    }

    /// The number of an output.
    pub(crate) fn output(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|(known, _)| known == name)
    }
}

/// Reads a text that is said to be that of the derivation at `path`.
pub(super) fn parse(path: &StorePath, text: &[u8]) -> Result<Derivation, NodeError> {
    let drv = Derivation::parse(text).map_err(|source| NodeError::Syntax {
        path: path.clone(),
        source,
    })?;
    belongs(path, text, &drv)?;
    Ok(drv)
}

/// A `.drv` is a text file whose path follows from its bytes and references.
fn belongs(path: &StorePath, text: &[u8], drv: &Derivation) -> Result<(), NodeError> {
    let ca = ContentAddress {
        method: CaMethod::Text,
        hash: Hash::sha256(text),
    };
    let references: BTreeSet<StorePath> = drv
        .input_drvs
        .keys()
        .chain(&drv.basic.input_srcs)
        .cloned()
        .collect();
    let computed =
        StorePath::make_content_addressed(path.name(), &ca, &references, false).map_err(|source| {
            NodeError::Name {
                path: path.clone(),
                source,
            }
        })?;
    if computed == *path {
        return Ok(());
    }
    Err(NodeError::OtherPath {
        path: path.clone(),
        computed,
    })
}

fn is_pinned(output: &DerivationOutput) -> bool {
    match output {
        DerivationOutput::Fixed { ca, .. } => ca.hash.algo().is_collision_resistant(),
        _ => true,
    }
}

/// The path of an output as it follows from the graph.
fn computed(
    name: &str,
    output_name: &str,
    output: &DerivationOutput,
    hash: &DrvHash,
) -> Result<Option<StorePath>, PathError> {
    match output {
        DerivationOutput::Fixed { .. } => output.known_path(name, output_name),
        DerivationOutput::Floating { .. } | DerivationOutput::Impure { .. } => Ok(None),
        DerivationOutput::InputAddressed(_) | DerivationOutput::Deferred if hash.deferred => Ok(None),
        DerivationOutput::InputAddressed(_) | DerivationOutput::Deferred => match hash.get(output_name) {
            Some(hash) => StorePath::make_output(output_name, hash, name).map(Some),
            None => Ok(None),
        },
    }
}

/// What the derivation says of the output's path, in its output and in its environment, must be what follows: a hash modulo has neither.
fn agrees(
    path: &StorePath,
    drv: &Derivation,
    name: &str,
    output: &DerivationOutput,
    computed: Option<&StorePath>,
) -> Result<(), NodeError> {
    let stated = output.path();
    if stated != computed {
        let shown =
            |path: Option<&StorePath>| path.map_or_else(|| "none yet".to_owned(), ToString::to_string);
        return Err(NodeError::OutputPath {
            path: path.clone(),
            output: name.to_owned(),
            stated: shown(stated),
            computed: shown(computed),
        });
    }
    let Some(value) = drv.basic.env.get(name.as_bytes()) else {
        return Ok(());
    };
    let expected = match (computed, output) {
        (Some(computed), _) => computed.to_string(),
        (None, DerivationOutput::InputAddressed(_) | DerivationOutput::Deferred) => String::new(),
        (None, _) => placeholder(name),
    };
    if *value == expected.as_bytes() {
        return Ok(());
    }
    Err(NodeError::Environment {
        path: path.clone(),
        output: name.to_owned(),
        stated: excerpt(value).to_string(),
        expected,
    })
}
