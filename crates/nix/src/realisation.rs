//! Realisations: which path an output of a derivation got, where that is known only after the build.
//!
//! Nix 2.4 to 2.34 names the derivation by its hash modulo; since 2.35 by the path of the derivation with its inputs resolved. The JSON
//! forms differ, and so does what is signed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::json::{Json, JsonError};
use crate::path::is_valid_name;
use crate::signature::{PublicKey, Signature, SignatureError};
use crate::{Hash, HashError, PathError, StorePath, excerpt};

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

/// Which derivation, for a realisation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DrvId {
    /// Hash modulo, see [`crate::derivation::Modulo::output_hash`]: Nix 2.4 to 2.34.
    Modulo(Hash),
    /// Path of the resolved derivation, see [`crate::derivation::Resolved`]: since Nix 2.35.
    Resolved(StorePath),
}

/// `sha256:<hex>`, or the base name of a `.drv`.
impl FromStr for DrvId {
    type Err = RealisationError;

    fn from_str(text: &str) -> Result<Self, RealisationError> {
        if text.contains(':') {
            return Ok(Self::Modulo(Hash::parse(text, None)?));
        }
        let path = StorePath::from_base_name(text.as_bytes())?;
        match path.is_derivation() {
            true => Ok(Self::Resolved(path)),
            false => Err(RealisationError::Id(shown(text))),
        }
    }
}

impl fmt::Display for DrvId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Modulo(hash) => write!(f, "{}:{}", hash.algo().name(), hash.hex()),
            Self::Resolved(path) => f.write_str(path.base_name()),
        }
    }
}

/// An output of a derivation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DrvOutput {
    /// Which derivation.
    pub drv: DrvId,
    /// Name of the output.
    pub output: String,
}

impl DrvOutput {
    /// An output of the resolved derivation with that path.
    ///
    /// # Errors
    /// [`RealisationError::Id`] when the path is not a derivation's or the name cannot be an output's.
    pub fn of_path(drv: StorePath, output: String) -> Result<Self, RealisationError> {
        if !drv.is_derivation() || !is_valid_name(output.as_bytes()) {
            return Err(RealisationError::Id(shown(&format!("{drv}^{output}"))));
        }
        let drv = DrvId::Resolved(drv);
        Ok(Self { drv, output })
    }
}

/// `sha256:<hex>!<output>`, the only form that Nix has for it as one text.
impl FromStr for DrvOutput {
    type Err = RealisationError;

    fn from_str(text: &str) -> Result<Self, RealisationError> {
        let (hash, output) = text
            .split_once('!')
            .filter(|(_, output)| is_valid_name(output.as_bytes()))
            .ok_or_else(|| RealisationError::Id(shown(text)))?;
        Ok(Self {
            drv: DrvId::Modulo(Hash::parse(hash, None)?),
            output: output.to_owned(),
        })
    }
}

impl fmt::Display for DrvOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!{}", self.drv, self.output)
    }
}

fn shown(text: &str) -> String {
    excerpt(text).to_string()
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
    /// Without signatures.
    #[must_use]
    pub const fn unsigned(id: DrvOutput, out_path: StorePath) -> Self {
        Self {
            id,
            out_path,
            signatures: BTreeSet::new(),
            dependent_realisations: BTreeMap::new(),
        }
    }

    /// Reads the JSON of either form; a signature may be text or, from newer versions, an object.
    ///
    /// # Errors
    /// [`RealisationError`] names the field.
    pub fn parse(bytes: &[u8]) -> Result<Self, RealisationError> {
        if bytes.len() > MAX_REALISATION {
            return Err(RealisationError::TooLarge(bytes.len()));
        }
        let json = Json::parse(bytes)?;
        let (id, value) = match (json.get("key"), json.get("value")) {
            (Some(key), Some(value)) => (resolved_id(key)?, value),
            _ => (text(&json, "id")?.parse()?, &json),
        };
        let out_path = StorePath::from_base_name(text(value, "outPath")?.as_bytes())?;
        let signatures = match value.get("signatures") {
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
        let signatures = self.signatures.iter().map(|s| Json::from(s.to_string()));
        self.json(Some(signatures.collect())).dump()
    }

    /// What signatures are made over: the JSON without them.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.json(None).dump()
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

    fn json(&self, signatures: Option<Json>) -> Json {
        let member = |name: &str, value: Json| (name.to_owned(), value);
        let path = member("outPath", Json::from(self.out_path.base_name()));
        let signatures = signatures.map(|s| member("signatures", s));
        let value = std::iter::once(path).chain(signatures);
        Json::Object(match &self.id.drv {
            DrvId::Modulo(_) => {
                let dependent = self
                    .dependent_realisations
                    .iter()
                    .map(|(id, path)| (id.to_string(), Json::from(path.base_name())));
                let dependent = member("dependentRealisations", dependent.collect());
                let id = member("id", Json::from(self.id.to_string()));
                value.chain([dependent, id]).collect()
            }
            DrvId::Resolved(drv) => {
                let key = [
                    member("drvPath", Json::from(drv.base_name())),
                    member("outputName", Json::from(self.id.output.as_str())),
                ];
                [
                    member("key", key.into_iter().collect()),
                    member("value", value.collect()),
                ]
                .into()
            }
        })
    }
}

fn text<'j>(json: &'j Json, field: &'static str) -> Result<&'j str, RealisationError> {
    json.get(field)
        .and_then(Json::as_str)
        .ok_or(RealisationError::Field {
            field,
            expected: "a string",
        })
}

fn resolved_id(key: &Json) -> Result<DrvOutput, RealisationError> {
    let drv = StorePath::from_base_name(text(key, "drvPath")?.as_bytes())?;
    DrvOutput::of_path(drv, text(key, "outputName")?.to_owned())
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
