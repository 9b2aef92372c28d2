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
    /// Only AES-GCM for clients that are known to have it, where the processor has AES instructions;
    /// ChaCha20-Poly1305, AES-GCM and AES-CTR for all others.
    #[default]
    Fastest,
    /// ChaCha20-Poly1305, AES-GCM and AES-CTR for everybody: the client's order decides.
    Any,
}

impl Ciphers {
    /// Whether it is worth knowing what the client has.
    pub(crate) fn prefer_aes_gcm(self) -> bool {
        self == Self::Fastest && has_aes_instructions()
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
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

const FAST_CIPHERS: &[cipher::Name] = &[cipher::AES_256_GCM, cipher::AES_128_GCM];

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

/// After the login only, so that nobody unknown has anything unpacked. A client asks for it (`ssh -C`, `nix-copy-closure --gzip`,
/// `?compress=true`); one packet unpacks to a bounded length.
const COMPRESSIONS: &[compression::Name] = &[compression::NONE, compression::ZLIB_LEGACY];

/// The offer; `fast` for a client that is known to have AES-GCM.
pub(crate) fn preferred(fast: bool) -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEY_EXCHANGES),
        key: Cow::Borrowed(SIGNATURES),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(if fast { FAST_CIPHERS } else { ANY_CIPHER }),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(COMPRESSIONS),
    }
}

/// Whether a signature by this algorithm is accepted from a client.
pub(crate) fn accepts_signature(algorithm: &Algorithm) -> bool {
    SIGNATURES.contains(algorithm)
}
