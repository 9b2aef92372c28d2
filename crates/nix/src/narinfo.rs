//! `.narinfo` files: what a binary cache says about one store object.
//!
//! Lines `<field>: <value>`. Unknown fields are ignored, as caches add their own; a known field other than `Sig` must not repeat. What Nix
//! takes is taken: of the `Sig` lines those that can be read count, whatever stands beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr as _;

use crate::path_info::fingerprint;
use crate::signature::{PublicKey, Signature};
use crate::{ContentAddress, Hash, HashAlgo, NarHash, PathInfo, StorePath, excerpt};

/// Largest file that is read, in bytes.
pub const MAX_NARINFO: usize = 8 << 20;
/// Most signatures that are read.
pub const MAX_SIGNATURES: usize = 1024;
/// Most signatures that are read which name the same key. A key signs an object in one way only.
pub const MAX_SIGNATURES_BY_ONE_KEY: usize = 16;

/// Why a text is not a narinfo. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    /// More than [`MAX_NARINFO`] bytes.
    #[error("narinfo has {0} bytes, more than {MAX_NARINFO}")]
    TooLarge(usize),
    /// A line is not `<field>: <value>` in UTF-8, or the last one does not end.
    #[error("narinfo, line {0}: expected '<field>: <value>' and a line end")]
    Line(usize),
    /// A field is there twice.
    #[error("narinfo, line {line}: a second {field}")]
    Repeated {
        /// Where.
        line: usize,
        /// Which.
        field: &'static str,
    },
    /// A field's value cannot be read.
    #[error("narinfo, line {line}: {field}: {reason}")]
    Value {
        /// Where.
        line: usize,
        /// Which.
        field: &'static str,
        /// Why not.
        reason: String,
    },
    /// A field that must be there is not.
    #[error("narinfo has no {0}")]
    Missing(&'static str),
}

/// A binary cache's entry for one store object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarInfo {
    /// The store path.
    pub path: StorePath,
    /// Where the NAR is, relative to the cache; neither blanks nor control characters.
    pub url: String,
    /// How the NAR is compressed there; `bzip2` when the file does not say.
    pub compression: String,
    /// SHA-256 of the compressed NAR.
    pub file_hash: Option<Hash>,
    /// Bytes of the compressed NAR.
    pub file_size: Option<u64>,
    /// SHA-256 of the NAR.
    pub nar_hash: NarHash,
    /// Bytes of the NAR; never 0.
    pub nar_size: u64,
    /// Paths that it refers to.
    pub references: BTreeSet<StorePath>,
    /// The derivation that produced it, when known.
    pub deriver: Option<StorePath>,
    /// Signatures over the [fingerprint](NarInfo::fingerprint): the first [`MAX_SIGNATURES`], of each key the first
    /// [`MAX_SIGNATURES_BY_ONE_KEY`].
    pub signatures: BTreeSet<Signature>,
    /// Lines `Sig` that hold no signature. They are not written.
    pub unreadable_signatures: usize,
    /// What the path commits to, when it is content-addressed.
    pub ca: Option<ContentAddress>,
}

impl NarInfo {
    /// Reads the file.
    ///
    /// # Errors
    /// [`NarInfoError`] names the line and the field.
    pub fn parse(bytes: &[u8]) -> Result<Self, NarInfoError> {
        if bytes.len() > MAX_NARINFO {
            return Err(NarInfoError::TooLarge(bytes.len()));
        }
        let mut fields = Fields::default();
        let mut rest = bytes;
        let mut line = 0;
        while !rest.is_empty() {
            line += 1;
            let end = memchr::memchr(b'\n', rest).ok_or(NarInfoError::Line(line))?;
            let (text, tail) = rest.split_at(end);
            rest = tail.get(1..).unwrap_or_default();
            let text = std::str::from_utf8(text).map_err(|_| NarInfoError::Line(line))?;
            let (field, value) = text.split_once(':').ok_or(NarInfoError::Line(line))?;
            let value = match value.strip_prefix(' ') {
                Some(value) => value,
                None if value.is_empty() => value,
                None => return Err(NarInfoError::Line(line)),
            };
            fields.set(line, field, value)?;
        }
        fields.finish()
    }

    /// What signatures are made over: `1;<path>;<nar hash>;<nar size>;<references>`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.path, self.nar_hash, self.nar_size, &self.references)
    }

    /// The first of these keys that has signed this entry.
    #[must_use]
    pub fn signed_by<'k>(&self, keys: &'k [PublicKey]) -> Option<&'k PublicKey> {
        let fingerprint = self.fingerprint();
        keys.iter().find(|key| {
            let mut signatures = self.signatures.iter();
            signatures.any(|signature| key.verify(fingerprint.as_bytes(), signature))
        })
    }

    /// What a store would say about the path.
    #[must_use]
    pub fn to_path_info(&self) -> PathInfo {
        PathInfo {
            path: self.path.clone(),
            deriver: self.deriver.clone(),
            nar_hash: self.nar_hash,
            references: self.references.clone(),
            registration_time: 0,
            nar_size: self.nar_size,
            ultimate: false,
            signatures: self.signatures.iter().map(ToString::to_string).collect(),
            ca: self.ca,
        }
    }
}

/// The file.
impl fmt::Display for NarInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "StorePath: {}", self.path)?;
        writeln!(f, "URL: {}", self.url)?;
        writeln!(f, "Compression: {}", self.compression)?;
        if let Some(hash) = &self.file_hash {
            writeln!(f, "FileHash: {hash}")?;
        }
        if let Some(size) = self.file_size {
            writeln!(f, "FileSize: {size}")?;
        }
        writeln!(f, "NarHash: {}", self.nar_hash)?;
        writeln!(f, "NarSize: {}", self.nar_size)?;
        let references: Vec<_> = self.references.iter().map(StorePath::base_name).collect();
        writeln!(f, "References: {}", references.join(" "))?;
        if let Some(deriver) = &self.deriver {
            writeln!(f, "Deriver: {}", deriver.base_name())?;
        }
        for signature in &self.signatures {
            writeln!(f, "Sig: {signature}")?;
        }
        match &self.ca {
            Some(ca) => writeln!(f, "CA: {ca}"),
            None => Ok(()),
        }
    }
}

#[derive(Default)]
struct Fields {
    path: Option<StorePath>,
    url: Option<String>,
    compression: Option<String>,
    file_hash: Option<Hash>,
    file_size: Option<u64>,
    nar_hash: Option<NarHash>,
    nar_size: Option<u64>,
    references: Option<BTreeSet<StorePath>>,
    deriver: Option<Option<StorePath>>,
    signatures: BTreeSet<Signature>,
    by_key: BTreeMap<String, usize>,
    unreadable_signatures: usize,
    ca: Option<Option<ContentAddress>>,
}

impl Fields {
    fn set(&mut self, line: usize, field: &str, value: &str) -> Result<(), NarInfoError> {
        let at = At { line };
        match field {
            "StorePath" => at.once("StorePath", &mut self.path, StorePath::parse(value.as_bytes())),
            "URL" => at.once("URL", &mut self.url, plain(value)),
            // Nix takes an empty value for the default.
            "Compression" if value.is_empty() => {
                at.once("Compression", &mut self.compression, plain("bzip2"))
            }
            "Compression" => at.once("Compression", &mut self.compression, plain(value)),
            "FileHash" => at.once("FileHash", &mut self.file_hash, sha256(value)),
            "FileSize" => at.once("FileSize", &mut self.file_size, number(value)),
            "NarHash" => {
                let hash =
                    sha256(value).and_then(|h| NarHash::parse(&h.to_string()).map_err(|e| e.to_string()));
                at.once("NarHash", &mut self.nar_hash, hash)
            }
            "NarSize" => {
                let size = number(value).and_then(|n| if n == 0 { Err("is 0".to_owned()) } else { Ok(n) });
                at.once("NarSize", &mut self.nar_size, size)
            }
            "References" => at.once("References", &mut self.references, references(value)),
            "Deriver" => {
                let deriver = match value {
                    "unknown-deriver" => Ok(None),
                    name => StorePath::from_base_name(name.as_bytes()).map(Some),
                };
                at.once("Deriver", &mut self.deriver, deriver)
            }
            "CA" if value.is_empty() => at.once("CA", &mut self.ca, Ok::<_, String>(None)),
            "CA" => at.once("CA", &mut self.ca, ContentAddress::parse(value).map(Some)),
            "Sig" => {
                self.sign(value);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn sign(&mut self, value: &str) {
        let Ok(signature) = Signature::from_str(value) else {
            self.unreadable_signatures += 1;
            return;
        };
        if self.signatures.len() >= MAX_SIGNATURES {
            return;
        }
        let by_key = self.by_key.entry(signature.key_name().to_owned()).or_default();
        if *by_key < MAX_SIGNATURES_BY_ONE_KEY && self.signatures.insert(signature) {
            *by_key += 1;
        }
    }

    fn finish(self) -> Result<NarInfo, NarInfoError> {
        let missing = NarInfoError::Missing;
        Ok(NarInfo {
            path: self.path.ok_or(missing("StorePath"))?,
            url: self.url.ok_or(missing("URL"))?,
            compression: self.compression.unwrap_or_else(|| "bzip2".to_owned()),
            file_hash: self.file_hash,
            file_size: self.file_size,
            nar_hash: self.nar_hash.ok_or(missing("NarHash"))?,
            nar_size: self.nar_size.ok_or(missing("NarSize"))?,
            references: self.references.unwrap_or_default(),
            deriver: self.deriver.flatten(),
            signatures: self.signatures,
            unreadable_signatures: self.unreadable_signatures,
            ca: self.ca.flatten(),
        })
    }
}

struct At {
    line: usize,
}

impl At {
    fn once<T, E: fmt::Display>(
        &self,
        field: &'static str,
        slot: &mut Option<T>,
        value: Result<T, E>,
    ) -> Result<(), NarInfoError> {
        let value = value.map_err(|e| self.value(field, e))?;
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(NarInfoError::Repeated {
                line: self.line,
                field,
            }),
        }
    }

    fn value(&self, field: &'static str, reason: impl fmt::Display) -> NarInfoError {
        NarInfoError::Value {
            line: self.line,
            field,
            reason: reason.to_string(),
        }
    }
}

fn plain(value: &str) -> Result<String, String> {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    if value.is_empty() || value.contains(bad) {
        return Err(format!("'{}' is empty or has blanks", excerpt(value)));
    }
    Ok(value.to_owned())
}

fn sha256(value: &str) -> Result<Hash, String> {
    let hash = Hash::parse(value, None).map_err(|e| e.to_string())?;
    if hash.algo() != HashAlgo::Sha256 {
        return Err(format!("'{}' is not a sha256 hash", excerpt(value)));
    }
    Ok(hash)
}

/// With a plus sign, too, as Nix reads numbers.
fn number(value: &str) -> Result<u64, String> {
    let digits = value.strip_prefix('+').unwrap_or(value);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain
        .then(|| digits.parse().ok())
        .flatten()
        .ok_or_else(|| format!("'{}' is not a number of bytes", excerpt(value)))
}

fn references(value: &str) -> Result<BTreeSet<StorePath>, String> {
    let names = value.split(' ').filter(|n| !n.is_empty());
    names
        .map(|name| StorePath::from_base_name(name.as_bytes()).map_err(|e| e.to_string()))
        .collect()
}
