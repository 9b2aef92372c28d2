//! Reading one line of an `authorized_keys` or `.pub` file (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, PublicKey};

use crate::PublicKeyBlob;

/// The longest line that is looked at, in bytes. A 4096-bit RSA key has about 750.
const MAX_LENGTH: usize = 16 * 1024;
/// The smallest RSA modulus that is accepted, in bits.
const MIN_RSA_BITS: usize = 2048;
/// The largest RSA modulus that the signature check supports, in bits.
const MAX_RSA_BITS: usize = 4096;

/// A public key and the comment that follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeyLine {
    /// The key.
    pub key: PublicKeyBlob,
    /// What follows the key, such as `alice@laptop`; may be empty.
    pub comment: String,
}

/// Why a line is not a usable public key. The text is for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Blank, or a comment.
    #[error("there is no key in this line; expected `ssh-ed25519 AAAA… comment`")]
    Empty,
    /// Longer than any key.
    #[error("the line is {0} bytes long; a public key has at most {MAX_LENGTH}")]
    TooLong(usize),
    /// More than one line.
    #[error("more than one line; give one public key at a time")]
    SeveralLines,
    /// A private key, which nobody else should see.
    #[error(
        "this is a PRIVATE key: keep it to yourself, and give the file that ends in .pub (or `ssh-keygen -y -f KEYFILE`)"
    )]
    PrivateKey,
    /// RFC 4716 or PEM.
    #[error("this is not in OpenSSH format; convert it with `ssh-keygen -i -f FILE`")]
    OtherFormat,
    /// Options such as `command="…"`, which would be silently lost.
    #[error("options before the key (`{0}`) are not supported; give the line from `{1}` on")]
    Options(String, String),
    /// A certificate: not accepted for login.
    #[error("this is a certificate; give the plain public key")]
    Certificate,
    /// An algorithm that is not accepted.
    #[error("keys of type `{0}` are not accepted; use ssh-ed25519, ecdsa-sha2-*, sk-* or ssh-rsa")]
    Algorithm(String),
    /// The word after the type is missing or no base64.
    #[error("the key after `{0}` is missing or broken: it should be one base64 word that starts with AAAA")]
    Base64(String),
    /// The blob is not a key of that type.
    #[error("this is not a valid `{0}` key: {1}")]
    Malformed(String, String),
    /// RSA, out of bounds.
    #[error("the RSA key has {0} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted (better: ssh-ed25519)")]
    RsaSize(usize),
}

/// Reads `TYPE BASE64 [COMMENT]`. Accepts Ed25519, ECDSA, RSA of 2048 to 4096 bits, and the two `sk-` types.
pub fn parse_public_key_line(line: &str) -> Result<PublicKeyLine, PublicKeyError> {
    if line.contains("PRIVATE KEY") || line.starts_with("PuTTY-User-Key-File") {
        return Err(PublicKeyError::PrivateKey);
    }
    if line.len() > MAX_LENGTH {
        return Err(PublicKeyError::TooLong(line.len()));
    }
    let line = line.trim();
    if line.starts_with("-----BEGIN") || line.starts_with("---- BEGIN") {
        return Err(PublicKeyError::OtherFormat);
    }
    if line.contains(['\n', '\r']) {
        return Err(PublicKeyError::SeveralLines);
    }
    if line.is_empty() || line.starts_with('#') {
        return Err(PublicKeyError::Empty);
    }
    let (name, rest) = next_word(line);
    check_name(name, rest)?;
    let (base64, comment) = next_word(rest);
    let blob = STANDARD
        .decode(base64)
        .map_err(|_| PublicKeyError::Base64(name.to_owned()))?;
    if blob.is_empty() {
        return Err(PublicKeyError::Base64(name.to_owned()));
    }
    let malformed = |why: &dyn std::fmt::Display| PublicKeyError::Malformed(name.to_owned(), why.to_string());
    let key = PublicKey::from_bytes(&blob).map_err(|why| malformed(&why))?;
    if key.algorithm().as_str() != name {
        return Err(malformed(&format_args!("it says it is `{}`", key.algorithm())));
    }
    check_strength(key.key_data())?;
    let key = PublicKeyBlob::new(&key).ok_or_else(|| malformed(&"it cannot be written back"))?;
    if key.as_bytes() != blob {
        return Err(malformed(&"it is not in canonical form"));
    }
    Ok(PublicKeyLine {
        key,
        comment: comment.to_owned(),
    })
}

fn next_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (word, rest.trim())
}

fn check_name(name: &str, rest: &str) -> Result<(), PublicKeyError> {
    if accepted(name) {
        return Ok(());
    }
    if name.contains("-cert-v01@") {
        return Err(PublicKeyError::Certificate);
    }
    if let Some(at) = rest.split_whitespace().find(|word| accepted(word)) {
        let options = if name.contains('"') { "…" } else { name };
        return Err(PublicKeyError::Options(options.to_owned(), at.to_owned()));
    }
    Err(PublicKeyError::Algorithm(name.escape_debug().take(60).collect()))
}

fn accepted(name: &str) -> bool {
    match Algorithm::new(name) {
        Ok(Algorithm::Rsa { hash }) => hash.is_none(),
        Ok(
            Algorithm::Ed25519
            | Algorithm::Ecdsa { .. }
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256,
        ) => true,
        _ => false,
    }
}

/// Keys that are out of bounds here can be in the database of an older version, so logins ask as well.
pub(crate) fn check_strength(key: &KeyData) -> Result<(), PublicKeyError> {
    if let KeyData::Rsa(rsa) = key {
        let bits = rsa.key_size() as usize;
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
            return Err(PublicKeyError::RsaSize(bits));
        }
    }
    Ok(())
}
