//! Why a machine has no result.

use std::io;
use std::path::PathBuf;

use firn_sandbox::{ExitKind, SandboxError};

use crate::conversation::Broken;
use crate::job::JobError;
use crate::prepare::PreparedError;
use crate::record::RecordError;

/// Why a machine has no result. Never the fault of the command alone, but after the start of the command possibly the work
/// of whoever wrote it.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The job cannot be done in a machine.
    #[error("this cannot run in a machine: {0}")]
    Job(#[from] JobError),
    /// The prepared directory is not complete.
    #[error(transparent)]
    Prepared(#[from] PreparedError),
    /// The accelerator that was asked for does not work here. There is no falling back to another one.
    #[error("{accelerator} cannot be used on this machine: {why}")]
    Accelerator {
        /// As asked for.
        accelerator: crate::Accelerator,
        /// The reason.
        why: String,
    },
    /// A file of the machine.
    #[error("{what} {path}: {source}", path = path.display())]
    File {
        /// What was done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The process of the machine could not be run or ended.
    #[error("the machine's process: {0}")]
    Process(#[from] SandboxError),
    /// The machine ended by itself.
    #[error("the machine ended by itself ({status:?}); its console: {console}")]
    Died {
        /// How its process ended.
        status: ExitKind,
        /// The end of what it wrote, escaped.
        console: String,
    },
    /// The machine did not come up.
    #[error("the machine was not ready after {seconds} seconds; its console: {console}")]
    Boot {
        /// How long it was waited for.
        seconds: u64,
        /// The end of what it wrote, escaped.
        console: String,
    },
    /// The guest stopped talking, or talks too slowly.
    #[error("the guest stalled: {0}")]
    Stalled(&'static str),
    /// The serial port.
    #[error("the serial port of the machine: {0}")]
    Port(io::Error),
    /// The guest said something that makes no sense.
    #[error("the guest sent {0}")]
    Record(#[from] RecordError),
    /// The guest said something at the wrong time, or gave up.
    #[error(transparent)]
    Guest(#[from] Broken),
    /// The sink did not take an output.
    #[error("output {output}: {source}")]
    Sink {
        /// Its number.
        output: usize,
        /// What the sink said.
        source: SinkError,
    },
}

/// What an [`OutputSink`](crate::OutputSink) gives up with.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;
