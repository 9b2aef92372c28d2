//! Ed25519 signatures of store objects: `<key name>:<base64>`, for keys and signatures alike.
//!
//! A key's name is only a label: trust is in the key, and a verifier looks the key up by the name that a signature states.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::excerpt;

/// Longest key name that is read, in bytes.
pub const MAX_KEY_NAME: usize = 256;

/// Why a text is not a key or a signature. Secret texts are never shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no `:`, or nothing, blanks or too much before it.
    #[error("{0} does not have the form <name>:<base64>")]
    Form(&'static str),
    /// What follows the name is not base-64 of the right length.
    #[error("{what} '{name}' does not hold {len} bytes in base-64")]
    Bytes {
        /// Kind of text.
        what: &'static str,
        /// The key's name, escaped.
        name: String,
        /// Bytes it should hold.
        len: usize,
    },
    /// The bytes are no Ed25519 key, or the two halves of a secret key do not belong together.
    #[error("{what} '{name}' is not a valid Ed25519 key")]
    Key {
        /// Kind of text.
        what: &'static str,
        /// The key's name, escaped.
        name: String,
    },
}

/// A signature with the name of its key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature {
    key_name: String,
    bytes: [u8; 64],
}

impl Signature {
    /// Name of the key that is said to have made it.
    #[must_use]
    pub fn key_name(&self) -> &str {
        &self.key_name
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let (key_name, bytes) = split("signature", text)?;
        Ok(Self { key_name, bytes })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key_name, BASE64.encode(self.bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that signatures are checked with.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of the key: what identifies it, whatever its name.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether the signature names this key and was made by it over `message`. Strict: no malleable or small-order forms.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let bytes = ed25519_dalek::Signature::from_bytes(&signature.bytes);
        signature.key_name == self.name && self.key.verify_strict(message, &bytes).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let what = "public key";
        let (name, bytes) = split(what, text)?;
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self { name, key }),
            _ => Err(SignatureError::Key { what, name }),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(self.bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that signs. Its text holds 64 bytes: the seed, then the public key.
///
/// ```
/// use firn_nix::signature::SecretKey;
/// let key = SecretKey::from_seed("cache.example-1", &[7; 32])?;
/// let signature = key.sign(b"message");
/// assert!(key.public_key().verify(b"message", &signature));
/// # Ok::<(), firn_nix::signature::SignatureError>(())
/// ```
#[derive(Clone)]
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl SecretKey {
    /// A new key from 32 bytes that nobody can guess.
    ///
    /// # Errors
    /// [`SignatureError::Form`] when the name is empty, too long or has a blank, a control character or a `:`.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, SignatureError> {
        if !is_key_name(name) {
            return Err(SignatureError::Form("key name"));
        }
        Ok(Self {
            name: name.to_owned(),
            key: SigningKey::from_bytes(seed),
        })
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half, under the same name.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey {
            name: self.name.clone(),
            key: self.key.verifying_key(),
        }
    }

    /// Signs a message, for instance a fingerprint.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature {
            key_name: self.name.clone(),
            bytes: self.key.sign(message).to_bytes(),
        }
    }

    /// The text that a key file holds. A secret.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        format!("{}:{}", self.name, BASE64.encode(self.key.to_keypair_bytes()))
    }
}

impl FromStr for SecretKey {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let what = "secret key";
        let (name, bytes) = split(what, text)?;
        match SigningKey::from_keypair_bytes(&bytes) {
            Ok(key) => Ok(Self { name, key }),
            Err(_) => Err(SignatureError::Key { what, name }),
        }
    }
}

/// The name only.
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.name)
    }
}

fn split<const N: usize>(what: &'static str, text: &str) -> Result<(String, [u8; N]), SignatureError> {
    let (name, encoded) = text
        .split_once(':')
        .filter(|(name, _)| is_key_name(name))
        .ok_or(SignatureError::Form(what))?;
    // Decoding is skipped for a wrong length, so that a huge text costs nothing.
    let bytes = (encoded.len() == N.div_ceil(3) * 4)
        .then(|| BASE64.decode(encoded).ok())
        .flatten()
        .and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
    match bytes {
        Some(bytes) => Ok((name.to_owned(), bytes)),
        None => Err(SignatureError::Bytes {
            what,
            name: excerpt(name).to_string(),
            len: N,
        }),
    }
}

fn is_key_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != ':';
    (1..=MAX_KEY_NAME).contains(&name.len()) && name.chars().all(plain)
}
