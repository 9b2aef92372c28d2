//! Realisations: which path an output of a derivation got, where that is known only after the build.
//!
//! The form of Nix 2.4 to 2.34, in which a derivation is named by its hash modulo.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::json::{Json, JsonError};
use crate::path::is_valid_name;
use crate::signature::{PublicKey, Signature, SignatureError};
use crate::{Hash, HashError, PathError, StorePath};

/// Largest text that is read, in bytes.
pub const MAX_REALISATION: usize = 1 << 20;

/// Why a text is not a realisation or the id of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RealisationError {
    /// More than [`MAX_REALISATION`] bytes.
    #[error("realisation has {0} bytes, more than {MAX_REALISATION}")]
    TooLarge(usize),
    /// Not `<hash>!<output>`.
    #[error("'{0}' is not the id of a derivation's output")]
    Id(String),
    /// The id's hash.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// Not JSON.
    #[error("realisation: {0}")]
    Json(#[from] JsonError),
    /// A field is missing or has the wrong type.
    #[error("realisation: '{field}' must be {expected}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A path in it.
    #[error("realisation: {0}")]
    Path(#[from] PathError),
    /// A signature in it.
    #[error("realisation: {0}")]
    Signature(#[from] SignatureError),
}

/// An output of a derivation: `sha256:<hex>!<output>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DrvOutput {
    /// Hash modulo of the derivation, see [`crate::derivation::Modulo::output_hash`].
    pub drv_hash: Hash,
    /// Name of the output.
    pub output: String,
}

impl FromStr for DrvOutput {
    type Err = RealisationError;

    fn from_str(text: &str) -> Result<Self, RealisationError> {
        let (hash, output) = text
            .split_once('!')
            .filter(|(_, output)| is_valid_name(output.as_bytes()))
            .ok_or_else(|| RealisationError::Id(text.escape_debug().take(300).collect()))?;
        Ok(Self {
            drv_hash: Hash::parse(hash, None)?,
            output: output.to_owned(),
        })
    }
}

impl fmt::Display for DrvOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}!{}",
            self.drv_hash.algo().name(),
            self.drv_hash.hex(),
            self.output
        )
    }
}

/// The path that an output got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realisation {
    /// Which output.
    pub id: DrvOutput,
    /// Its path.
    pub out_path: StorePath,
    /// Signatures over the [fingerprint](Realisation::fingerprint).
    pub signatures: BTreeSet<Signature>,
    /// Realisations that it depends on; empty since Nix 2.31 or so.
    pub dependent_realisations: BTreeMap<DrvOutput, StorePath>,
}

impl Realisation {
    /// Reads the JSON; a signature may be text or, from newer versions, an object.
    ///
    /// # Errors
    /// [`RealisationError`] names the field.
    pub fn parse(bytes: &[u8]) -> Result<Self, RealisationError> {
        if bytes.len() > MAX_REALISATION {
            return Err(RealisationError::TooLarge(bytes.len()));
        }
        let json = Json::parse(bytes)?;
        let text = |field: &'static str| {
            json.get(field)
                .and_then(Json::as_str)
                .ok_or(RealisationError::Field {
                    field,
                    expected: "a string",
                })
        };
        let id = text("id")?.parse()?;
        let out_path = StorePath::from_base_name(text("outPath")?.as_bytes())?;
        let signatures = match json.get("signatures") {
            None => BTreeSet::new(),
            Some(Json::Array(items)) => items.iter().map(signature).collect::<Result<_, _>>()?,
            Some(_) => {
                let (field, expected) = ("signatures", "a list");
                return Err(RealisationError::Field { field, expected });
            }
        };
        let dependent = |(id, path): (&String, &Json)| {
            let (field, expected) = ("dependentRealisations", "an object of strings");
            let path = path.as_str().ok_or(RealisationError::Field { field, expected })?;
            Ok((id.parse()?, StorePath::from_base_name(path.as_bytes())?))
        };
        let dependent_realisations = match json.get("dependentRealisations") {
            None => BTreeMap::new(),
            Some(Json::Object(members)) => members
                .iter()
                .map(dependent)
                .collect::<Result<_, RealisationError>>()?,
            Some(_) => {
                let (field, expected) = ("dependentRealisations", "an object");
                return Err(RealisationError::Field { field, expected });
            }
        };
        Ok(Self {
            id,
            out_path,
            signatures,
            dependent_realisations,
        })
    }

    /// The JSON, compact; signatures as text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut members = self.unsigned();
        let signatures = self.signatures.iter().map(|s| Json::from(s.to_string()));
        members.insert("signatures".to_owned(), signatures.collect());
        Json::Object(members).dump()
    }

    /// What signatures are made over: the JSON without them.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        Json::Object(self.unsigned()).dump()
    }

    /// The first of these keys that has signed this realisation.
    #[must_use]
    pub fn signed_by<'k>(&self, keys: &'k [PublicKey]) -> Option<&'k PublicKey> {
        let fingerprint = self.fingerprint();
        keys.iter().find(|key| {
            let mut signatures = self.signatures.iter();
            signatures.any(|signature| key.verify(fingerprint.as_bytes(), signature))
        })
    }

    fn unsigned(&self) -> BTreeMap<String, Json> {
        let dependent = self
            .dependent_realisations
            .iter()
            .map(|(id, path)| (id.to_string(), Json::from(path.base_name())));
        BTreeMap::from([
            ("dependentRealisations".to_owned(), dependent.collect()),
            ("id".to_owned(), Json::from(self.id.to_string())),
            ("outPath".to_owned(), Json::from(self.out_path.base_name())),
        ])
    }
}

fn signature(json: &Json) -> Result<Signature, RealisationError> {
    let member = |name: &str| json.get(name).and_then(Json::as_str);
    match (json, member("keyName"), member("sig")) {
        (Json::String(text), _, _) => Ok(text.parse()?),
        (_, Some(name), Some(bytes)) => Ok(format!("{name}:{bytes}").parse()?),
        _ => Err(RealisationError::Field {
            field: "signatures",
            expected: "a list of signatures",
        }),
    }
}
