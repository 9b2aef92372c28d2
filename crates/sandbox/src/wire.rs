//! What the caller and the helper say to each other.
//!
//! Standard input of the helper: the length of the specification (8 bytes, little endian), the specification (JSON), then one byte when the
//! caller holds a handle on the first process, then nothing until the end of the file, which means "stop". Standard output: the log. Standard error: one JSON [`Report`] per line; other lines are
//! diagnostics of a helper that went wrong.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::validate::validate;
use crate::{Exit, SandboxError, SandboxSpec};

/// Longest encoded [`SandboxSpec`].
pub const MAX_SPEC_BYTES: usize = 64 << 20;

/// The caller's answer to [`Report::Born`].
pub(crate) const GO: u8 = b'g';

/// Longest line of the helper's standard error that is kept.
pub(crate) const MAX_REPORT_BYTES: usize = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The host process id of the first process of the sandbox, a child of the helper. The command does not run before the caller has
    /// answered.
    Born { pid: i32 },
    /// The same of the process that relays the network.
    Relayed { pid: i32 },
    /// It is over, and so is everything in the sandbox.
    Ended(Exit),
    /// It does not die.
    Unkillable { pid: i32, seconds: u64 },
}

pub(crate) fn encode(spec: &SandboxSpec) -> Result<Vec<u8>, SandboxError> {
    validate(spec)?;
    let mut frame = vec![0; 8];
    serde_json::to_writer(&mut frame, spec).map_err(|e| SandboxError::InvalidSpec(e.to_string()))?;
    let length = frame.len() - 8;
    if length > MAX_SPEC_BYTES {
        return Err(SandboxError::SpecTooLarge(length));
    }
    if let Some(head) = frame.first_chunk_mut::<8>() {
        *head = (length as u64).to_le_bytes();
    }
    Ok(frame)
}

pub(crate) fn decode(mut from: impl Read) -> io::Result<SandboxSpec> {
    let mut head = [0; 8];
    from.read_exact(&mut head)?;
    let length = u64::from_le_bytes(head);
    if length > MAX_SPEC_BYTES as u64 {
        return Err(io::Error::other(format!("a specification of {length} bytes")));
    }
    let mut json = Vec::new();
    from.take(length).read_to_end(&mut json)?;
    if json.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let spec = serde_json::from_slice(&json)?;
    validate(&spec).map_err(io::Error::other)?;
    Ok(spec)
}
