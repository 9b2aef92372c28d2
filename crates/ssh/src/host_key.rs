//! The server's own key: made on the first start, kept in an OpenSSH private key file.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{Algorithm, HashAlg, PrivateKey};

/// The longest key file that is read, in bytes.
const MAX_LENGTH: u64 = 64 * 1024;

/// The Ed25519 key by which clients recognise this server.
#[derive(Clone)]
pub struct HostKey {
    private: PrivateKey,
}

/// Why there is no usable host key.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The file, or the folder it should be made in, cannot be used.
    #[error("cannot {action} the SSH host key {path:?}")]
    File {
        /// What was tried: `read`, `create`.
        action: &'static str,
        /// The key file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("the SSH host key {path:?} has mode {mode:04o}: others may read it; `chmod 600` it")]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not an OpenSSH private key, encrypted, or not Ed25519.
    #[error(
        "{path:?} is not a usable SSH host key ({reason}); expected an unencrypted Ed25519 key in OpenSSH format"
    )]
    Unusable {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gave no randomness.
    #[error("no randomness for a new SSH host key: {0}")]
    Randomness(String),
}

impl HostKey {
    /// The key in `path`, made there (mode 0600) when the file does not exist.
    ///
    /// The file appears complete or not at all, and of several processes that start together one makes it.
    pub fn load_or_create(path: &Path) -> Result<Self, HostKeyError> {
        match Self::load(path) {
            Err(HostKeyError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            found => return found,
        }
        let key = Self::generate()?;
        match key.store(path) {
            Ok(()) => Ok(key),
            Err(source) if source.kind() == ErrorKind::AlreadyExists => Self::load(path),
            Err(source) => Err(HostKeyError::File {
                action: "create",
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// A new key that is in no file.
    pub fn generate() -> Result<Self, HostKeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| HostKeyError::Randomness(error.to_string()))?;
        Ok(Self {
            private: PrivateKey::from(Ed25519Keypair::from_seed(&seed)),
        })
    }

    fn load(path: &Path) -> Result<Self, HostKeyError> {
        let failed = |source| HostKeyError::File {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mode = metadata.mode() & 0o7777;
        // OpenSSH's rule: a file of somebody else (a mounted secret) is that one's business.
        if metadata.uid() == rustix::process::geteuid().as_raw() && mode & 0o077 != 0 {
            return Err(HostKeyError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        file.take(MAX_LENGTH).read_to_string(&mut text).map_err(failed)?;
        let unusable = |reason: String| HostKeyError::Unusable {
            path: path.to_owned(),
            reason,
        };
        let private = PrivateKey::from_openssh(&text).map_err(|error| unusable(error.to_string()))?;
        if private.is_encrypted() {
            return Err(unusable("it has a passphrase".to_owned()));
        }
        if private.algorithm() != Algorithm::Ed25519 {
            return Err(unusable(format!("it is of type {}", private.algorithm())));
        }
        Ok(Self { private })
    }

    /// Writes a complete file beside `path` and links it to the name, which fails when the name is taken.
    fn store(&self, path: &Path) -> std::io::Result<()> {
        let text = self
            .private
            .to_openssh(LineEnding::LF)
            .map_err(std::io::Error::other)?;
        let mut tag = [0; 8];
        getrandom::fill(&mut tag).map_err(std::io::Error::other)?;
        let mut name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".new-{:016x}", u64::from_ne_bytes(tag)));
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let draft = folder.join(name);
        let linked = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::hard_link(&draft, path)
        })();
        let removed = std::fs::remove_file(&draft);
        linked.and(removed)?;
        File::open(folder)?.sync_all()
    }

    pub(crate) fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// `ssh-ed25519 AAAA…`: prefixed with the host's name, a line of a `known_hosts` file.
    pub fn public_line(&self) -> String {
        let mut key = self.private.public_key().clone();
        key.set_comment("");
        key.to_openssh().unwrap_or_default()
    }

    /// `SHA256:…`, which a client shows when it connects for the first time.
    pub fn fingerprint(&self) -> String {
        self.private.public_key().fingerprint(HashAlg::Sha256).to_string()
    }
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostKey({})", self.fingerprint())
    }
}
