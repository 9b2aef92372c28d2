use std::io;
use std::path::{Path, PathBuf};

/// Why no machine could be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A file.
    #[error("{what} {path}: {source}", path = path.display())]
    File {
        /// What was done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A program that is needed is not there.
    #[error("start {program}: {source}")]
    Start {
        /// Its name.
        program: String,
        /// The error.
        source: io::Error,
    },
    /// A program that is needed failed.
    #[error("{program} ended with {status}: {said}")]
    Program {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// What it wrote to standard error.
        said: String,
    },
    /// Something is not as expected.
    #[error("{path}: {why}", path = path.display())]
    Unsuitable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Why a prepared directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PreparedError {
    /// Nothing there, or not readable.
    #[error("prepared machine {path}: {source}", path = path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The manifest is of another version, or damaged.
    #[error("manifest {path}: {why}: prepare the machine again", path = path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file is not the one that was prepared.
    #[error("{path} has changed since it was prepared", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

pub(super) trait Named<T> {
    fn named(self, what: &'static str, path: &Path) -> Result<T, PrepareError>;
}

impl<T> Named<T> for io::Result<T> {
    fn named(self, what: &'static str, path: &Path) -> Result<T, PrepareError> {
        self.map_err(|source| PrepareError::File {
            what,
            path: path.to_owned(),
            source,
        })
    }
}

pub(super) fn unsuitable(path: &Path, why: impl Into<String>) -> PrepareError {
    PrepareError::Unsuitable {
        path: path.to_owned(),
        why: why.into(),
    }
}
