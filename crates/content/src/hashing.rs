use std::io;

use firn_nix::{Hash, HashAlgo, NarHash};
use sha2::Digest as _;

use crate::ingest::Observer;

/// SHA-256 and size of a NAR that comes in pieces, shown to an observer on the way.
pub(crate) struct NarDigest {
    sha256: sha2::Sha256,
    size: u64,
    observer: Option<Observer>,
}

impl NarDigest {
    pub(crate) fn new(observer: Option<Observer>) -> Self {
        Self {
            sha256: sha2::Sha256::new(),
            size: 0,
            observer,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
        if let Some(observer) = &mut self.observer {
            observer(bytes);
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn finish(self) -> (NarHash, u64) {
        (NarHash::new(self.sha256.finalize().into()), self.size)
    }
}

impl io::Write for NarDigest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The hashes of the bytes of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatHashes(Vec<Hash>);

impl FlatHashes {
    /// The hash by that algorithm, if it was asked for. SHA-256 always is.
    #[must_use]
    pub fn get(&self, algo: HashAlgo) -> Option<Hash> {
        self.0.iter().copied().find(|hash| hash.algo() == algo)
    }
}

/// Computes several hashes of one stream of bytes.
pub(crate) struct FlatDigest(Vec<AnyDigest>);

enum AnyDigest {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl FlatDigest {
    /// For these algorithms and SHA-256.
    pub(crate) fn new(algorithms: &[HashAlgo]) -> Self {
        let wanted = |algo: &HashAlgo| *algo == HashAlgo::Sha256 || algorithms.contains(algo);
        let digest = |algo| match algo {
            HashAlgo::Md5 => AnyDigest::Md5(md5::Md5::new()),
            HashAlgo::Sha1 => AnyDigest::Sha1(sha1::Sha1::new()),
            HashAlgo::Sha256 => AnyDigest::Sha256(sha2::Sha256::new()),
            HashAlgo::Sha512 => AnyDigest::Sha512(sha2::Sha512::new()),
        };
        Self(HashAlgo::ALL.into_iter().filter(wanted).map(digest).collect())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for digest in &mut self.0 {
            match digest {
                AnyDigest::Md5(digest) => digest.update(bytes),
                AnyDigest::Sha1(digest) => digest.update(bytes),
                AnyDigest::Sha256(digest) => digest.update(bytes),
                AnyDigest::Sha512(digest) => digest.update(bytes),
            }
        }
    }

    pub(crate) fn finish(self) -> FlatHashes {
        let hash = |digest| match digest {
            AnyDigest::Md5(digest) => Hash::new(HashAlgo::Md5, &digest.finalize()),
            AnyDigest::Sha1(digest) => Hash::new(HashAlgo::Sha1, &digest.finalize()),
            AnyDigest::Sha256(digest) => Hash::new(HashAlgo::Sha256, &digest.finalize()),
            AnyDigest::Sha512(digest) => Hash::new(HashAlgo::Sha512, &digest.finalize()),
        };
        FlatHashes(self.0.into_iter().filter_map(hash).collect())
    }
}
