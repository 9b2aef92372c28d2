//! What is offered in the key exchange (RFC 4253 section 7.1).
//!
//! In SSH the first algorithm of the *client's* list that the server offers wins, so the server decides only by
//! leaving something out.

use std::borrow::Cow;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, compression, kex, mac};

/// Which ciphers clients are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ciphers {
    /// ChaCha20-Poly1305, AES-256-GCM and AES-CTR: the client's order decides.
    #[default]
    Any,
    /// Only ChaCha20-Poly1305.
    ChaCha20Poly1305,
    /// Only AES-256-GCM.
    Aes256Gcm,
}

const KEY_EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    // For clients in FIPS mode; nobody else prefers them.
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const ANY_CIPHER: &[cipher::Name] = &[
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

const MACS: &[mac::Name] = &[
    mac::HMAC_SHA256_ETM,
    mac::HMAC_SHA512_ETM,
    mac::HMAC_SHA256,
    mac::HMAC_SHA512,
];

/// Signature algorithms: of the host key, and (announced by RFC 8308) of the clients' keys. No SHA-1.
const SIGNATURES: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::SkEd25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha256),
    },
];

pub(crate) fn preferred(ciphers: Ciphers) -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEY_EXCHANGES),
        key: Cow::Borrowed(SIGNATURES),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(match ciphers {
            Ciphers::Any => ANY_CIPHER,
            Ciphers::ChaCha20Poly1305 => &[cipher::CHACHA20_POLY1305],
            Ciphers::Aes256Gcm => &[cipher::AES_256_GCM],
        }),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// Whether a signature by this algorithm is accepted from a client.
pub(crate) fn accepts_signature(algorithm: &Algorithm) -> bool {
    SIGNATURES.contains(algorithm)
}
