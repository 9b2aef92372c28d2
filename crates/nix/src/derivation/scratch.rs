//! Where an output is built whose path is known only afterwards.

use std::collections::BTreeMap;

use super::{BasicDerivation, Derivation, DerivationOutput};
use crate::path::output_path_name;
use crate::{Hash, HashAlgo, PathError, StorePath};

impl BasicDerivation {
    /// The paths under which floating outputs are built, as Nix makes them: they follow from the path that this derivation's `.drv` file
    /// has. `name` is without `.drv`. Other outputs are left out.
    ///
    /// # Errors
    /// [`PathError`] when a name cannot be part of a path.
    pub fn scratch_paths(&self, name: &str) -> Result<BTreeMap<String, StorePath>, PathError> {
        let floating = |output: &DerivationOutput| matches!(output, DerivationOutput::Floating { .. });
        if !self.outputs.values().any(floating) {
            return Ok(BTreeMap::new());
        }
        let drv_path = Derivation::from_basic(self.clone()).store_path(name)?;
        let Some(zeros) = Hash::new(HashAlgo::Sha256, &[0; 32]) else {
            return Ok(BTreeMap::new());
        };
        let floating = self.outputs.iter().filter(|(_, output)| floating(output));
        floating
            .map(|(output, _)| {
                let kind = format!("rewrite:{}:name:{output}", drv_path.base_name());
                let path = StorePath::make(&kind, &zeros, &output_path_name(name, output)?)?;
                Ok((output.clone(), path))
            })
            .collect()
    }
}
