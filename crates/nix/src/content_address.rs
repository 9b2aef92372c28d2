//! Content-address strings: `text:sha256:…`, `fixed:[r:|git:]<algo>:…`.

use std::fmt;

use crate::{Hash, HashAlgo, HashError, excerpt};

/// How bytes become the hash of a content address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CaMethod {
    /// A text file with references (`.drv`, `builtins.toFile`): hash of the flat bytes, always SHA-256.
    Text,
    /// Hash of one file's bytes.
    Flat,
    /// Hash of the NAR.
    Nar,
    /// Git tree or blob hash.
    Git,
}

impl CaMethod {
    /// What stands before the algorithm: ``, `r:`, `git:` or `text:`.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Text => "text:",
            Self::Flat => "",
            Self::Nar => "r:",
            Self::Git => "git:",
        }
    }

    /// Splits `[r:|git:|text:]<algo>`, the form of derivation outputs.
    ///
    /// # Errors
    /// [`ContentAddressError::Hash`] for an unknown algorithm.
    pub fn parse_with_algo(text: &str) -> Result<(Self, HashAlgo), ContentAddressError> {
        let (method, algo) = [Self::Nar, Self::Git, Self::Text]
            .into_iter()
            .find_map(|m| text.strip_prefix(m.prefix()).map(|rest| (m, rest)))
            .unwrap_or((Self::Flat, text));
        Ok((method, HashAlgo::parse(algo)?))
    }
}

/// Why a text is not a content address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentAddressError {
    /// Neither `text:` nor `fixed:`, or a part is missing.
    #[error("'{0}' is not a content address")]
    Form(String),
    /// The hash or its algorithm.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// What a content-addressed store path commits to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentAddress {
    /// How the bytes are hashed.
    pub method: CaMethod,
    /// The result.
    pub hash: Hash,
}

impl ContentAddress {
    /// Reads `text:sha256:<hash>` or `fixed:[r:|git:]<algo>:<hash>`.
    ///
    /// # Errors
    /// [`ContentAddressError`] shows the text.
    pub fn parse(text: &str) -> Result<Self, ContentAddressError> {
        let form = || ContentAddressError::Form(excerpt(text).to_string());
        let (kind, rest) = text.split_once(':').ok_or_else(form)?;
        let (head, digest) = rest.rsplit_once(':').ok_or_else(form)?;
        let (method, algo) = match kind {
            "text" => (CaMethod::Text, HashAlgo::parse(head)?),
            "fixed" => match CaMethod::parse_with_algo(head)? {
                (CaMethod::Text, _) => return Err(form()),
                fixed => fixed,
            },
            _ => return Err(form()),
        };
        if method == CaMethod::Text && algo != HashAlgo::Sha256 {
            return Err(form());
        }
        Ok(Self {
            method,
            hash: Hash::parse_digest(algo, digest)?,
        })
    }

    /// `[r:|git:|text:]<algo>`, the form of derivation outputs.
    #[must_use]
    pub fn method_algo(&self) -> String {
        format!("{}{}", self.method.prefix(), self.hash.algo().name())
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.method == CaMethod::Text {
            ""
        } else {
            "fixed:"
        };
        write!(f, "{kind}{}{}", self.method.prefix(), self.hash)
    }
}
