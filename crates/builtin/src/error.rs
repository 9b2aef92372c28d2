//! Why a builtin builder failed.

use std::io;
use std::path::{Path, PathBuf};

/// Why a builtin builder failed. The text is for the build's log.
#[derive(Debug, thiserror::Error)]
pub enum BuiltinError {
    /// No such builder.
    #[error("unsupported builtin builder '{0}'")]
    Unknown(String),
    /// The derivation lacks an attribute.
    #[error("attribute '{0}' missing")]
    Missing(&'static str),
    /// An attribute has no sense.
    #[error("attribute '{name}' is invalid: {why}")]
    Invalid {
        /// Which.
        name: &'static str,
        /// Why.
        why: String,
    },
    /// Nothing came, or something else.
    #[error("unable to download '{url}': {why}")]
    Download {
        /// From where.
        url: String,
        /// The end of a chain of causes.
        why: String,
    },
    /// What came is no archive, or one that cannot be unpacked.
    #[error("cannot unpack '{what}': {why}")]
    Archive {
        /// Where it came from.
        what: String,
        /// Why not.
        why: String,
    },
    /// Two packages disagree, or there is a rule against it; in Nix's words.
    #[error("{0}")]
    Refused(String),
    /// The disk.
    #[error("{what} '{path}': {source}", path = path.display())]
    File {
        /// What was done, as in "creating".
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Names what was done to a file.
pub(crate) trait OfFile<T> {
    fn of_file(self, what: &'static str, path: &Path) -> Result<T, BuiltinError>;
}

impl<T> OfFile<T> for io::Result<T> {
    fn of_file(self, what: &'static str, path: &Path) -> Result<T, BuiltinError> {
        self.map_err(|source| BuiltinError::File {
            what,
            path: path.to_owned(),
            source,
        })
    }
}
