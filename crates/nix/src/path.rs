//! Store paths and how they are computed.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::{CaMethod, ContentAddress, Hash, HashAlgo, base32, excerpt};

/// The one store directory that Firn serves.
pub const STORE_DIR: &str = "/nix/store";

/// Digits of the hash part.
const HASH_LEN: usize = 32;
/// Longest name part.
const NAME_MAX: usize = 211;

/// Why bytes are not a store path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not below the store directory.
    #[error("path '{0}' is not in the Nix store")]
    NotInStore(String),
    /// The 32 digits are missing or not base-32.
    #[error("store path '{0}' has no valid hash part")]
    HashPart(String),
    /// Empty, too long, a forbidden character, or `.`/`..` in front.
    #[error("store path '{0}' has an invalid name")]
    Name(String),
    /// An output name that cannot be part of a store path name.
    #[error("output name '{0}' is invalid")]
    OutputName(String),
}

/// A store path: `/nix/store/<32 digits>-<name>`. Holds the base name; cheap to clone; ordered as the full paths are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Arc<str>);

impl StorePath {
    /// Reads a full path; nothing may follow the name.
    ///
    /// # Errors
    /// [`PathError`] shows the bytes, escaped.
    pub fn parse(full: &[u8]) -> Result<Self, PathError> {
        match full
            .strip_prefix(STORE_DIR.as_bytes())
            .and_then(|r| r.strip_prefix(b"/"))
        {
            Some(base) => Self::from_base_name(base),
            None => Err(PathError::NotInStore(shown(full))),
        }
    }

    /// Reads `<32 digits>-<name>`.
    ///
    /// # Errors
    /// [`PathError`] shows the bytes, escaped.
    pub fn from_base_name(base: &[u8]) -> Result<Self, PathError> {
        let (Some(hash), Some(rest)) = (base.get(..HASH_LEN), base.get(HASH_LEN..)) else {
            return Err(PathError::HashPart(shown(base)));
        };
        if base32::decode::<20>(hash).is_none() {
            return Err(PathError::HashPart(shown(base)));
        }
        let name = rest
            .strip_prefix(b"-")
            .ok_or_else(|| PathError::Name(shown(base)))?;
        if !is_valid_name(name) {
            return Err(PathError::Name(shown(base)));
        }
        // Digits and name characters are ASCII.
        let text = std::str::from_utf8(base).map_err(|_| PathError::Name(shown(base)))?;
        Ok(Self(text.into()))
    }

    /// From the digest of the hash part and a name.
    ///
    /// # Errors
    /// [`PathError::Name`] when the name cannot be one.
    pub fn new(hash: &[u8; 20], name: &str) -> Result<Self, PathError> {
        if !is_valid_name(name.as_bytes()) {
            return Err(PathError::Name(shown(name.as_bytes())));
        }
        Ok(Self(format!("{}-{name}", base32::encode(hash)).into()))
    }

    /// `<32 digits>-<name>`.
    #[must_use]
    pub fn base_name(&self) -> &str {
        &self.0
    }

    /// The 32 digits, as references appear in contents.
    #[must_use]
    pub fn hash_part(&self) -> &str {
        self.0.get(..HASH_LEN).unwrap_or("")
    }

    /// What follows the dash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.get(HASH_LEN + 1..).unwrap_or("")
    }

    /// Whether the name ends in `.drv`.
    #[must_use]
    pub fn is_derivation(&self) -> bool {
        self.0.ends_with(".drv")
    }

    /// For a derivation: the name without `.drv`.
    #[must_use]
    pub fn derivation_name(&self) -> Option<&str> {
        self.name().strip_suffix(".drv")
    }

    /// Nix's `makeStorePath`: `kind` is e.g. `output:out` or `source:<ref>`, `hash` the inner hash in full.
    ///
    /// # Errors
    /// [`PathError::Name`] when the name cannot be one.
    pub fn make(kind: &str, hash: &Hash, name: &str) -> Result<Self, PathError> {
        let fingerprint = format!("{kind}:{}:{}:{STORE_DIR}:{name}", hash.algo().name(), hash.hex());
        Self::new(&compress(Hash::sha256(fingerprint.as_bytes()).bytes()), name)
    }

    /// Path of an output of a derivation: `<name>` for `out`, `<name>-<output>` otherwise.
    ///
    /// # Errors
    /// [`PathError`] when name or output cannot be one.
    pub fn make_output(output: &str, hash: &Hash, drv_name: &str) -> Result<Self, PathError> {
        Self::make(
            &format!("output:{output}"),
            hash,
            &output_path_name(drv_name, output)?,
        )
    }

    /// Path of a content-addressed object. `references` are without the object itself, which `self_reference` stands for.
    ///
    /// # Errors
    /// [`PathError::Name`] when the name cannot be one or the method does not allow these references.
    pub fn make_content_addressed(
        name: &str,
        ca: &ContentAddress,
        references: &BTreeSet<StorePath>,
        self_reference: bool,
    ) -> Result<Self, PathError> {
        let with_references = |kind: &str, self_reference: bool| {
            let mut kind = kind.to_owned();
            for reference in references {
                kind.extend([":", STORE_DIR, "/", reference.base_name()]);
            }
            if self_reference {
                kind.push_str(":self");
            }
            kind
        };
        match (ca.method, ca.hash.algo()) {
            (CaMethod::Text, _) if self_reference => Err(PathError::Name(shown(name.as_bytes()))),
            (CaMethod::Text, _) => Self::make(&with_references("text", false), &ca.hash, name),
            (CaMethod::Nar, HashAlgo::Sha256) => {
                Self::make(&with_references("source", self_reference), &ca.hash, name)
            }
            _ if !references.is_empty() || self_reference => Err(PathError::Name(shown(name.as_bytes()))),
            (method, algo) => {
                let inner = format!("fixed:out:{}{}:{}:", method.prefix(), algo.name(), ca.hash.hex());
                Self::make("output:out", &Hash::sha256(inner.as_bytes()), name)
            }
        }
    }
}

/// The full path.
impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE_DIR}/{}", self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of an output's path: the derivation's name, with `-<output>` unless the output is `out`.
///
/// # Errors
/// [`PathError::OutputName`] when the output's name has characters that a path cannot have.
pub fn output_path_name(drv_name: &str, output: &str) -> Result<String, PathError> {
    if output == "out" {
        return Ok(drv_name.to_owned());
    }
    if !is_valid_name(output.as_bytes()) {
        return Err(PathError::OutputName(shown(output.as_bytes())));
    }
    Ok(format!("{drv_name}-{output}"))
}

/// Folds a digest to 20 bytes by exclusive or, as Nix does for hash parts.
#[must_use]
pub fn compress(digest: &[u8]) -> [u8; 20] {
    let mut out = [0u8; 20];
    for (i, byte) in digest.iter().enumerate() {
        if let Some(to) = out.get_mut(i % 20) {
            *to ^= byte;
        }
    }
    out
}

/// Whether the bytes may follow the dash: `[0-9A-Za-z+-._?=]`, 1 to 211 of them, not `.`, `..`, `.-…` or `..-…`.
#[must_use]
pub fn is_valid_name(name: &[u8]) -> bool {
    let allowed = |c: &u8| c.is_ascii_alphanumeric() || b"+-._?=".contains(c);
    let dots = name == b"." || name == b".." || name.starts_with(b".-") || name.starts_with(b"..-");
    (1..=NAME_MAX).contains(&name.len()) && name.iter().all(allowed) && !dots
}

fn shown(bytes: &[u8]) -> String {
    excerpt(bytes).to_string()
}
