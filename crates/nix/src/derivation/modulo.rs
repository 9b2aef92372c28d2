//! Nix's `hashDerivationModulo`: what a derivation is, apart from how its fixed-output inputs are fetched.
//!
//! It decides the paths of input-addressed outputs. A fixed output counts as its hash; any other input derivation counts as its own
//! hash modulo; inputs that thus become equal are merged. With a floating input somewhere below, output paths are deferred.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::aterm::{self, Masked};
use super::{BasicDerivation, Derivation, DerivationKind, DerivationOutput, InvalidDerivation};
use crate::{CaMethod, ContentAddress, Hash, PathError, StorePath};

/// What Nix puts in place of the hash of an impure derivation's outputs.
const IMPURE: &[u8] = b"impure";

/// Why a derivation has no hash modulo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuloError {
    /// The lookup does not know an input derivation.
    #[error("derivation '{0}' is not known")]
    Missing(StorePath),
    /// An input's path does not end in `.drv`.
    #[error("input '{0}' is not the path of a derivation")]
    NotADerivationPath(StorePath),
    /// An output is asked for that the input derivation does not have.
    #[error("derivation '{drv}' has no output '{output}'")]
    NoOutput {
        /// The input derivation.
        drv: StorePath,
        /// The output that is asked of it.
        output: String,
    },
    /// A derivation needs itself; impossible for honest paths.
    #[error("derivation '{0}' needs itself")]
    Cycle(StorePath),
    /// An input derivation's outputs are not of one valid kind.
    #[error("derivation '{drv}': {source}")]
    Invalid {
        /// Which one.
        drv: String,
        /// Why.
        source: InvalidDerivation,
    },
    /// Names that cannot be part of a store path.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// The hash of a derivation modulo, per output. Large graphs have many, so it is small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrvHash {
    /// In the order of names. Equal for all outputs but of fixed derivations.
    outputs: Box<[(Box<str>, Hash)]>,
    /// Whether output paths cannot be computed yet, because of a floating or impure output here or below.
    pub deferred: bool,
}

impl DrvHash {
    /// `outputs` in the order of names.
    fn new<'n>(outputs: impl Iterator<Item = (&'n String, Hash)>, deferred: bool) -> Self {
        Self {
            outputs: outputs.map(|(name, hash)| (name.as_str().into(), hash)).collect(),
            deferred,
        }
    }

    /// That of one output.
    #[must_use]
    pub fn get(&self, output: &str) -> Option<&Hash> {
        let place = self.outputs.binary_search_by(|(name, _)| (**name).cmp(output));
        Some(&self.outputs.get(place.ok()?)?.1)
    }

    /// By name of the output.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Hash)> {
        self.outputs.iter().map(|(name, hash)| (&**name, hash))
    }
}

/// Computes hashes modulo and remembers those of input derivations.
#[derive(Clone, Debug, Default)]
pub struct Modulo {
    memo: HashMap<StorePath, Arc<DrvHash>>,
}

/// A derivation whose inputs are being worked on.
struct Open {
    path: StorePath,
    drv: Arc<Derivation>,
    pending: Vec<StorePath>,
}

impl Modulo {
    /// Nothing remembered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is remembered of an input derivation.
    #[must_use]
    pub fn get(&self, drv: &StorePath) -> Option<&DrvHash> {
        self.memo.get(drv).map(Arc::as_ref)
    }

    /// Remembers a hash that was computed earlier.
    pub fn insert(&mut self, drv: StorePath, hash: impl Into<Arc<DrvHash>>) {
        self.memo.insert(drv, hash.into());
    }

    /// Hash of a derivation as the input of another one. `lookup` finds derivations by path; graphs may be deep.
    ///
    /// # Errors
    /// [`ModuloError`] names the derivation.
    pub fn input_hash(
        &mut self,
        drv: &StorePath,
        mut lookup: impl FnMut(&StorePath) -> Option<Arc<Derivation>>,
    ) -> Result<&DrvHash, ModuloError> {
        self.visit(drv, &mut lookup)?;
        self.get(drv).ok_or_else(|| ModuloError::Missing(drv.clone()))
    }

    /// Hash of a derivation without what depends on its output paths: what those are computed from, and what the ids of its
    /// realisations contain. `name` is the derivation's, without `.drv`.
    ///
    /// # Errors
    /// [`ModuloError`] names the derivation.
    pub fn output_hash(
        &mut self,
        drv: &Derivation,
        name: &str,
        mut lookup: impl FnMut(&StorePath) -> Option<Arc<Derivation>>,
    ) -> Result<DrvHash, ModuloError> {
        for input in drv.input_drvs.keys() {
            self.visit(input, &mut lookup)?;
        }
        self.hash(drv, name, Masked::Yes)
    }

    /// Hash of a derivation as the input of another one, when those of its own inputs are remembered.
    ///
    /// # Errors
    /// [`ModuloError`] names the derivation.
    pub fn own_hash(&self, drv: &Derivation, name: &str) -> Result<DrvHash, ModuloError> {
        self.hash(drv, name, Masked::No)
    }

    /// The paths of all outputs, computed; `None` where they are not known before the build. What the derivation states about
    /// them is not used.
    ///
    /// # Errors
    /// [`ModuloError`] names the derivation.
    pub fn output_paths(
        &mut self,
        drv: &Derivation,
        name: &str,
        lookup: impl FnMut(&StorePath) -> Option<Arc<Derivation>>,
    ) -> Result<BTreeMap<String, Option<StorePath>>, ModuloError> {
        let hash = match kind(&drv.basic, name)? {
            DerivationKind::InputAddressed | DerivationKind::Deferred => {
                Some(self.output_hash(drv, name, lookup)?).filter(|h| !h.deferred)
            }
            DerivationKind::Fixed | DerivationKind::Floating | DerivationKind::Impure => None,
        };
        let mut paths = BTreeMap::new();
        for (output_name, output) in &drv.basic.outputs {
            let path = match (output, hash.as_ref().and_then(|h| h.get(output_name))) {
                (DerivationOutput::Fixed { .. }, _) => output.known_path(name, output_name)?,
                (_, Some(hash)) => Some(StorePath::make_output(output_name, hash, name)?),
                (_, None) => None,
            };
            paths.insert(output_name.clone(), path);
        }
        Ok(paths)
    }

    fn visit(
        &mut self,
        root: &StorePath,
        lookup: &mut impl FnMut(&StorePath) -> Option<Arc<Derivation>>,
    ) -> Result<(), ModuloError> {
        if self.memo.contains_key(root) {
            return Ok(());
        }
        let mut open = HashSet::from([root.clone()]);
        let mut stack = vec![self.open(root.clone(), lookup)?];
        while let Some(top) = stack.last_mut() {
            if let Some(input) = top.pending.pop() {
                if self.memo.contains_key(&input) {
                    continue;
                }
                if !open.insert(input.clone()) {
                    return Err(ModuloError::Cycle(input));
                }
                let next = self.open(input, lookup)?;
                stack.push(next);
            } else if let Some(Open { path, drv, .. }) = stack.pop() {
                let name = path
                    .derivation_name()
                    .ok_or_else(|| ModuloError::NotADerivationPath(path.clone()))?;
                let hash = self.hash(&drv, name, Masked::No)?;
                open.remove(&path);
                self.memo.insert(path, Arc::new(hash));
            }
        }
        Ok(())
    }

    fn open(
        &self,
        path: StorePath,
        lookup: &mut impl FnMut(&StorePath) -> Option<Arc<Derivation>>,
    ) -> Result<Open, ModuloError> {
        let drv = lookup(&path).ok_or_else(|| ModuloError::Missing(path.clone()))?;
        let unknown = |input: &&StorePath| !self.memo.contains_key(*input);
        // The hash of a fixed or impure output does not depend on its inputs.
        let pending = match kind(&drv.basic, path.name())? {
            DerivationKind::Fixed | DerivationKind::Impure => Vec::new(),
            _ => drv.input_drvs.keys().filter(unknown).cloned().collect(),
        };
        Ok(Open { path, drv, pending })
    }

    /// The hash of one derivation whose inputs are all remembered.
    fn hash(&self, drv: &Derivation, name: &str, masked: Masked) -> Result<DrvHash, ModuloError> {
        let kind = kind(&drv.basic, name)?;
        let same = |hash: Hash, deferred| DrvHash::new(drv.basic.outputs.keys().map(|o| (o, hash)), deferred);
        match kind {
            DerivationKind::Fixed => return fixed(&drv.basic, name),
            DerivationKind::Impure => return Ok(same(Hash::sha256(IMPURE), true)),
            DerivationKind::InputAddressed | DerivationKind::Floating | DerivationKind::Deferred => {}
        }
        let mut deferred = kind == DerivationKind::Floating;
        let mut inputs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, outputs) in &drv.input_drvs {
            let input = self
                .memo
                .get(path)
                .ok_or_else(|| ModuloError::Missing(path.clone()))?;
            deferred |= input.deferred;
            for output in outputs {
                let hash = input.get(output).ok_or_else(|| ModuloError::NoOutput {
                    drv: path.clone(),
                    output: output.clone(),
                })?;
                inputs.entry(hash.hex()).or_default().insert(output.clone());
            }
        }
        let inputs = inputs.iter().map(|(hash, outputs)| (hash.clone(), outputs));
        let text = aterm::write(&drv.basic, inputs, masked);
        Ok(same(Hash::sha256(&text), deferred))
    }
}

fn fixed(drv: &BasicDerivation, name: &str) -> Result<DrvHash, ModuloError> {
    let mut outputs = Vec::new();
    for (output_name, output) in &drv.outputs {
        if let DerivationOutput::Fixed { ca, .. } = output {
            let path = output
                .known_path(name, output_name)?
                .map_or_else(String::new, |p| p.to_string());
            let text = format!("fixed:out:{}:{}:{path}", ca.method_algo(), ca.hash.hex());
            outputs.push((output_name, Hash::sha256(text.as_bytes())));
        }
    }
    Ok(DrvHash::new(outputs.into_iter(), false))
}

fn kind(drv: &BasicDerivation, name: &str) -> Result<DerivationKind, ModuloError> {
    drv.kind().map_err(|source| ModuloError::Invalid {
        drv: name.to_owned(),
        source,
    })
}

impl Derivation {
    /// A derivation whose inputs are all plain paths.
    #[must_use]
    pub const fn from_basic(basic: BasicDerivation) -> Self {
        Self {
            basic,
            input_drvs: BTreeMap::new(),
        }
    }

    /// The path of the `.drv` file with this text. `name` is without `.drv`.
    ///
    /// # Errors
    /// [`PathError::Name`] when the name cannot be one.
    pub fn store_path(&self, name: &str) -> Result<StorePath, PathError> {
        let references = self
            .input_drvs
            .keys()
            .chain(&self.basic.input_srcs)
            .cloned()
            .collect();
        let ca = ContentAddress {
            method: CaMethod::Text,
            hash: Hash::sha256(&self.to_aterm()),
        };
        StorePath::make_content_addressed(&format!("{name}.drv"), &ca, &references, false)
    }
}
