//! Requests that are refused before anything runs.

use firn_content::ContentStore;
use firn_core::InputMapping;
use firn_nix::derivation::{DerivationKind, DerivationOptions};
use firn_nix::{BasicDerivation, StorePath};

use crate::Settings;
use crate::store::MAX_DERIVATION;

/// Why this derivation cannot be built here, with the next step; `None` when it can.
pub(crate) fn refusal(drv_path: &StorePath, drv: &BasicDerivation, settings: &Settings) -> Option<String> {
    let kind = match drv.check(drv_path) {
        Ok(kind) => kind,
        Err(e) => return Some(format!("cannot build '{drv_path}': {e}")),
    };
    // Without a path that is known beforehand nothing could be looked up, and "all outputs are valid" would hold of none.
    match kind {
        DerivationKind::InputAddressed | DerivationKind::Fixed => {}
        DerivationKind::Floating | DerivationKind::Deferred => {
            return Some(format!(
                "cannot build '{drv_path}': content-addressed derivations are not supported yet"
            ));
        }
        DerivationKind::Impure => {
            return Some(format!(
                "cannot build '{drv_path}': impure derivations are not supported, as their results cannot be reused"
            ));
        }
    }
    let options = match DerivationOptions::of(drv) {
        Ok(options) => options,
        Err(e) => return Some(format!("cannot build '{drv_path}': {e}")),
    };
    if options.impure || options.no_chroot {
        let attribute = if options.impure { "__impure" } else { "__noChroot" };
        return Some(format!(
            "cannot build '{drv_path}': it sets {attribute}, and every build here runs in the sandbox"
        ));
    }
    let platform = drv.platform.escape_ascii().to_string();
    if drv.platform == b"builtin" || drv.builder.starts_with(b"builtin:") {
        return Some(format!(
            "cannot build '{drv_path}': '{}' is done by Nix itself, not by a builder; let the client do it (max-jobs of at least 1)",
            drv.builder.escape_ascii()
        ));
    }
    if !settings.systems.contains(&platform) {
        return Some(format!(
            "cannot build '{drv_path}': it is for system '{platform}', on offer here: {}",
            settings.systems.join(", ")
        ));
    }
    let missing: Vec<String> = options
        .required_system_features
        .iter()
        .map(|feature| feature.escape_ascii().to_string())
        .filter(|feature| !settings.features.contains(feature))
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "cannot build '{drv_path}': it requires the system features {{{}}}, on offer here: {{{}}}",
            missing.join(", "),
            settings.features.iter().cloned().collect::<Vec<_>>().join(", ")
        )
    })
}

/// Why an input that is called a derivation cannot be read as one. `exportReferencesGraph` has the service itself open such inputs, and a
/// client may have uploaded anything under that name: a symbolic link would lead to files of this machine, without an end or not.
pub(crate) fn unreadable_input(
    drv_path: &StorePath,
    drv: &BasicDerivation,
    inputs: &InputMapping,
    content: &ContentStore,
) -> Option<String> {
    if !DerivationOptions::of(drv).is_ok_and(|options| !options.export_references_graph.is_empty()) {
        return None;
    }
    let unreadable = |hash| match std::fs::symlink_metadata(content.tree(hash)) {
        Ok(meta) => !meta.is_file() || meta.len() > MAX_DERIVATION,
        Err(_) => true,
    };
    let input = inputs
        .objects()
        .find(|o| o.path.is_derivation() && unreadable(&o.content))?;
    Some(format!(
        "cannot build '{drv_path}': input '{}' is not a file of at most {MAX_DERIVATION} bytes, as derivations are",
        input.path
    ))
}
