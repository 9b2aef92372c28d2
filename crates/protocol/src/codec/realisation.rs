//! Realisations in the JSON form of Nix up to 2.34: what a build result says about each output.

use std::collections::BTreeSet;

use firn_nix::StorePath;
use serde_json::{Map, Value};

use crate::BuiltOutput;
use crate::wire::WireError;

const FIELD: &str = "builtOutputs";

/// Key and JSON: `sha256:<drv hash>!<output>` and an object with the same id.
#[must_use]
pub fn format_realisation(name: &str, output: &BuiltOutput) -> (String, String) {
    let id = format!("sha256:{}!{name}", output.drv_hash);
    let signatures = output.signatures.iter().cloned().map(Value::String).collect();
    let mut object = Map::new();
    object.insert("dependentRealisations".to_owned(), Value::Object(Map::new()));
    object.insert("id".to_owned(), Value::String(id.clone()));
    object.insert(
        "outPath".to_owned(),
        Value::String(output.out_path.base_name().to_owned()),
    );
    object.insert("signatures".to_owned(), Value::Array(signatures));
    (id, Value::Object(object).to_string())
}

/// Output name and what is said of it. `dependentRealisations` is not kept: nothing fills it any more.
///
/// # Errors
/// [`WireError::Invalid`]
pub fn parse_realisation(json: &str) -> Result<(String, BuiltOutput), WireError> {
    let invalid = |reason: &str| WireError::invalid(FIELD, reason);
    let value: Value = serde_json::from_str(json).map_err(|e| WireError::invalid(FIELD, e))?;
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let id = text("id").ok_or_else(|| invalid("no id"))?;
    let (drv_hash, name) = id
        .strip_prefix("sha256:")
        .and_then(|rest| rest.split_once('!'))
        .ok_or_else(|| invalid("malformed id"))?;
    let out_path = text("outPath").ok_or_else(|| invalid("no outPath"))?;
    let out_path =
        StorePath::from_base_name(out_path.as_bytes()).map_err(|e| WireError::invalid(FIELD, e))?;
    let mut signatures = BTreeSet::new();
    for signature in value
        .get("signatures")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let signature = signature
            .as_str()
            .ok_or_else(|| invalid("a signature is not text"))?;
        signatures.insert(signature.to_owned());
    }
    let output = BuiltOutput {
        drv_hash: drv_hash.to_owned(),
        out_path,
        signatures,
    };
    Ok((name.to_owned(), output))
}
