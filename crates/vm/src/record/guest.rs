//! The records of the guest.

use std::fmt;

use bytes::Bytes;
use firn_content::WalkError;

use super::{HEAD, MAX_BODY, MAX_TEXT, RecordError, Report, head, report, walk};

/// What the guest says.
#[derive(Clone, PartialEq, Eq)]
pub enum GuestRecord {
    /// The machine is up and waits for its job.
    Ready {
        /// The guest's [`VERSION`](super::VERSION).
        version: u32,
    },
    /// Output of the command, never empty.
    Log(Bytes),
    /// The command has ended.
    Exit(Report),
    /// The NAR of this output follows.
    Output(u32),
    /// A piece of it, never empty.
    Nar(Bytes),
    /// It is complete.
    End,
    /// This output was not made.
    Missing(u32),
    /// This output cannot be taken; the rest of it, when it has begun, does not come.
    Rejected(u32, WalkError),
    /// Nothing follows.
    Done,
    /// The guest could not do its part. For people.
    Failed(String),
}

const READY: u8 = 1;
const LOG: u8 = 2;
const EXIT: u8 = 3;
const OUTPUT: u8 = 4;
const NAR: u8 = 5;
const END: u8 = 6;
const MISSING: u8 = 7;
const REJECTED: u8 = 8;
const DONE: u8 = 9;
const FAILED: u8 = 10;

/// The length of the body, if a record of this kind may have one like it.
pub(super) fn check_length(kind: u8, length: u32) -> Result<usize, RecordError> {
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    let fits = match kind {
        READY | OUTPUT | MISSING => size == 4,
        END | DONE => size == 0,
        LOG | NAR => (1..=MAX_BODY).contains(&size),
        EXIT => (report::FIXED..=report::FIXED + MAX_TEXT).contains(&size),
        REJECTED => (4 + walk::FIXED..=4 + walk::FIXED + walk::MAX_PATH).contains(&size),
        FAILED => size <= MAX_TEXT,
        _ => return Err(RecordError::Kind(kind)),
    };
    if fits {
        Ok(size)
    } else {
        Err(RecordError::Length { kind, length })
    }
}

/// A body that has passed [`check_length`].
pub(super) fn decode(kind: u8, body: Bytes) -> Result<GuestRecord, RecordError> {
    let wrong = || RecordError::Body(kind);
    let number = |bytes: &[u8]| bytes.first_chunk::<4>().map(|b| u32::from_le_bytes(*b));
    Ok(match kind {
        READY => GuestRecord::Ready {
            version: number(&body).ok_or_else(wrong)?,
        },
        LOG => GuestRecord::Log(body),
        EXIT => GuestRecord::Exit(report::decode(&body).ok_or_else(wrong)?),
        OUTPUT => GuestRecord::Output(number(&body).ok_or_else(wrong)?),
        NAR => GuestRecord::Nar(body),
        END => GuestRecord::End,
        MISSING => GuestRecord::Missing(number(&body).ok_or_else(wrong)?),
        REJECTED => {
            let (index, rest) = body.split_at_checked(4).ok_or_else(wrong)?;
            let error = walk::decode(rest).ok_or_else(wrong)?;
            GuestRecord::Rejected(number(index).ok_or_else(wrong)?, error)
        }
        DONE => GuestRecord::Done,
        FAILED => GuestRecord::Failed(std::str::from_utf8(&body).map_err(|_| wrong())?.to_owned()),
        _ => return Err(RecordError::Kind(kind)),
    })
}

impl GuestRecord {
    /// The bytes on the wire. Texts and paths that are too long are cut. [`GuestRecord::Log`] and [`GuestRecord::Nar`] must
    /// have 1 to [`MAX_BODY`] bytes: use [`Pieces`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let number = |n: &u32| n.to_le_bytes().to_vec();
        let (kind, body) = match self {
            Self::Ready { version } => (READY, number(version)),
            Self::Log(bytes) => (LOG, bytes.to_vec()),
            Self::Exit(report) => (EXIT, report::encode(report)),
            Self::Output(index) => (OUTPUT, number(index)),
            Self::Nar(bytes) => (NAR, bytes.to_vec()),
            Self::End => (END, Vec::new()),
            Self::Missing(index) => (MISSING, number(index)),
            Self::Rejected(index, error) => (REJECTED, [number(index), walk::encode(error)].concat()),
            Self::Done => (DONE, Vec::new()),
            Self::Failed(text) => (FAILED, cut(text).as_bytes().to_vec()),
        };
        [&head(kind, body.len())[..], &body].concat()
    }
}

/// At most [`MAX_TEXT`] bytes of a text.
pub(super) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default()
}

/// Log or archive as records, without copying: heads to be written before each piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// [`GuestRecord::Log`].
    Log,
    /// [`GuestRecord::Nar`].
    Nar,
}

impl Pieces {
    /// Heads and bodies; nothing for no bytes.
    pub fn of(self, bytes: &[u8]) -> impl Iterator<Item = ([u8; HEAD], &[u8])> {
        let kind = match self {
            Self::Log => LOG,
            Self::Nar => NAR,
        };
        bytes
            .chunks(MAX_BODY)
            .map(move |piece| (head(kind, piece.len()), piece))
    }
}

impl fmt::Debug for GuestRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { version } => write!(f, "Ready({version})"),
            Self::Log(bytes) => write!(f, "Log({} bytes)", bytes.len()),
            Self::Exit(report) => write!(f, "Exit({report:?})"),
            Self::Output(index) => write!(f, "Output({index})"),
            Self::Nar(bytes) => write!(f, "Nar({} bytes)", bytes.len()),
            Self::End => write!(f, "End"),
            Self::Missing(index) => write!(f, "Missing({index})"),
            Self::Rejected(index, error) => write!(f, "Rejected({index}, {error})"),
            Self::Done => write!(f, "Done"),
            Self::Failed(text) => write!(f, "Failed({text:?})"),
        }
    }
}
