//! What the front door needs from the house behind it.

use std::future::Future;

use russh::keys::PublicKey;
use russh::keys::ssh_key::HashAlg;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Command;

/// A public key as OpenSSH writes it on the wire (RFC 4253 section 6.6: `string algorithm`, then key fields).
///
/// Equal keys have equal bytes, so the blob can be used as a database key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKeyBlob {
    algorithm: String,
    bytes: Vec<u8>,
    fingerprint: String,
}

impl PublicKeyBlob {
    pub(crate) fn new(key: &PublicKey) -> Option<Self> {
        Some(Self {
            algorithm: key.algorithm().to_string(),
            bytes: key.to_bytes().ok()?,
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        })
    }

    /// The key's algorithm name, such as `ssh-ed25519` or `sk-ssh-ed25519@openssh.com`; `ssh-rsa` for every RSA key.
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The wire-format blob: what the base64 word of an `authorized_keys` line decodes to.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

impl std::fmt::Debug for PublicKeyBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.algorithm, self.fingerprint)
    }
}

/// The house behind the door: who a key acts for, and what a session does.
pub trait FrontDoor: Send + Sync + 'static {
    /// Who a connection acts for. Opaque to this crate.
    type Account: Clone + Send + Sync + 'static;

    /// Whether this public key may be proved at all. Asked once per offered key, before the client has shown that it holds the private key:
    /// so it must not depend on what else the client says. Runs under the login time limit.
    fn knows(&self, key: &PublicKeyBlob) -> impl Future<Output = bool> + Send;

    /// The account that a proved key acts for when its client calls itself `user`; `None` ends like an unknown key. Runs under the login
    /// time limit.
    fn authenticate(
        &self,
        user: &str,
        key: &PublicKeyBlob,
    ) -> impl Future<Output = Option<Self::Account>> + Send;

    /// Whether the account may still open a channel. Asked for each.
    fn admits(&self, account: &Self::Account) -> impl Future<Output = bool> + Send;

    /// Returns, with a word for the client, when the account may not go on; its connection is closed then. Its sessions are told by their
    /// own means: they have [`REVOKED_GRACE`](crate::REVOKED_GRACE) to end before the connection goes.
    fn revoked(&self, account: &Self::Account) -> impl Future<Output = String> + Send;

    /// A name for the account: the unit of the session cap, and a field of the log.
    fn account_name(&self, account: &Self::Account) -> String;

    /// Run one session to its end; the result is the exit status that the client sees.
    ///
    /// `env` holds what the client's `env` requests set, in order. `stdout` is sent when it is flushed or large;
    /// what is left is sent when the session ends. `stderr` is sent as it is written.
    fn session<R, W, E>(
        &self,
        account: Self::Account,
        command: Command,
        env: Vec<(Vec<u8>, Vec<u8>)>,
        stdin: R,
        stdout: W,
        stderr: E,
    ) -> impl Future<Output = u32> + Send
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
        E: AsyncWrite + Send + Unpin + 'static;
}
