//! Bytes to values.

use std::collections::BTreeSet;
use std::io;

use firn_nix::{PathError, STORE_DIR, StorePath, Words, excerpt};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use super::WireLimits;
use crate::{Busy, Held};

/// Bytes of the longest [`WireError::Invalid::reason`].
const MAX_REASON: usize = 4 << 10;

/// Bytes that an item of a list takes besides its own.
const ITEM: u64 = 64;

/// Most bytes that are laid out before they come.
const PIECE: usize = 64 << 10;

/// Why a value could not be read. `field` is the protocol documentation's name for it.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The bytes ended inside the value.
    #[error("the data ends inside {field}")]
    Ended {
        /// Where.
        field: &'static str,
    },
    /// The bytes are not such a value, or too many.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which value.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A store path of another store directory than the one that there is.
    #[error("only {STORE_DIR} is served here, and '{0}' is not in it")]
    OtherStore(String),
    /// The transport failed or stalled.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is no memory for the value now.
    #[error(transparent)]
    Busy(#[from] Busy),
}

impl WireError {
    pub(crate) fn invalid(field: &'static str, reason: impl ToString) -> Self {
        Self::Invalid {
            field,
            reason: Words::<MAX_REASON>::new(reason.to_string()).into_string(),
        }
    }
}

/// Reads values from a buffered source, within limits. One decoder reads one request: what it reads in all is limited too.
#[derive(Debug)]
pub struct Decoder<'a, B> {
    source: &'a mut B,
    limits: &'a WireLimits,
    left: u64,
    held: Option<&'a mut Held>,
}

impl<'a, B: AsyncBufRead + Unpin + Send> Decoder<'a, B> {
    /// A decoder with the whole allowance of a request.
    pub fn new(source: &'a mut B, limits: &'a WireLimits) -> Self {
        Self {
            source,
            limits,
            left: limits.request_bytes,
            held: None,
        }
    }

    /// Counts what it reads.
    #[must_use]
    pub fn holding(mut self, held: &'a mut Held) -> Self {
        self.held = Some(held);
        self
    }

    async fn hold(&mut self, bytes: u64) -> Result<(), WireError> {
        match &mut self.held {
            Some(held) => Ok(held.use_more(bytes).await?),
            None => Ok(()),
        }
    }

    /// The limits it was made with.
    #[must_use]
    pub const fn limits(&self) -> &'a WireLimits {
        self.limits
    }

    /// What it reads from.
    pub fn source(&mut self) -> &mut B {
        self.source
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError`], as for all methods.
    pub async fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        let mut raw = [0; 8];
        self.exact(&mut raw, field).await?;
        Ok(u64::from_le_bytes(raw))
    }

    /// A boolean: zero is false, anything else true, as Nix reads it.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn bool(&mut self, field: &'static str) -> Result<bool, WireError> {
        Ok(self.u64(field).await? != 0)
    }

    /// A number of items, at most `most`.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn count(&mut self, most: u64, field: &'static str) -> Result<u64, WireError> {
        match self.u64(field).await? {
            n if n <= most => Ok(n),
            n => Err(WireError::invalid(
                field,
                format!("{n} items, at most {most} are accepted"),
            )),
        }
    }

    /// A padded string that may be long.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn bytes(&mut self, field: &'static str) -> Result<Vec<u8>, WireError> {
        self.string(self.limits.string_bytes, field).await
    }

    /// A padded string of at most [`WireLimits::short_bytes`].
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn short(&mut self, field: &'static str) -> Result<Vec<u8>, WireError> {
        self.string(self.limits.short_bytes, field).await
    }

    async fn string(&mut self, most: u64, field: &'static str) -> Result<Vec<u8>, WireError> {
        let most = most.min(self.left);
        let len = self.u64(field).await?;
        let reason = || format!("{len} bytes, at most {most} are accepted");
        let len = usize::try_from(len)
            .ok()
            .filter(|_| len <= most)
            .ok_or_else(|| WireError::invalid(field, reason()))?;
        // The stated length is only a claim: memory follows the bytes that come.
        self.hold(ITEM).await?;
        let mut out = Vec::with_capacity(len.min(PIECE));
        while out.len() < len {
            let come = self.source.fill_buf().await?.len().min(len - out.len());
            if come == 0 {
                return Err(WireError::Ended { field });
            }
            self.hold(come as u64).await?;
            let chunk = self.source.fill_buf().await?;
            let n = chunk.len().min(come);
            out.extend_from_slice(chunk.get(..n).unwrap_or(&[]));
            self.source.consume(n);
        }
        self.spend(len as u64, field)?;
        self.padding(len as u64, field).await?;
        Ok(out)
    }

    /// The zeros after a string of `len` bytes.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn padding(&mut self, len: u64, field: &'static str) -> Result<(), WireError> {
        let mut zeros = [0; 8];
        let n = usize::try_from((8 - len % 8) % 8).unwrap_or(0);
        self.exact(zeros.get_mut(..n).unwrap_or(&mut []), field).await?;
        if zeros == [0; 8] {
            Ok(())
        } else {
            Err(WireError::invalid(field, "non-zero padding"))
        }
    }

    /// A short padded string that must be UTF-8.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn text(&mut self, field: &'static str) -> Result<String, WireError> {
        String::from_utf8(self.short(field).await?).map_err(|_| WireError::invalid(field, "not UTF-8"))
    }

    /// A full store path.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn path(&mut self, field: &'static str) -> Result<StorePath, WireError> {
        parse_path(&self.short(field).await?, field)
    }

    /// A full store path, or the empty string.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn optional_path(&mut self, field: &'static str) -> Result<Option<StorePath>, WireError> {
        let raw = self.short(field).await?;
        (!raw.is_empty()).then(|| parse_path(&raw, field)).transpose()
    }

    /// A set of store paths, in any order.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn paths(&mut self, field: &'static str) -> Result<BTreeSet<StorePath>, WireError> {
        let mut paths = BTreeSet::new();
        for _ in 0..self.count(self.limits.path_items, field).await? {
            paths.insert(self.path(field).await?);
        }
        Ok(paths)
    }

    /// A set of texts, in any order.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn texts(&mut self, field: &'static str) -> Result<BTreeSet<String>, WireError> {
        let mut texts = BTreeSet::new();
        for _ in 0..self.count(self.limits.list_items, field).await? {
            texts.insert(self.text(field).await?);
        }
        Ok(texts)
    }

    /// A fixed word.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn word(&mut self, expected: &str, field: &'static str) -> Result<(), WireError> {
        let raw = self.short(field).await?;
        if raw == expected.as_bytes() {
            return Ok(());
        }
        let shown = excerpt(&raw);
        Err(WireError::invalid(
            field,
            format!("expected '{expected}', found '{shown}'"),
        ))
    }

    async fn exact(&mut self, out: &mut [u8], field: &'static str) -> Result<(), WireError> {
        let mut rest = &mut *out;
        let wanted = rest.len() as u64;
        while !rest.is_empty() {
            let chunk = self.source.fill_buf().await?;
            let n = chunk.len().min(rest.len());
            if n == 0 {
                return Err(WireError::Ended { field });
            }
            let (now, later) = rest.split_at_mut(n);
            now.copy_from_slice(chunk.get(..n).unwrap_or(&[]));
            self.source.consume(n);
            rest = later;
        }
        self.spend(wanted, field)
    }

    fn spend(&mut self, n: u64, field: &'static str) -> Result<(), WireError> {
        self.left = self.left.checked_sub(n).ok_or_else(|| {
            let most = self.limits.request_bytes;
            WireError::invalid(
                field,
                format!("the request is longer than the {most} bytes that are accepted"),
            )
        })?;
        Ok(())
    }
}

pub(crate) fn parse_path(raw: &[u8], field: &'static str) -> Result<StorePath, WireError> {
    StorePath::parse(raw).map_err(|error| match error {
        PathError::NotInStore(shown) if is_elsewhere(raw) => WireError::OtherStore(shown),
        error => WireError::invalid(field, error),
    })
}

/// Whether it is a store path of some directory.
fn is_elsewhere(raw: &[u8]) -> bool {
    let base = raw.rsplit(|byte| *byte == b'/').next();
    raw.starts_with(b"/") && base.is_some_and(|base| StorePath::from_base_name(base).is_ok())
}
