//! Requests that are refused before anything is looked up.

use firn_nix::derivation::{DerivationKind, DerivationOptions};
use firn_nix::{BasicDerivation, CaMethod, DerivationOutput, PathError, StorePath, excerpt, listed};

use crate::Settings;

/// The system feature that builds of content-addressed outputs ask for; every builder has it.
const CA_DERIVATIONS: &str = "ca-derivations";

/// The builder that needs the network for what it is.
const FETCH: &str = "builtin:fetchurl";

/// Bytes of the longest argument or variable that Linux gives to a program, its end left out: 32 pages.
const MAX_STRING: usize = (128 << 10) - 1;

/// Its builder, as shown, when that is one that Nix has built in, whatever system it is for.
pub(crate) fn builtin(drv: &BasicDerivation) -> Option<String> {
    drv.builder
        .starts_with(b"builtin:")
        .then(|| excerpt(&drv.builder).to_string())
}

/// Why this derivation cannot be built here, with the next step; `None` when it can.
pub(crate) fn refusal(drv_path: &StorePath, drv: &BasicDerivation, settings: &Settings) -> Option<String> {
    let kind = match drv.check(drv_path) {
        Ok(kind @ (DerivationKind::InputAddressed | DerivationKind::Fixed | DerivationKind::Floating)) => {
            kind
        }
        Ok(DerivationKind::Deferred) => {
            return Some(format!(
                "cannot build '{drv_path}': the paths of its outputs depend on content-addressed inputs that are not resolved"
            ));
        }
        Ok(DerivationKind::Impure) => {
            return Some(format!(
                "cannot build '{drv_path}': it is impure, and every build here runs in the sandbox"
            ));
        }
        Err(e) => return Some(format!("cannot build '{drv_path}': {e}")),
    };
    if let Some(method) = drv.outputs.values().find_map(unsupported) {
        return Some(format!(
            "cannot build '{drv_path}': content addresses of the form '{method}' are not supported"
        ));
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
    let platform = excerpt(&drv.platform).to_string();
    if let Some(name) = builtin(drv) {
        if !settings.builtins.contains_key(&name) {
            return Some(format!(
                "cannot build '{drv_path}': its builder is '{name}', on offer here: {}",
                settings.builtins.keys().cloned().collect::<Vec<_>>().join(", ")
            ));
        }
        if name == FETCH && !matches!(kind, DerivationKind::Fixed) {
            return Some(format!(
                "cannot build '{drv_path}': '{name}' needs an outputHash, against which what is fetched is checked"
            ));
        }
    } else if !settings.systems.contains(&platform) {
        return Some(format!(
            "cannot build '{drv_path}': it is for system '{platform}', on offer here: {}",
            settings.systems.join(", ")
        ));
    }
    let offered = |feature: &[u8]| {
        let feature = std::str::from_utf8(feature);
        feature.is_ok_and(|feature| feature == CA_DERIVATIONS || settings.features.contains(feature))
    };
    if builtin(drv).is_none()
        && let Some(what) = too_long(drv, &options)
    {
        return Some(format!(
            "cannot build '{drv_path}': {what}, and no program can be given more than {MAX_STRING}; name the attribute in passAsFile, or \
             use structured attributes"
        ));
    }
    let missing: Vec<&Vec<u8>> = options
        .required_system_features
        .iter()
        .filter(|feature| !offered(feature))
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "cannot build '{drv_path}': it requires the system features {{{}}}, on offer here: {{{}}}",
            listed(missing),
            settings.features.iter().cloned().collect::<Vec<_>>().join(", ")
        )
    })
}

/// What no program can be given.
fn too_long(drv: &BasicDerivation, options: &DerivationOptions) -> Option<String> {
    if let Some(arg) = drv.args.iter().find(|arg| arg.len() > MAX_STRING) {
        return Some(format!("an argument has {} bytes", arg.len()));
    }
    let length = |name: &[u8], value: &[u8]| match options.structured.is_some() {
        // All of them are in files.
        true => 0,
        false if options.pass_as_file.contains(name) => name.len(),
        false => name.len() + 1 + value.len(),
    };
    let mut long = drv.env.iter().map(|(name, value)| (name, length(name, value)));
    let (name, length) = long.find(|(_, length)| *length > MAX_STRING)?;
    Some(format!("variable '{}' has {length} bytes", excerpt(name)))
}

/// How an output is to be hashed, if that cannot be done.
fn unsupported(output: &DerivationOutput) -> Option<String> {
    match output {
        DerivationOutput::Floating {
            method: CaMethod::Git,
            algo,
        } => Some(format!("{}{}", CaMethod::Git.prefix(), algo.name())),
        _ => None,
    }
}

/// States the path of a fixed output that the client left out. It follows from the derivation's name, which the build key does not
/// have: equal keys must mean equal paths.
pub(crate) fn state_paths(drv_path: &StorePath, drv: &mut BasicDerivation) -> Result<(), PathError> {
    let drv_name = drv_path.derivation_name().unwrap_or_default();
    for (name, output) in &mut drv.outputs {
        let known = output.known_path(drv_name, name)?;
        if let DerivationOutput::Fixed { path, .. } = output {
            *path = known;
        }
    }
    Ok(())
}
