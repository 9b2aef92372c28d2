//! The compressed file of a NAR: from the network or the disk, and checked against what its narinfo says.

use bytes::{Bytes, BytesMut};
use firn_nix::narinfo::NarInfo;
use firn_nix::{Hash, HashAlgo, Hasher};
use firn_service::ports::CacheError;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use tokio::io::AsyncReadExt as _;

use crate::download::Download;
use crate::fault::Fault;
use crate::remembered::{Key, Remembered};

/// Bytes that are read from a disk at once.
const READ: usize = 128 << 10;

/// Where the bytes come from.
pub(crate) enum Source {
    Network(Box<Download>),
    Disk(tokio::fs::File),
}

impl Source {
    /// The `Content-Encoding` of what comes, when there is one.
    pub(crate) fn encoding(&self) -> Option<&str> {
        match self {
            Self::Network(download) => download.encoding(),
            Self::Disk(_) => None,
        }
    }
}

/// What the compressed file must be.
pub(crate) struct Expected {
    hash: Option<Hash>,
    size: Option<u64>,
    largest: u64,
}

impl Expected {
    /// Of a file that is sent in another form (`Content-Encoding`): what it is, the hash of what comes out shows.
    pub(crate) fn encoded(info: &NarInfo) -> Self {
        Self {
            hash: None,
            size: None,
            largest: possible(info),
        }
    }

    /// # Errors
    /// When the file cannot be so large.
    pub(crate) fn of(info: &NarInfo) -> Result<Self, String> {
        let possible = possible(info);
        let largest = info.file_size.unwrap_or(possible);
        if largest > possible {
            let nar_size = info.nar_size;
            return Err(format!("has a file of {largest} bytes for a NAR of {nar_size}"));
        }
        Ok(Self {
            hash: info.file_hash,
            size: info.file_size,
            largest,
        })
    }
}

/// Most bytes that a NAR's file can have. No compression makes much more of what cannot be compressed.
pub(crate) fn possible(info: &NarInfo) -> u64 {
    info.nar_size
        .saturating_add(info.nar_size / 8)
        .saturating_add(64 << 10)
}

struct Packed {
    source: Source,
    expected: Expected,
    cache: String,
    hasher: Option<Hasher>,
    count: u64,
    forget: Option<(Remembered, Key)>,
}

/// The file's bytes; an error instead of the end when it is not the expected file, which is then no longer remembered.
pub(crate) fn packed(
    source: Source,
    expected: Expected,
    cache: String,
    forget: Option<(Remembered, Key)>,
) -> impl Stream<Item = Result<Bytes, CacheError>> + Send {
    let packed = Packed {
        hasher: expected.hash.map(|_| Hasher::new(HashAlgo::Sha256)),
        source,
        expected,
        cache,
        count: 0,
        forget,
    };
    try_unfold(packed, async |mut packed| match packed.next().await {
        Ok(Some(chunk)) => Ok(Some((chunk, packed))),
        Ok(None) => Ok(None),
        Err(fault) => {
            if let (Fault::Final(_) | Fault::Missing { .. }, Some((remembered, key))) =
                (&fault, packed.forget.take())
            {
                remembered.forget(&key).await;
            }
            Err(fault.into_error(&packed.cache))
        }
    })
}

impl Packed {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let chunk = match &mut self.source {
            Source::Network(download) => download.chunk().await?,
            Source::Disk(file) => {
                let mut chunk = BytesMut::with_capacity(READ);
                let read = file.read_buf(&mut chunk).await;
                let n = read.map_err(|e| Fault::bad(format!("has a file that cannot be read: {e}")))?;
                (n > 0).then(|| chunk.freeze())
            }
        };
        let Some(chunk) = chunk else {
            return self.finish().map(|()| None);
        };
        self.count += chunk.len() as u64;
        if self.count > self.expected.largest {
            let largest = self.expected.largest;
            return Err(Fault::bad(format!(
                "sends more than the {largest} bytes of a NAR's file"
            )));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        Ok(Some(chunk))
    }

    fn finish(&mut self) -> Result<(), Fault> {
        if let Some(size) = self.expected.size
            && size != self.count
        {
            let count = self.count;
            return Err(Fault::bad(format!(
                "sends {count} bytes of a NAR's file of {size}"
            )));
        }
        let actual = self.hasher.take().map(Hasher::finish);
        if let (Some(expected), Some(actual)) = (self.expected.hash, actual)
            && expected != actual
        {
            return Err(Fault::bad(format!(
                "sends a NAR's file with the hash {actual} instead of {expected}"
            )));
        }
        Ok(())
    }
}
