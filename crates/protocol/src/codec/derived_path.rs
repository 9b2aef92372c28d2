//! `DerivedPath`: `path`, `drv!*`, `drv!out,dev`.

use firn_nix::derivation::MAX_OUTPUTS;

use crate::wire::{WireError, parse_path};
use crate::{DerivedPath, OutputsSpec};

const FIELD: &str = "derived path";

/// Reads one. With `legacy` (the worker protocol before 1.30, the serve protocol always) a plain `x.drv` means all its outputs;
/// otherwise it means that file.
///
/// # Errors
/// [`WireError::Invalid`]; also for outputs of derivations that are themselves built.
pub fn parse_derived_path(raw: &[u8], legacy: bool) -> Result<DerivedPath, WireError> {
    let path = |raw: &[u8]| parse_path(raw, FIELD);
    let Some(bang) = raw.iter().position(|&b| b == b'!') else {
        let path = path(raw)?;
        return Ok(if legacy && path.is_derivation() {
            DerivedPath::Built {
                drv_path: path,
                outputs: OutputsSpec::All,
            }
        } else {
            DerivedPath::Opaque(path)
        });
    };
    let (drv, outputs) = raw.split_at(bang);
    let drv_path = path(drv)?;
    if !drv_path.is_derivation() {
        return Err(WireError::invalid(
            FIELD,
            format!("'{drv_path}' is not a derivation"),
        ));
    }
    let outputs = std::str::from_utf8(outputs.get(1..).unwrap_or(&[]))
        .map_err(|_| WireError::invalid(FIELD, "an output name is not UTF-8"))?;
    if outputs.contains('!') {
        let reason = "derivations that are built by derivations are not supported";
        return Err(WireError::invalid(FIELD, reason));
    }
    let outputs = match outputs {
        "*" => OutputsSpec::All,
        names if names.split(',').nth(MAX_OUTPUTS).is_some() => {
            let reason = format!("more than {MAX_OUTPUTS} outputs");
            return Err(WireError::invalid(FIELD, reason));
        }
        names => OutputsSpec::Names(names.split(',').map(str::to_owned).collect()),
    };
    if matches!(&outputs, OutputsSpec::Names(names) if names.contains("")) {
        return Err(WireError::invalid(FIELD, "an output name is empty"));
    }
    Ok(DerivedPath::Built { drv_path, outputs })
}

/// Writes one; see [`parse_derived_path`] for `legacy`.
#[must_use]
pub fn format_derived_path(path: &DerivedPath, legacy: bool) -> String {
    match path {
        DerivedPath::Opaque(path) => path.to_string(),
        DerivedPath::Built { drv_path, outputs } => match outputs {
            OutputsSpec::All if legacy => drv_path.to_string(),
            OutputsSpec::All => format!("{drv_path}!*"),
            OutputsSpec::Names(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("{drv_path}!{}", names.join(","))
            }
        },
    }
}
