//! One attribute of a derivation, wherever it stands.

use std::collections::{BTreeMap, BTreeSet};

use super::{MAX_STRINGS, OptionsError};
use crate::json::Json;

/// Where a derivation's attributes are: in variables, as text; or in `__json`, with types.
pub(super) enum Attributes<'a> {
    Plain(&'a BTreeMap<Vec<u8>, Vec<u8>>),
    Structured(&'a BTreeMap<String, Json>),
}

impl Attributes<'_> {
    /// A Boolean; as text only `1` is true.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, OptionsError> {
        match self {
            Self::Plain(env) => Ok(env.get(name.as_bytes()).map_or(default, |v| v == b"1")),
            Self::Structured(members) => match members.get(name) {
                None => Ok(default),
                Some(Json::Bool(value)) => Ok(*value),
                Some(_) => Err(wrong(name, "a Boolean")),
            },
        }
    }

    /// A set of words; as text separated by blanks.
    pub(super) fn words(&self, name: &str) -> Result<Option<BTreeSet<Vec<u8>>>, OptionsError> {
        match self {
            Self::Plain(env) => match env.get(name.as_bytes()) {
                // A word takes many times the memory of its text.
                Some(text) if tokens(text).nth(MAX_STRINGS).is_some() => {
                    Err(wrong(name, "a list of at most 65536 words"))
                }
                text => Ok(text.map(|text| tokens(text).map(<[u8]>::to_vec).collect())),
            },
            Self::Structured(members) => match members.get(name) {
                None => Ok(None),
                Some(Json::Array(items)) => items
                    .iter()
                    .map(|item| item.as_str().map(|s| s.as_bytes().to_vec()))
                    .collect::<Option<BTreeSet<_>>>()
                    .map(Some)
                    .ok_or_else(|| wrong(name, "a list of strings")),
                Some(_) => Err(wrong(name, "a list of strings")),
            },
        }
    }
}

/// Words between blanks.
pub(super) fn tokens(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| b" \t\n\r".contains(b)).filter(|w| !w.is_empty())
}

fn wrong(attribute: &str, expected: &'static str) -> OptionsError {
    OptionsError::Type {
        attribute: attribute.to_owned(),
        expected,
    }
}
