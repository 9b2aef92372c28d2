//! What goes over the serial port between a machine and its host.
//!
//! A record is a kind (1 byte), the length of its body (4 bytes, little endian) and the body. The host says one thing, a [`Job`](crate::Job); the
//! guest says [`GuestRecord`]s. After the job a tenant's program runs in the guest, so from there on everything it says
//! may be a lie: every length is limited before anything is kept, and what is not exactly as it should be is an error.
//! Which record may come when is decided in [`Conversation`](crate::Conversation).

mod guest;
mod report;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

use bytes::{Buf as _, Bytes, BytesMut};

pub use guest::{GuestRecord, Pieces};
pub use report::Report;

/// Changes whenever the two sides would misunderstand each other.
pub const VERSION: u32 = 2;

/// Kind and length.
pub const HEAD: usize = 5;

/// Longest body of a record of the guest.
pub const MAX_BODY: usize = 256 << 10;

/// Longest text in one.
pub const MAX_TEXT: usize = 16 << 10;

/// The kind of the only record of the host.
pub(crate) const JOB: u8 = 0x4a;

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// No such kind.
    #[error("a record of the unknown kind {0}")]
    Kind(u8),
    /// The length does not fit the kind.
    #[error("a record of kind {kind} with {length} bytes")]
    Length {
        /// Kind.
        kind: u8,
        /// Announced length of the body.
        length: u32,
    },
    /// The body makes no sense.
    #[error("a record of kind {0} that makes no sense")]
    Body(u8),
}

/// Takes records out of a stream of bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    held: BytesMut,
}

impl Decoder {
    /// Where the next bytes of the stream are to be appended. Holds little more than one record when [`Decoder::next`] is asked until it
    /// gives none.
    pub fn room(&mut self) -> &mut BytesMut {
        &mut self.held
    }

    /// The next complete record.
    ///
    /// # Errors
    /// [`RecordError`], as soon as the head of a bad one is there. The stream cannot be read any further then.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is not the end when there is none"
    )]
    pub fn next(&mut self) -> Result<Option<GuestRecord>, RecordError> {
        let Some(&[kind, a, b, c, d]) = self.held.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([a, b, c, d]);
        let size = guest::check_length(kind, length)?;
        if self.held.len() < HEAD + size {
            self.held.reserve(HEAD + size - self.held.len());
            return Ok(None);
        }
        self.held.advance(HEAD);
        let body: Bytes = self.held.split_to(size).freeze();
        guest::decode(kind, body).map(Some)
    }

    /// Whether the stream may end here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// The head of a record.
pub(crate) fn head(kind: u8, length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    [kind, a, b, c, d]
}
