//! Messages between a request and its reply (Nix's `STDERR_*`).

use tokio::io::AsyncBufRead;

use super::Version;
use crate::wire::{Decoder, Encoder, WireError};

pub(crate) const LAST: u64 = 0x616c_7473;
const ERROR: u64 = 0x6378_7470;
const NEXT: u64 = 0x6f6c_6d67;
const READ: u64 = 0x6461_7461;
const START_ACTIVITY: u64 = 0x5354_5254;
const STOP_ACTIVITY: u64 = 0x5354_4f50;
const RESULT: u64 = 0x5253_4c54;

/// A value attached to an activity or its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A number.
    Int(u64),
    /// Text.
    Text(Vec<u8>),
}

/// What a server says while a request runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StderrMessage {
    /// No more messages: the reply follows.
    Last,
    /// The request failed; no reply follows.
    Error(Vec<u8>),
    /// A line for the terminal, with its newline.
    Next(Vec<u8>),
    /// The client shall send a string of at most that many bytes.
    Read(u64),
    /// Something begins.
    StartActivity {
        /// Number, unique for the client.
        id: u64,
        /// Verbosity, 0 error to 7 vomit.
        level: u64,
        /// Activity type; 105 is a build.
        kind: u64,
        /// What to show.
        text: Vec<u8>,
        /// Depend on the type.
        fields: Vec<Field>,
        /// Enclosing activity or 0.
        parent: u64,
    },
    /// It ended.
    StopActivity(u64),
    /// It reports something.
    Result {
        /// Activity.
        id: u64,
        /// Result type; 101 a log line, 104 a phase.
        kind: u64,
        /// Depend on the type.
        fields: Vec<Field>,
    },
}

impl StderrMessage {
    /// Writes the message in the form of `version`.
    pub fn encode(&self, version: Version, out: &mut Encoder) {
        match self {
            Self::Last => out.u64(LAST),
            Self::Error(message) if version.has_structured_errors() => out
                .u64(ERROR)
                .text("Error")
                .u64(0)
                .text("Error")
                .bytes(message)
                .u64(0)
                .u64(0),
            Self::Error(message) => out.u64(ERROR).bytes(message).u64(1),
            Self::Next(line) => out.u64(NEXT).bytes(line),
            Self::Read(most) => out.u64(READ).u64(*most),
            Self::StartActivity {
                id,
                level,
                kind,
                text,
                fields,
                parent,
            } => {
                out.u64(START_ACTIVITY)
                    .u64(*id)
                    .u64(*level)
                    .u64(*kind)
                    .bytes(text);
                encode_fields(fields, out).u64(*parent)
            }
            Self::StopActivity(id) => out.u64(STOP_ACTIVITY).u64(*id),
            Self::Result { id, kind, fields } => {
                out.u64(RESULT).u64(*id).u64(*kind);
                encode_fields(fields, out)
            }
        };
    }

    /// Reads a message as a client of that version does.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn decode<B: AsyncBufRead + Unpin + Send>(
        d: &mut Decoder<'_, B>,
        version: Version,
    ) -> Result<Self, WireError> {
        Ok(match d.u64("message").await? {
            LAST => Self::Last,
            ERROR if version.has_structured_errors() => {
                d.word("Error", "error type").await?;
                d.u64("error level").await?;
                d.bytes("error name").await?;
                let message = d.bytes("error message").await?;
                d.u64("error position").await?;
                for _ in 0..d.count(d.limits().list_items, "error traces").await? {
                    d.u64("error position").await?;
                    d.bytes("error trace").await?;
                }
                Self::Error(message)
            }
            ERROR => {
                let message = d.bytes("error message").await?;
                d.u64("exit status").await?;
                Self::Error(message)
            }
            NEXT => Self::Next(d.bytes("log line").await?),
            READ => Self::Read(d.u64("length").await?),
            START_ACTIVITY => Self::StartActivity {
                id: d.u64("activity").await?,
                level: d.u64("level").await?,
                kind: d.u64("activity type").await?,
                text: d.bytes("text").await?,
                fields: decode_fields(d).await?,
                parent: d.u64("parent").await?,
            },
            STOP_ACTIVITY => Self::StopActivity(d.u64("activity").await?),
            RESULT => Self::Result {
                id: d.u64("activity").await?,
                kind: d.u64("result type").await?,
                fields: decode_fields(d).await?,
            },
            n => return Err(WireError::invalid("message", format!("unknown message {n:#x}"))),
        })
    }
}

fn encode_fields<'e>(fields: &[Field], out: &'e mut Encoder) -> &'e mut Encoder {
    out.list(fields, |e, field| {
        match field {
            Field::Int(n) => e.u64(0).u64(*n),
            Field::Text(text) => e.u64(1).bytes(text),
        };
    })
}

async fn decode_fields<B: AsyncBufRead + Unpin + Send>(
    d: &mut Decoder<'_, B>,
) -> Result<Vec<Field>, WireError> {
    let mut fields = Vec::new();
    for _ in 0..d.count(d.limits().list_items, "fields").await? {
        fields.push(match d.u64("field type").await? {
            0 => Field::Int(d.u64("field").await?),
            1 => Field::Text(d.bytes("field").await?),
            n => return Err(WireError::invalid("field type", n)),
        });
    }
    Ok(fields)
}
