//! Hashes in the four spellings that Nix reads and writes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::Digest as _;

use crate::{base32, excerpt};

/// A hash algorithm that store paths and fixed outputs may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgo {
    /// 16 bytes; old fixed outputs only.
    Md5,
    /// 20 bytes; old fixed outputs and git trees.
    Sha1,
    /// 32 bytes; everything that Nix computes itself.
    Sha256,
    /// 64 bytes; fixed outputs.
    Sha512,
}

impl HashAlgo {
    /// Every algorithm, for tables and tests.
    pub const ALL: [Self; 4] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512];

    /// Whether nobody is known to find two texts with the same digest.
    #[must_use]
    pub const fn is_collision_resistant(self) -> bool {
        matches!(self, Self::Sha256 | Self::Sha512)
    }

    /// Digest length in bytes.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Never true; the conventional companion of [`HashAlgo::len`].
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Nix's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm of that name.
    ///
    /// # Errors
    /// [`HashError::Algorithm`] for any other name.
    pub fn parse(name: &str) -> Result<Self, HashError> {
        Self::ALL
            .into_iter()
            .find(|a| a.name() == name)
            .ok_or_else(|| HashError::Algorithm(excerpt(name).to_string()))
    }

    /// Digest of `data` in one go.
    #[must_use]
    pub fn digest(self, data: &[u8]) -> Hash {
        let mut hasher = Hasher::new(self);
        hasher.update(data);
        hasher.finish()
    }
}

/// Why a text is not a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not one of md5, sha1, sha256, sha512.
    #[error("unknown hash algorithm '{0}'")]
    Algorithm(String),
    /// Neither hex, base-32 nor base-64 of the algorithm's length.
    #[error("'{text}' is not a {algo} hash", algo = algo.name())]
    Digest {
        /// What it should have been.
        algo: HashAlgo,
        /// What it was, escaped.
        text: String,
    },
    /// No algorithm in the text and none given.
    #[error("hash '{0}' does not say its algorithm")]
    NoAlgorithm(String),
}

/// A digest with its algorithm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash {
    algo: HashAlgo,
    bytes: [u8; 64],
}

impl Hash {
    /// From raw digest bytes; the caller guarantees the length, shorter input is zero-filled.
    fn from_slice(algo: HashAlgo, digest: &[u8]) -> Self {
        let mut bytes = [0; 64];
        for (to, from) in bytes.iter_mut().zip(digest.iter().take(algo.len())) {
            *to = *from;
        }
        Self { algo, bytes }
    }

    /// From raw digest bytes; `None` when the length is not the algorithm's.
    #[must_use]
    pub fn new(algo: HashAlgo, digest: &[u8]) -> Option<Self> {
        (digest.len() == algo.len()).then(|| Self::from_slice(algo, digest))
    }

    /// SHA-256 of `data`.
    #[must_use]
    pub fn sha256(data: &[u8]) -> Self {
        HashAlgo::Sha256.digest(data)
    }

    /// The algorithm.
    #[must_use]
    pub const fn algo(&self) -> HashAlgo {
        self.algo
    }

    /// The digest.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.algo.len()).unwrap_or(&self.bytes)
    }

    /// Digest in lower-case hexadecimal, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(self.bytes())
    }

    /// Digest in Nix's base-32, without the algorithm.
    #[must_use]
    pub fn nix32(&self) -> String {
        base32::encode(self.bytes())
    }

    /// Digest in base-64, without the algorithm.
    #[must_use]
    pub fn base64(&self) -> String {
        BASE64.encode(self.bytes())
    }

    /// `sha256-<base64>`: the form of the W3C's Subresource Integrity.
    #[must_use]
    pub fn sri(&self) -> String {
        format!("{}-{}", self.algo.name(), self.base64())
    }

    /// Reads a bare digest of a known algorithm in hex, base-32 or base-64, told apart by length as Nix does.
    ///
    /// # Errors
    /// [`HashError::Digest`] names the text.
    pub fn parse_digest(algo: HashAlgo, text: &str) -> Result<Self, HashError> {
        let error = || HashError::Digest {
            algo,
            text: excerpt(text).to_string(),
        };
        let n = algo.len();
        let mut out = [0u8; 64];
        let digest = out.get_mut(..n).ok_or_else(error)?;
        let ok = if text.len() == n * 2 {
            unhex_into(text.as_bytes(), digest)
        } else if text.len() == base32::encoded_len(n) {
            base32::decode_into(text.as_bytes(), digest)
        } else if text.len() == n.div_ceil(3) * 4 {
            BASE64.decode(text).is_ok_and(|bytes| {
                let fits = bytes.len() == n;
                if fits {
                    digest.copy_from_slice(&bytes);
                }
                fits
            })
        } else {
            false
        };
        if ok {
            Ok(Self { algo, bytes: out })
        } else {
            Err(error())
        }
    }

    /// Reads `algo:digest` or SRI; with `algo` given also a bare digest, and a stated algorithm must then agree.
    ///
    /// # Errors
    /// [`HashError`] names the text or the algorithm.
    pub fn parse(text: &str, algo: Option<HashAlgo>) -> Result<Self, HashError> {
        let (stated, digest) = match text.split_once([':', '-']) {
            Some((name, digest)) => (Some(HashAlgo::parse(name)?), digest),
            None => (None, text),
        };
        match (stated, algo) {
            (Some(a), Some(b)) if a != b => Err(HashError::Digest {
                algo: b,
                text: excerpt(text).to_string(),
            }),
            (Some(a), _) | (None, Some(a)) => Self::parse_digest(a, digest),
            (None, None) => Err(HashError::NoAlgorithm(excerpt(text).to_string())),
        }
    }
}

/// `algo:<nix32>`, as in narinfo files.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algo.name(), self.nix32())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest in the making, of any algorithm.
#[derive(Clone)]
pub enum Hasher {
    /// MD5.
    Md5(md5::Md5),
    /// SHA-1.
    Sha1(sha1::Sha1),
    /// SHA-256.
    Sha256(sha2::Sha256),
    /// SHA-512.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Over no bytes yet.
    #[must_use]
    pub fn new(algo: HashAlgo) -> Self {
        match algo {
            HashAlgo::Md5 => Self::Md5(md5::Md5::new()),
            HashAlgo::Sha1 => Self::Sha1(sha1::Sha1::new()),
            HashAlgo::Sha256 => Self::Sha256(sha2::Sha256::new()),
            HashAlgo::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    /// Takes more bytes.
    pub fn update(&mut self, data: &[u8]) {
        match self {
            Self::Md5(h) => h.update(data),
            Self::Sha1(h) => h.update(data),
            Self::Sha256(h) => h.update(data),
            Self::Sha512(h) => h.update(data),
        }
    }

    /// The digest of all that was taken.
    #[must_use]
    pub fn finish(self) -> Hash {
        match self {
            Self::Md5(h) => Hash::from_slice(HashAlgo::Md5, &h.finalize()),
            Self::Sha1(h) => Hash::from_slice(HashAlgo::Sha1, &h.finalize()),
            Self::Sha256(h) => Hash::from_slice(HashAlgo::Sha256, &h.finalize()),
            Self::Sha512(h) => Hash::from_slice(HashAlgo::Sha512, &h.finalize()),
        }
    }
}

/// SHA-256 of a NAR: the identity of a content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NarHash([u8; 32]);

impl NarHash {
    /// From the raw digest.
    #[must_use]
    pub const fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The raw digest.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hexadecimal digits, as the protocols carry it.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Reads 64 hex digits, or any spelling that [`Hash::parse`] knows for SHA-256.
    ///
    /// # Errors
    /// [`HashError`] names the text.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        Hash::parse(text, Some(HashAlgo::Sha256)).map(|h| Self::from_hash(&h))
    }

    /// As a general hash.
    #[must_use]
    pub fn to_hash(self) -> Hash {
        Hash::from_slice(HashAlgo::Sha256, &self.0)
    }

    fn from_hash(hash: &Hash) -> Self {
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(hash.bytes()) {
            *to = *from;
        }
        Self(out)
    }
}

/// `sha256:<nix32>`, as in narinfo files.
impl fmt::Display for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", base32::encode(&self.0))
    }
}

impl fmt::Debug for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
            let _ = write!(out, "{b:02x}");
            out
        })
}

fn unhex_into(text: &[u8], out: &mut [u8]) -> bool {
    let nibble = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.len() == out.len() * 2
        && text.chunks_exact(2).zip(out).all(|(pair, to)| match pair {
            &[a, b] => match (nibble(a), nibble(b)) {
                (Some(a), Some(b)) => {
                    *to = a << 4 | b;
                    true
                }
                _ => false,
            },
            _ => false,
        })
}
