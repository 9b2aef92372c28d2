//! Is a derivation from outside one that a build may be asked for?

use std::collections::BTreeSet;

use super::{BasicDerivation, DerivationOutput};
use crate::path::{is_valid_name, output_path_name};
use crate::{PathError, StorePath, excerpt};

/// Most outputs of one derivation.
pub const MAX_OUTPUTS: usize = 1 << 10;
/// Most input paths of one derivation.
pub const MAX_INPUTS: usize = 1 << 20;
/// Most arguments, and most environment variables.
pub const MAX_STRINGS: usize = 1 << 16;
/// Most bytes of a platform: it is a name that a machine has.
pub const MAX_PLATFORM: usize = 256;
/// Most bytes of a builder: it is a path, or the name of a builtin.
pub const MAX_BUILDER: usize = 4096;
/// Most bytes in builder, platform, arguments and environment together.
pub const MAX_STRING_BYTES: usize = 64 << 20;

/// What kind of outputs a derivation has; all are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivationKind {
    /// Paths follow from the derivation.
    InputAddressed,
    /// One output named `out` with an expected hash; may use the network.
    Fixed,
    /// Content-addressed, paths known after the build.
    Floating,
    /// Depends on a floating input.
    Deferred,
    /// Content-addressed, may use the network, never reused.
    Impure,
}

/// Why a derivation cannot be built as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDerivation {
    /// The path that was given for it does not end in `.drv`.
    #[error("'{0}' is not the path of a derivation")]
    NotADerivationPath(StorePath),
    /// Nothing to build.
    #[error("a derivation must have at least one output")]
    NoOutputs,
    /// Over a limit of this module.
    #[error("derivation has {count} {what}, more than {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A NUL cannot be passed to a program.
    #[error("the derivation's {0} contains a NUL byte")]
    Nul(&'static str),
    /// Not usable in a store path.
    #[error("output name '{0}' is invalid")]
    OutputName(String),
    /// Outputs of several kinds, or floating outputs with several algorithms.
    #[error("output '{0}' is of another kind than the outputs before it")]
    MixedOutputs(String),
    /// Fixed outputs are single and named `out`.
    #[error("a fixed output must be the only one and named 'out', not '{0}'")]
    FixedOutput(String),
    /// The expected hash leads to another path.
    #[error("fixed output '{output}' states path '{stated}' but its hash gives '{computed}'")]
    FixedPath {
        /// The output.
        output: String,
        /// What the derivation says.
        stated: StorePath,
        /// What follows from hash and name.
        computed: StorePath,
    },
    /// The path's name is not derived from the derivation's.
    #[error("output '{output}' has path '{path}', whose name should be '{expected}'")]
    OutputPathName {
        /// The output.
        output: String,
        /// What the derivation says.
        path: StorePath,
        /// The name it should have.
        expected: String,
    },
    /// The name that an output's path would have is none.
    #[error("output '{output}' cannot have a path: {source}")]
    Path {
        /// The output.
        output: String,
        /// Why not.
        source: PathError,
    },
    /// An output is also an input.
    #[error("output '{output}' has path '{path}', which is an input too")]
    OutputIsInput {
        /// The output.
        output: String,
        /// The path.
        path: StorePath,
    },
}

impl DerivationOutput {
    /// The path that is known before the build; that of a fixed output is computed from its hash, whatever it states.
    ///
    /// # Errors
    /// [`PathError`] when the names cannot be part of a path.
    pub fn known_path(&self, drv_name: &str, output: &str) -> Result<Option<StorePath>, PathError> {
        match self {
            Self::Fixed { ca, .. } => {
                let name = output_path_name(drv_name, output)?;
                StorePath::make_content_addressed(&name, ca, &BTreeSet::new(), false).map(Some)
            }
            other => Ok(other.path().cloned()),
        }
    }

    fn kind(&self) -> DerivationKind {
        match self {
            Self::InputAddressed(_) => DerivationKind::InputAddressed,
            Self::Fixed { .. } => DerivationKind::Fixed,
            Self::Floating { .. } => DerivationKind::Floating,
            Self::Deferred => DerivationKind::Deferred,
            Self::Impure { .. } => DerivationKind::Impure,
        }
    }
}

impl BasicDerivation {
    /// The one kind of all outputs.
    ///
    /// # Errors
    /// [`InvalidDerivation`] when there are none, several kinds, several floating algorithms, or a fixed output that is not
    /// alone and named `out`.
    pub fn kind(&self) -> Result<DerivationKind, InvalidDerivation> {
        let mut outputs = self.outputs.iter();
        let Some((_, first)) = outputs.next() else {
            return Err(InvalidDerivation::NoOutputs);
        };
        let algo = |output: &DerivationOutput| match output {
            DerivationOutput::Floating { algo, .. } => Some(*algo),
            _ => None,
        };
        for (name, output) in outputs {
            if output.kind() != first.kind() || algo(output) != algo(first) {
                return Err(InvalidDerivation::MixedOutputs(excerpt(name).to_string()));
            }
        }
        if first.kind() == DerivationKind::Fixed
            && let Some(wrong) = self.outputs.keys().find(|name| *name != "out")
        {
            return Err(InvalidDerivation::FixedOutput(excerpt(wrong).to_string()));
        }
        Ok(first.kind())
    }

    /// Checks a derivation that came over the wire under the name `drv_path`. That its input-addressed paths follow from it
    /// cannot be checked without its graph.
    ///
    /// # Errors
    /// [`InvalidDerivation`] names output and path.
    pub fn check(&self, drv_path: &StorePath) -> Result<DerivationKind, InvalidDerivation> {
        let Some(drv_name) = drv_path.derivation_name() else {
            return Err(InvalidDerivation::NotADerivationPath(drv_path.clone()));
        };
        self.check_limits()?;
        if let Some(name) = self.outputs.keys().find(|n| !is_valid_name(n.as_bytes())) {
            return Err(InvalidDerivation::OutputName(excerpt(name).to_string()));
        }
        let kind = self.kind()?;
        // Two outputs never share a path: their paths' names differ.
        for (name, output) in &self.outputs {
            let path = self.check_path(drv_name, name, output)?;
            if let Some(path) = path.filter(|p| self.input_srcs.contains(p)) {
                let output = name.clone();
                return Err(InvalidDerivation::OutputIsInput { output, path });
            }
        }
        Ok(kind)
    }

    fn check_path(
        &self,
        drv_name: &str,
        name: &str,
        output: &DerivationOutput,
    ) -> Result<Option<StorePath>, InvalidDerivation> {
        let path_error = |source| InvalidDerivation::Path {
            output: name.to_owned(),
            source,
        };
        let expected = output_path_name(drv_name, name).map_err(path_error)?;
        let known = output.known_path(drv_name, name).map_err(path_error)?;
        match (output, &known) {
            (DerivationOutput::InputAddressed(path), _) if path.name() != expected => {
                Err(InvalidDerivation::OutputPathName {
                    output: name.to_owned(),
                    path: path.clone(),
                    expected,
                })
            }
            (
                DerivationOutput::Fixed {
                    path: Some(stated), ..
                },
                Some(computed),
            ) if stated != computed => Err(InvalidDerivation::FixedPath {
                output: name.to_owned(),
                stated: stated.clone(),
                computed: computed.clone(),
            }),
            _ if !is_valid_name(expected.as_bytes()) => Err(path_error(PathError::Name(expected))),
            _ => Ok(known),
        }
    }

    fn check_limits(&self) -> Result<(), InvalidDerivation> {
        let strings = || {
            let env = self.env.iter().flat_map(|(name, value)| [name, value]);
            [("platform", &self.platform), ("builder", &self.builder)]
                .into_iter()
                .chain(self.args.iter().map(|a| ("arguments", a)))
                .chain(env.map(|e| ("environment", e)))
        };
        let bytes = strings().map(|(_, s)| s.len()).sum();
        for (what, count, limit) in [
            ("outputs", self.outputs.len(), MAX_OUTPUTS),
            ("inputs", self.input_srcs.len(), MAX_INPUTS),
            ("arguments", self.args.len(), MAX_STRINGS),
            ("environment variables", self.env.len(), MAX_STRINGS),
            ("bytes of platform", self.platform.len(), MAX_PLATFORM),
            ("bytes of builder", self.builder.len(), MAX_BUILDER),
            ("bytes of strings", bytes, MAX_STRING_BYTES),
        ] {
            if count > limit {
                return Err(InvalidDerivation::TooMany { what, count, limit });
            }
        }
        match strings().find(|(_, s)| memchr::memchr(0, s).is_some()) {
            Some((what, _)) => Err(InvalidDerivation::Nul(what)),
            None => Ok(()),
        }
    }
}
