//! The three fields that an output has in a `.drv` file and on the wire: path, `[r:|git:|text:]algo` and hash.

use crate::{
    CaMethod, ContentAddress, ContentAddressError, DerivationOutput, Hash, HashAlgo, HashError, PathError,
    StorePath, excerpt,
};

/// Why three fields are not an output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputFieldsError {
    /// The path is not one.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Method or algorithm is unknown.
    #[error(transparent)]
    Algorithm(#[from] ContentAddressError),
    /// The hash is not one of its algorithm.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// A hash without an algorithm.
    #[error("an expected hash is stated without its algorithm")]
    HashWithoutAlgorithm,
    /// The path of a floating or impure output cannot be known.
    #[error("path '{0}' is stated for an output whose path is only known after the build")]
    UnknowablePath(StorePath),
}

impl DerivationOutput {
    /// From the fields of a `.drv` file or of `BuildDerivation`. All may be empty.
    ///
    /// # Errors
    /// [`OutputFieldsError`] names the field's content.
    pub fn from_fields(path: &[u8], method_algo: &[u8], hash: &[u8]) -> Result<Self, OutputFieldsError> {
        let path = match path {
            b"" => None,
            path => Some(StorePath::parse(path)?),
        };
        if method_algo.is_empty() {
            return match path {
                _ if !hash.is_empty() => Err(OutputFieldsError::HashWithoutAlgorithm),
                Some(path) => Ok(Self::InputAddressed(path)),
                None => Ok(Self::Deferred),
            };
        }
        let (method, algo) = parse_method_algo(method_algo)?;
        match (hash, path) {
            (b"" | b"impure", Some(path)) => Err(OutputFieldsError::UnknowablePath(path)),
            (b"", None) => Ok(Self::Floating { method, algo }),
            (b"impure", None) => Ok(Self::Impure { method, algo }),
            (hash, path) => {
                let text = std::str::from_utf8(hash).map_err(|_| HashError::Digest {
                    algo,
                    text: excerpt(hash).to_string(),
                })?;
                let hash = Hash::parse_digest(algo, text)?;
                Ok(Self::Fixed {
                    path,
                    ca: ContentAddress { method, hash },
                })
            }
        }
    }

    /// The fields, as [`DerivationOutput::from_fields`] reads them; the hash in hexadecimal.
    #[must_use]
    pub fn to_fields(&self) -> [String; 3] {
        let path = self.path().map(ToString::to_string).unwrap_or_default();
        let floating = |method: CaMethod, algo: HashAlgo| format!("{}{}", method.prefix(), algo.name());
        match self {
            Self::InputAddressed(_) | Self::Deferred => [path, String::new(), String::new()],
            Self::Fixed { ca, .. } => [path, ca.method_algo(), ca.hash.hex()],
            Self::Floating { method, algo } => [path, floating(*method, *algo), String::new()],
            Self::Impure { method, algo } => [path, floating(*method, *algo), "impure".to_owned()],
        }
    }
}

fn parse_method_algo(bytes: &[u8]) -> Result<(CaMethod, HashAlgo), ContentAddressError> {
    std::str::from_utf8(bytes)
        .map_err(|_| ContentAddressError::Form(excerpt(bytes).to_string()))
        .and_then(CaMethod::parse_with_algo)
}
