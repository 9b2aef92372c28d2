//! Which paths a derivation is to produce, and which derivations are refused before anything runs.

use std::collections::BTreeMap;

use firn_core::InputMapping;
use firn_nix::derivation::{DerivationKind, DerivationOptions};
use firn_nix::{BasicDerivation, CaMethod, DerivationOutput, StorePath};
use firn_service::ports::RunFailure;

/// Where the build puts each output, by output name: its path, or a scratch path where that follows from its content.
///
/// # Errors
/// [`RunFailure::InputRejected`] for a malformed derivation, for outputs that wait for an input to be built, for builders that are part of
/// Nix, for derivations that ask to be run without a sandbox, and for an output that is an input.
pub fn output_paths(
    drv_path: &StorePath,
    drv: &BasicDerivation,
    options: &DerivationOptions,
    inputs: &InputMapping,
) -> Result<BTreeMap<String, StorePath>, RunFailure> {
    let refused = |why: String| RunFailure::InputRejected(format!("derivation '{drv_path}': {why}"));
    match drv.check(drv_path).map_err(|e| refused(e.to_string()))? {
        DerivationKind::InputAddressed | DerivationKind::Fixed | DerivationKind::Floating => {}
        DerivationKind::Deferred => {
            return Err(refused(
                "its outputs' paths depend on inputs that are not resolved".to_owned(),
            ));
        }
        DerivationKind::Impure => {
            return Err(refused(
                "impure derivations are not supported: their results cannot be reused".to_owned(),
            ));
        }
    }
    options.check_outputs(drv).map_err(|e| refused(e.to_string()))?;
    if options.impure {
        return Err(refused(
            "it has '__impure' set, but its outputs are not".to_owned(),
        ));
    }
    if let Some(path) = options.impure_host_deps.first() {
        return Err(refused(format!(
            "it asks for path '{}' of the host",
            path.escape_ascii()
        )));
    }
    if options.no_chroot {
        return Err(refused(
            "it has '__noChroot' set, but every build here runs in a sandbox".to_owned(),
        ));
    }
    let drv_name = drv_path.derivation_name().unwrap_or_default();
    let mut paths = drv.scratch_paths(drv_name).map_err(|e| refused(e.to_string()))?;
    for (name, output) in &drv.outputs {
        if let Some(path) = output
            .known_path(drv_name, name)
            .map_err(|e| refused(e.to_string()))?
        {
            paths.insert(name.clone(), path);
        }
    }
    if let Some(output) = drv.outputs.values().find(|o| is_git(o)) {
        let [_, method, _] = output.to_fields();
        return Err(refused(format!(
            "content addresses of the form '{method}' are not supported"
        )));
    }
    match inputs
        .objects()
        .find(|input| paths.values().any(|path| *path == input.path))
    {
        Some(input) => Err(refused(format!("its output '{}' is an input of it", input.path))),
        None => Ok(paths),
    }
}

fn is_git(output: &DerivationOutput) -> bool {
    matches!(
        output,
        DerivationOutput::Floating {
            method: CaMethod::Git,
            ..
        }
    )
}
