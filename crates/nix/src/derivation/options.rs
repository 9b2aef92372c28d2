//! The attributes of a derivation that steer its build, from the environment or from structured attributes (`__json`).
//!
//! Nix manual, "Advanced attributes".

use std::collections::{BTreeMap, BTreeSet};

use super::attribute::{Attributes, tokens};
use super::{BasicDerivation, DerivationKind};
use crate::json::{Json, JsonError};
use crate::path::is_valid_name;
use crate::{Hash, PathError, StorePath, excerpt};

/// Why the attributes cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// `__json` is not a JSON object.
    #[error("attribute '__json' cannot be read: {0}")]
    Json(JsonError),
    /// `__json` is JSON but not an object.
    #[error("attribute '__json' is not a JSON object")]
    NotAnObject,
    /// Wrong type.
    #[error("attribute '{attribute}' must be {expected}")]
    Type {
        /// Which attribute.
        attribute: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Neither a store path nor the name of an output.
    #[error("attribute '{attribute}' contains '{value}', which is neither a store path nor an output")]
    Reference {
        /// Which attribute.
        attribute: String,
        /// The entry, escaped.
        value: String,
    },
    /// Not a store path.
    #[error("attribute '{attribute}': {source}")]
    Path {
        /// Which attribute.
        attribute: String,
        /// Why not.
        source: PathError,
    },
    /// The words of `exportReferencesGraph` are not pairs of a file name and a path.
    #[error("odd number of words in 'exportReferencesGraph'")]
    OddGraph,
    /// A file name of `exportReferencesGraph` does not match `[A-Za-z_][A-Za-z0-9_.-]*`.
    #[error("invalid file name '{0}' in 'exportReferencesGraph'")]
    GraphName(String),
}

/// An entry of an output check: a path, or an output of the same derivation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutputReference {
    /// A store path.
    Path(StorePath),
    /// The path of this output, once it is known.
    Output(String),
}

/// What an output may be and refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputChecks {
    /// Whether references of the output to itself do not count; without structured attributes only.
    pub ignore_self_references: bool,
    /// Most bytes of its NAR.
    pub max_size: Option<u64>,
    /// Most bytes of the NARs of its closure.
    pub max_closure_size: Option<u64>,
    /// It may refer only to these.
    pub allowed_references: Option<BTreeSet<OutputReference>>,
    /// Its closure may contain only these.
    pub allowed_requisites: Option<BTreeSet<OutputReference>>,
    /// It must not refer to these.
    pub disallowed_references: BTreeSet<OutputReference>,
    /// Its closure must not contain these.
    pub disallowed_requisites: BTreeSet<OutputReference>,
}

/// The attributes that steer a build.
#[derive(Clone, Debug, PartialEq)]
pub struct DerivationOptions {
    /// The attributes of `__json`, when the derivation is structured.
    pub structured: Option<BTreeMap<String, Json>>,
    /// Checks that hold for every output. Empty when structured.
    pub checks: OutputChecks,
    /// `outputChecks`: checks per output. Empty unless structured.
    pub output_checks: BTreeMap<String, OutputChecks>,
    /// Outputs that are taken to have no references. Structured only.
    pub unsafe_discard_references: BTreeSet<String>,
    /// Variables whose value is put in a file. Empty when structured.
    pub pass_as_file: BTreeSet<Vec<u8>>,
    /// By file name (or attribute, when structured): the paths whose closure is described.
    pub export_references_graph: BTreeMap<String, BTreeSet<StorePath>>,
    /// `__noChroot`: asks for no sandbox.
    pub no_chroot: bool,
    /// `__impure`: the result may differ each time.
    pub impure: bool,
    /// `__impureHostDeps`: paths of the host to be seen in the sandbox.
    pub impure_host_deps: BTreeSet<Vec<u8>>,
    /// Variables that are taken from the builder's own environment; for fixed outputs.
    pub impure_env_vars: BTreeSet<Vec<u8>>,
    /// What the machine must offer.
    pub required_system_features: BTreeSet<Vec<u8>>,
    /// Not worth sending to another machine.
    pub prefer_local_build: bool,
    /// Whether the outputs may be fetched instead.
    pub allow_substitutes: bool,
}

impl DerivationOptions {
    /// Reads the attributes of a derivation.
    ///
    /// # Errors
    /// [`OptionsError`] names the attribute.
    pub fn of(drv: &BasicDerivation) -> Result<Self, OptionsError> {
        let structured = match drv.env.get(b"__json".as_slice()) {
            None => None,
            Some(text) => match Json::parse(text).map_err(OptionsError::Json)? {
                Json::Object(members) => Some(members),
                _ => return Err(OptionsError::NotAnObject),
            },
        };
        let attributes = match &structured {
            Some(members) => Attributes::Structured(members),
            None => Attributes::Plain(&drv.env),
        };
        let words = |name| attributes.words(name).map(Option::unwrap_or_default);
        let mut options = Self {
            checks: OutputChecks::default(),
            output_checks: BTreeMap::new(),
            unsafe_discard_references: BTreeSet::new(),
            pass_as_file: BTreeSet::new(),
            export_references_graph: BTreeMap::new(),
            no_chroot: attributes.flag("__noChroot", false)?,
            impure: attributes.flag("__impure", false)?,
            impure_host_deps: words("__impureHostDeps")?,
            impure_env_vars: words("impureEnvVars")?,
            required_system_features: words("requiredSystemFeatures")?,
            prefer_local_build: attributes.flag("preferLocalBuild", false)?,
            allow_substitutes: attributes.flag("allowSubstitutes", true)?,
            structured: None,
        };
        match &structured {
            Some(members) => options.read_structured(members)?,
            None => options.read_plain(&attributes, drv)?,
        }
        options.structured = structured;
        Ok(options)
    }

    /// Checks that every output that a check names exists. Nix notices only after the build.
    ///
    /// # Errors
    /// [`OptionsError::Reference`] names attribute and output.
    pub fn check_outputs(&self, drv: &BasicDerivation) -> Result<(), OptionsError> {
        let per_output = self
            .output_checks
            .iter()
            .filter(|(output, _)| drv.outputs.contains_key(*output))
            .map(|(output, checks)| (format!("outputChecks.{}.", excerpt(output)), checks));
        for (prefix, checks) in per_output.chain([(String::new(), &self.checks)]) {
            for (name, references) in [
                ("allowedReferences", checks.allowed_references.as_ref()),
                ("allowedRequisites", checks.allowed_requisites.as_ref()),
                ("disallowedReferences", Some(&checks.disallowed_references)),
                ("disallowedRequisites", Some(&checks.disallowed_requisites)),
            ] {
                for reference in references.into_iter().flatten() {
                    if let OutputReference::Output(output) = reference
                        && !drv.outputs.contains_key(output)
                    {
                        return Err(OptionsError::Reference {
                            attribute: format!("{prefix}{name}"),
                            value: excerpt(output).to_string(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// What the machine must offer, with what follows from the kind of the outputs.
    #[must_use]
    pub fn features(&self, kind: DerivationKind) -> BTreeSet<Vec<u8>> {
        let mut features = self.required_system_features.clone();
        if kind == DerivationKind::Floating || kind == DerivationKind::Impure {
            features.insert(b"ca-derivations".to_vec());
        }
        features
    }

    fn read_plain(&mut self, attributes: &Attributes<'_>, drv: &BasicDerivation) -> Result<(), OptionsError> {
        let references = |name: &str| -> Result<Option<BTreeSet<OutputReference>>, OptionsError> {
            let words = attributes.words(name)?;
            words
                .map(|words| words.iter().map(|w| reference(name, w)).collect())
                .transpose()
        };
        self.checks = OutputChecks {
            ignore_self_references: true,
            max_size: None,
            max_closure_size: None,
            allowed_references: references("allowedReferences")?,
            allowed_requisites: references("allowedRequisites")?,
            disallowed_references: references("disallowedReferences")?.unwrap_or_default(),
            disallowed_requisites: references("disallowedRequisites")?.unwrap_or_default(),
        };
        self.pass_as_file = attributes.words("passAsFile")?.unwrap_or_default();
        let graph = drv.env.get(b"exportReferencesGraph".as_slice());
        let mut words = tokens(graph.map_or(b"", Vec::as_slice));
        while let Some(file) = words.next() {
            let path = words.next().ok_or(OptionsError::OddGraph)?;
            let name = std::str::from_utf8(file)
                .ok()
                .filter(|name| is_graph_name(name))
                .ok_or_else(|| OptionsError::GraphName(excerpt(file).to_string()))?;
            let roots = BTreeSet::from([store_path("exportReferencesGraph", path)?]);
            // Of two equal names the last counts, as its file is written over the first.
            self.export_references_graph.insert(name.to_owned(), roots);
        }
        Ok(())
    }

    fn read_structured(&mut self, members: &BTreeMap<String, Json>) -> Result<(), OptionsError> {
        for (output, checks) in object(members.get("outputChecks"), "outputChecks")? {
            let checks = structured_checks(output, checks)?;
            self.output_checks.insert(output.clone(), checks);
        }
        let attribute = "unsafeDiscardReferences";
        for (output, discard) in object(members.get(attribute), attribute)? {
            match discard {
                Json::Bool(true) => {
                    self.unsafe_discard_references.insert(output.clone());
                }
                Json::Bool(false) => {}
                _ => return Err(wrong(&format!("{attribute}.{}", excerpt(output)), "a Boolean")),
            }
        }
        // Nix ignores any other type here.
        if let Some(Json::Object(graphs)) = members.get("exportReferencesGraph") {
            for (key, paths) in graphs {
                let mut roots = BTreeSet::new();
                flatten(
                    &format!("exportReferencesGraph.{}", excerpt(key)),
                    paths,
                    &mut roots,
                )?;
                self.export_references_graph.insert(key.clone(), roots);
            }
        }
        Ok(())
    }
}

/// Name of the file that holds a variable of `passAsFile`; the variable `<name>Path` has its path.
#[must_use]
pub fn pass_as_file_name(variable: &[u8]) -> String {
    format!(".attr-{}", Hash::sha256(variable).nix32())
}

fn structured_checks(output: &str, checks: &Json) -> Result<OutputChecks, OptionsError> {
    let at = |name: &str| format!("outputChecks.{}.{name}", excerpt(output));
    let checks = object(Some(checks), &format!("outputChecks.{}", excerpt(output)))?;
    let find = |name: &str| checks.clone().find(|(key, _)| *key == name).map(|(_, v)| v);
    let size = |name: &str| match find(name) {
        None => Ok(None),
        Some(Json::Uint(n)) => Ok(Some(*n)),
        Some(_) => Err(wrong(&at(name), "a number of bytes")),
    };
    let references = |name: &str| match find(name) {
        None => Ok(None),
        Some(Json::Array(items)) => items
            .iter()
            .map(|item| match item.as_str() {
                Some(text) => reference(&at(name), text.as_bytes()),
                None => Err(wrong(&at(name), "a list of strings")),
            })
            .collect::<Result<BTreeSet<_>, _>>()
            .map(Some),
        Some(_) => Err(wrong(&at(name), "a list of strings")),
    };
    Ok(OutputChecks {
        ignore_self_references: false,
        max_size: size("maxSize")?,
        max_closure_size: size("maxClosureSize")?,
        allowed_references: references("allowedReferences")?,
        allowed_requisites: references("allowedRequisites")?,
        disallowed_references: references("disallowedReferences")?.unwrap_or_default(),
        disallowed_requisites: references("disallowedRequisites")?.unwrap_or_default(),
    })
}

fn object<'a>(
    value: Option<&'a Json>,
    attribute: &str,
) -> Result<std::collections::btree_map::Iter<'a, String, Json>, OptionsError> {
    static EMPTY: BTreeMap<String, Json> = BTreeMap::new();
    match value {
        None => Ok(EMPTY.iter()),
        Some(Json::Object(members)) => Ok(members.iter()),
        Some(_) => Err(wrong(attribute, "an object")),
    }
}

fn flatten(attribute: &str, value: &Json, roots: &mut BTreeSet<StorePath>) -> Result<(), OptionsError> {
    match value {
        Json::String(path) => {
            roots.insert(store_path(attribute, path.as_bytes())?);
            Ok(())
        }
        Json::Array(items) => items.iter().try_for_each(|item| flatten(attribute, item, roots)),
        _ => Err(wrong(attribute, "a path or a list of paths")),
    }
}

/// The store path that the bytes lie in.
fn store_path(attribute: &str, bytes: &[u8]) -> Result<StorePath, OptionsError> {
    let prefix = crate::STORE_DIR.len() + 1;
    let end = bytes
        .iter()
        .skip(prefix)
        .position(|&b| b == b'/')
        .map_or(bytes.len(), |at| prefix + at);
    StorePath::parse(bytes.get(..end).unwrap_or(bytes)).map_err(|source| OptionsError::Path {
        attribute: attribute.to_owned(),
        source,
    })
}

fn reference(attribute: &str, word: &[u8]) -> Result<OutputReference, OptionsError> {
    if let Ok(path) = StorePath::parse(word) {
        return Ok(OutputReference::Path(path));
    }
    match std::str::from_utf8(word) {
        Ok(name) if is_valid_name(name.as_bytes()) => Ok(OutputReference::Output(name.to_owned())),
        _ => Err(OptionsError::Reference {
            attribute: attribute.to_owned(),
            value: excerpt(word).to_string(),
        }),
    }
}

fn is_graph_name(name: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    name.bytes().next().is_some_and(first)
        && name
            .bytes()
            .all(|b| first(b) || b.is_ascii_digit() || b == b'.' || b == b'-')
}

fn wrong(attribute: &str, expected: &'static str) -> OptionsError {
    OptionsError::Type {
        attribute: attribute.to_owned(),
        expected,
    }
}
