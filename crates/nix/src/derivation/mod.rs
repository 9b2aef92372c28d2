//! Derivations: what to run, with which inputs, for which outputs.
//!
//! Platform, builder, arguments and environment are bytes: Nix does not require UTF-8. Output names are text because they are parts
//! of store path names.

mod aterm;
mod attribute;
mod check;
mod modulo;
mod options;
mod output;
mod resolve;
mod scratch;

use std::collections::{BTreeMap, BTreeSet};

use crate::{CaMethod, ContentAddress, HashAlgo, StorePath};

pub use aterm::{AtermError, MAX_ATERM};
pub use check::{
    DerivationKind, InvalidDerivation, MAX_BUILDER, MAX_INPUTS, MAX_OUTPUTS, MAX_PLATFORM, MAX_STRING_BYTES,
    MAX_STRINGS,
};
pub use modulo::{DrvHash, Modulo, ModuloError};
pub use options::{DerivationOptions, OptionsError, OutputChecks, OutputReference, pass_as_file_name};
pub use output::OutputFieldsError;
pub use resolve::{ResolveError, Resolved};

/// What is known of an output before the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DerivationOutput {
    /// The path follows from the derivation.
    InputAddressed(StorePath),
    /// A fixed output: the path follows from the expected hash. The path is the one that the derivation states.
    Fixed {
        /// Stated path; `None` where the wire left it empty.
        path: Option<StorePath>,
        /// Expected hash.
        ca: ContentAddress,
    },
    /// Content-addressed, path known after the build.
    Floating {
        /// How it will be hashed.
        method: CaMethod,
        /// With what.
        algo: HashAlgo,
    },
    /// The path depends on a floating input; known once that is resolved.
    Deferred,
    /// Never reused, may use the network; path known after the build.
    Impure {
        /// How it will be hashed.
        method: CaMethod,
        /// With what.
        algo: HashAlgo,
    },
}

impl DerivationOutput {
    /// The path that is known before the build.
    #[must_use]
    pub fn path(&self) -> Option<&StorePath> {
        match self {
            Self::InputAddressed(path) => Some(path),
            Self::Fixed { path, .. } => path.as_ref(),
            Self::Floating { .. } | Self::Deferred | Self::Impure { .. } => None,
        }
    }
}

/// A derivation without its graph: all inputs are plain store paths. This is what `BuildDerivation` carries.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BasicDerivation {
    /// By output name.
    pub outputs: BTreeMap<String, DerivationOutput>,
    /// Inputs that are store paths.
    pub input_srcs: BTreeSet<StorePath>,
    /// `x86_64-linux` and the like.
    pub platform: Vec<u8>,
    /// Program to run.
    pub builder: Vec<u8>,
    /// Its arguments, without `argv[0]`.
    pub args: Vec<Vec<u8>>,
    /// Its environment.
    pub env: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A derivation as it stands in a `.drv` file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Derivation {
    /// All but the inputs that are outputs of other derivations.
    pub basic: BasicDerivation,
    /// Input derivations with the outputs that are used of each.
    pub input_drvs: BTreeMap<StorePath, BTreeSet<String>>,
}
