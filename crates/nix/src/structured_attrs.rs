//! Structured attributes: the files `.attrs.json` and `.attrs.sh` that a build finds.
//!
//! Nix manual, "Advanced attributes", `__structuredAttrs`. Builds see these bytes, so they are exactly those of Nix (2.26 and newer).

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{GraphError, closure_sizes, known};
use crate::json::Json;
use crate::rewrite::{placeholder, rewrite_strings};
use crate::{PathInfo, StorePath};

/// The contents of the two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttrsFiles {
    /// `.attrs.json`
    pub json: Vec<u8>,
    /// `.attrs.sh`, for `source` in bash.
    pub sh: Vec<u8>,
}

/// Writes the files. `attributes` is `__json`; `outputs` has the paths that the build writes to; `graphs` has, by attribute of
/// `exportReferencesGraph`, the paths to describe (see [`crate::graph::exported`]) with what `infos` knows of them.
///
/// # Errors
/// [`GraphError::Invalid`] names a path of which `infos` has nothing.
pub fn attrs_files(
    attributes: &BTreeMap<String, Json>,
    outputs: &BTreeMap<String, StorePath>,
    graphs: &BTreeMap<String, BTreeSet<StorePath>>,
    infos: &BTreeMap<StorePath, PathInfo>,
) -> Result<AttrsFiles, GraphError> {
    let mut attributes = attributes.clone();
    let output_paths = outputs
        .iter()
        .map(|(name, path)| (name.clone(), Json::from(path.to_string())));
    attributes.insert("outputs".to_owned(), output_paths.collect());
    for (key, paths) in graphs {
        let sizes = closure_sizes(paths, infos)?;
        let described = sizes.iter().map(|(path, size)| describe(path, *size, infos));
        attributes.insert(key.clone(), described.collect::<Result<Json, _>>()?);
    }
    let rewrites: Vec<(String, String)> = outputs
        .iter()
        .map(|(name, path)| (placeholder(name), path.to_string()))
        .collect();
    let sh = shell(&attributes);
    let json = Json::Object(attributes).dump();
    Ok(AttrsFiles {
        json: rewrite_strings(json.as_bytes(), &rewrites),
        sh: rewrite_strings(sh.as_bytes(), &rewrites),
    })
}

fn describe(
    path: &StorePath,
    closure_size: u64,
    infos: &BTreeMap<StorePath, PathInfo>,
) -> Result<Json, GraphError> {
    let info = known(path, infos)?;
    let references = info.references.iter().map(|r| Json::from(r.to_string()));
    let mut members = BTreeMap::from([
        ("closureSize".to_owned(), Json::Uint(closure_size)),
        ("narHash".to_owned(), Json::from(info.nar_hash.to_string())),
        ("narSize".to_owned(), Json::Uint(info.nar_size)),
        ("path".to_owned(), Json::from(path.to_string())),
        ("references".to_owned(), references.collect()),
        ("valid".to_owned(), Json::Bool(true)),
    ]);
    if let Some(ca) = &info.ca {
        members.insert("ca".to_owned(), Json::from(ca.to_string()));
    }
    Ok(Json::Object(members))
}

/// One `declare` per attribute that bash can hold: simple values, and flat lists and objects of them.
fn shell(attributes: &BTreeMap<String, Json>) -> String {
    let mut text = String::new();
    for (key, value) in attributes.iter().filter(|(key, _)| is_variable(key)) {
        if let Some(word) = simple(value) {
            text.push_str(&format!("declare {key}={word}\n"));
            continue;
        }
        let words = match value {
            Json::Array(items) => items
                .iter()
                .map(|v| simple(v).map(|w| format!("{w} ")))
                .collect::<Option<String>>()
                .map(|words| ("-a", words)),
            Json::Object(members) => members
                .iter()
                .map(|(k, v)| simple(v).map(|w| format!("[{}]={w} ", quoted(k))))
                .collect::<Option<String>>()
                .map(|words| ("-A", words)),
            _ => None,
        };
        if let Some((kind, words)) = words {
            text.push_str(&format!("declare {kind} {key}=({words})\n"));
        }
    }
    text
}

fn simple(value: &Json) -> Option<String> {
    match value {
        Json::Null => Some("''".to_owned()),
        Json::Bool(b) => Some(if *b { "1" } else { "" }.to_owned()),
        Json::String(text) => Some(quoted(text)),
        Json::Int(_) | Json::Uint(_) | Json::Float(_) => number(value),
        Json::Array(_) | Json::Object(_) => None,
    }
}

/// Nix prints what is whole as a `float` and prints it as an `int`, so large numbers are cut to 32 bits.
fn number(value: &Json) -> Option<String> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the truncation is what builds have always been shown"
    )]
    let int = match value {
        Json::Int(n) => *n as i32,
        Json::Uint(n) => *n as i32,
        Json::Float(f) => {
            let single = *f as f32;
            if single.ceil() != single {
                return None;
            }
            // Out of range, x86 converts to the least integer.
            let in_range = (-2_147_483_649.0 < *f) && (*f < 2_147_483_648.0);
            if in_range { *f as i32 } else { i32::MIN }
        }
        _ => return None,
    };
    Some(int.to_string())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn is_variable(name: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    name.bytes().next().is_some_and(first) && name.bytes().all(|b| first(b) || b.is_ascii_digit())
}
