//! Which paths a derivation is to produce, and which derivations are refused before anything runs.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::InputMapping;
use firn_nix::{BasicDerivation, DerivationOutput, StorePath};
use firn_service::ports::RunFailure;

/// Where each output goes, by output name. The stated path of a fixed output must be the one that its hash gives.
///
/// # Errors
/// [`RunFailure::InputRejected`] for outputs whose path is known only after the build, for a fixed output among others, and for a path
/// that is given twice or is an input.
pub fn output_paths(
    drv_path: &StorePath,
    drv: &BasicDerivation,
    inputs: &InputMapping,
) -> Result<BTreeMap<String, StorePath>, RunFailure> {
    let refused = |why: String| Err(RunFailure::InputRejected(why));
    if drv.outputs.is_empty() {
        return refused(format!("derivation '{drv_path}' has no outputs"));
    }
    let mut paths = BTreeMap::new();
    for (name, output) in &drv.outputs {
        let path = match output {
            DerivationOutput::InputAddressed(path) => path.clone(),
            DerivationOutput::Fixed { .. } if drv.outputs.len() > 1 || name != "out" => {
                return refused(format!(
                    "derivation '{drv_path}' must have 'out' as its only output, since that is fixed"
                ));
            }
            DerivationOutput::Fixed { path, ca } => {
                let drv_name = drv_path.derivation_name().unwrap_or_else(|| drv_path.name());
                let computed = StorePath::make_content_addressed(drv_name, ca, &BTreeSet::new(), false)
                    .map_err(|e| RunFailure::InputRejected(format!("derivation '{drv_path}': {e}")))?;
                if let Some(stated) = path.as_ref().filter(|stated| **stated != computed) {
                    return refused(format!(
                        "derivation '{drv_path}' states '{stated}' for its fixed output, but the hash gives '{computed}'"
                    ));
                }
                computed
            }
            DerivationOutput::Floating { .. }
            | DerivationOutput::Deferred
            | DerivationOutput::Impure { .. } => {
                return refused(format!(
                    "output '{name}' of '{drv_path}' has no path before the build: \
                     content-addressed derivations are not supported yet"
                ));
            }
        };
        paths.insert(name.clone(), path);
    }
    let distinct: BTreeSet<_> = paths.values().collect();
    if distinct.len() != paths.len() {
        return refused(format!("derivation '{drv_path}' has two outputs with one path"));
    }
    match inputs.objects().find(|input| distinct.contains(&input.path)) {
        Some(input) => refused(format!("derivation '{drv_path}' has its own output '{}' as input", input.path)),
        None => Ok(paths),
    }
}
