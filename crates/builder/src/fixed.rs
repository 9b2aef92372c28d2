//! The hash of a fixed output, taken while its NAR goes by.

use firn_nix::{CaMethod, ContentAddress, Hash, HashAlgo};
use sha2::digest::DynDigest;

use crate::flat::FlatContents;

/// Hashes an output in the way that its derivation asks for.
pub(crate) struct FixedHash {
    algo: HashAlgo,
    digest: Box<dyn DynDigest + Send>,
    flat: Option<FlatContents>,
}

impl FixedHash {
    /// For the method and algorithm of `ca`; none for the Git method, which is not supported.
    pub(crate) fn new(ca: &ContentAddress) -> Option<Self> {
        let algo = ca.hash.algo();
        let digest: Box<dyn DynDigest + Send> = match algo {
            HashAlgo::Md5 => Box::new(md5::Md5::default()),
            HashAlgo::Sha1 => Box::new(sha1::Sha1::default()),
            HashAlgo::Sha256 => Box::new(sha2::Sha256::default()),
            HashAlgo::Sha512 => Box::new(sha2::Sha512::default()),
        };
        let flat = match ca.method {
            CaMethod::Flat | CaMethod::Text => Some(FlatContents::default()),
            CaMethod::Nar => None,
            CaMethod::Git => return None,
        };
        Some(Self { algo, digest, flat })
    }

    /// Takes the next bytes of the NAR.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        match &mut self.flat {
            Some(flat) => self.digest.update(flat.push(chunk)),
            None => self.digest.update(chunk),
        }
    }

    /// The hash; none when one file's bytes are to be hashed and it was no non-executable regular file.
    pub(crate) fn finish(self) -> Option<Hash> {
        if self.flat.as_ref().is_some_and(|flat| !flat.is_flat()) {
            return None;
        }
        Hash::new(self.algo, &self.digest.finalize())
    }
}
