//! Resolution: a derivation whose inputs are built becomes one whose inputs are plain paths.
//!
//! Where the path of an input was not known before it was built, the derivation mentions a placeholder; it is replaced by the path
//! that the input got. Two derivations that differ only in how the same inputs were made become equal by this, which is what cuts a
//! rebuild off early. An output whose path waited for such an input has one afterwards.

use super::{
    BasicDerivation, Derivation, DerivationKind, DerivationOutput, DrvHash, InvalidDerivation, Modulo,
    ModuloError,
};
use crate::rewrite::{rewrite_strings, upstream_placeholder};
use crate::{PathError, StorePath};

/// A derivation that can be built as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// All inputs are plain paths; no output is [`DerivationOutput::Deferred`].
    pub drv: BasicDerivation,
    /// Path of the `.drv` file that it would be. The path of the derivation that was resolved when its outputs are known by that
    /// one, which is so for input-addressed outputs, and for fixed ones unless a placeholder was replaced.
    pub drv_path: StorePath,
}

/// Why a derivation cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The lookup does not know the path of an input.
    #[error("output '{output}' of '{drv}' is not known yet")]
    Unknown {
        /// The input derivation.
        drv: StorePath,
        /// Its output.
        output: String,
    },
    /// The name does not end in `.drv`.
    #[error("'{0}' is not the path of a derivation")]
    NotADerivationPath(StorePath),
    /// Its outputs are not of one valid kind.
    #[error(transparent)]
    Invalid(#[from] InvalidDerivation),
    /// The paths of its outputs cannot be computed.
    #[error(transparent)]
    Modulo(#[from] ModuloError),
    /// A name cannot be part of a store path.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl Derivation {
    /// Resolves as Nix does: outputs of input derivations become input paths; where paths were not known before, placeholders are
    /// replaced in builder, arguments and environment; and deferred outputs get their paths. `outputs` says which path an output of
    /// an input derivation has.
    ///
    /// # Errors
    /// [`ResolveError`] names the input that is not known, or what is wrong with this derivation.
    pub fn resolve(
        &self,
        drv_path: &StorePath,
        outputs: &impl Fn(&StorePath, &str) -> Option<StorePath>,
    ) -> Result<Resolved, ResolveError> {
        let name = drv_path
            .derivation_name()
            .ok_or_else(|| ResolveError::NotADerivationPath(drv_path.clone()))?;
        let kind = self.basic.kind()?;
        let mut drv = self.basic.clone();
        let mut rewrites = Vec::new();
        for (input, names) in &self.input_drvs {
            for output in names {
                let path = outputs(input, output).ok_or_else(|| ResolveError::Unknown {
                    drv: input.clone(),
                    output: output.clone(),
                })?;
                // The hash that made the output paths is over the text as it stands.
                if kind != DerivationKind::InputAddressed {
                    rewrites.push((upstream_placeholder(input, output)?, path.to_string()));
                }
                drv.input_srcs.insert(path);
            }
        }
        rewrites.sort();
        let rewritten = drv.rewrite(&rewrites);
        if kind == DerivationKind::Deferred {
            drv.fill_in(name)?;
        }
        let is_new = match kind {
            DerivationKind::InputAddressed => false,
            DerivationKind::Fixed => rewritten,
            DerivationKind::Deferred => true,
            DerivationKind::Floating | DerivationKind::Impure => !self.input_drvs.is_empty(),
        };
        let drv_path = if is_new {
            Self::from_basic(drv.clone()).store_path(name)?
        } else {
            drv_path.clone()
        };
        Ok(Resolved { drv, drv_path })
    }
}

impl BasicDerivation {
    /// Whether a string changed. Of two variables that become one, that with the lower former name stays.
    fn rewrite(&mut self, rewrites: &[(String, String)]) -> bool {
        if rewrites.is_empty() {
            return false;
        }
        let mut changed = false;
        let mut rewrite = |text: &mut Vec<u8>| {
            let new = rewrite_strings(text, rewrites);
            changed |= new != *text;
            *text = new;
        };
        rewrite(&mut self.builder);
        self.args.iter_mut().for_each(&mut rewrite);
        for (mut name, mut value) in std::mem::take(&mut self.env) {
            rewrite(&mut name);
            rewrite(&mut value);
            self.env.entry(name).or_insert(value);
        }
        changed
    }

    /// Gives each deferred output its path, and the variable of its name that path.
    fn fill_in(&mut self, name: &str) -> Result<(), ResolveError> {
        let hashes = self.output_hashes(name)?;
        for (output, hash) in hashes.iter() {
            let path = StorePath::make_output(output, hash, name)?;
            self.env
                .insert(output.as_bytes().to_vec(), path.to_string().into_bytes());
            self.outputs
                .insert(output.to_owned(), DerivationOutput::InputAddressed(path));
        }
        Ok(())
    }

    /// The hash modulo of this derivation per output, as it stands in the ids of realisations. `name` is without `.drv`.
    ///
    /// # Errors
    /// [`ModuloError`] when the outputs are not of one valid kind.
    pub fn output_hashes(&self, name: &str) -> Result<DrvHash, ModuloError> {
        let drv = Derivation::from_basic(self.clone());
        Modulo::new().output_hash(&drv, name, |_| None)
    }
}
