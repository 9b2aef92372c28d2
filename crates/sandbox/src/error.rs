//! Why a run has no [`Exit`](crate::Exit).

use std::io;
use std::path::PathBuf;

/// Why a run has no [`Exit`](crate::Exit).
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The specification contradicts itself or would be unsafe.
    #[error("sandbox specification: {0}")]
    InvalidSpec(String),
    /// The encoded specification is over [`MAX_SPEC_BYTES`](crate::MAX_SPEC_BYTES).
    #[error("sandbox specification of {0} bytes is over the limit of {limit}", limit = crate::MAX_SPEC_BYTES)]
    SpecTooLarge(usize),
    /// The helper executable did not start.
    #[error("starting the sandbox helper {program}: {source}", program = program.display())]
    Spawn {
        /// The executable.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The helper ended without a report. Its processes are gone.
    #[error("sandbox helper ended without a report ({status}): {diagnostics}")]
    HelperDied {
        /// Its exit status.
        status: String,
        /// What it wrote to standard error, shortened and escaped.
        diagnostics: String,
    },
    /// Talking to the helper failed.
    #[error("sandbox helper: {what}: {source}")]
    Helper {
        /// What was done.
        what: &'static str,
        /// The error.
        source: io::Error,
    },
    /// The processes of the sandbox are still there long after SIGKILL (usually stuck in the kernel on a dead disk). The host uid
    /// must not be used again until they are gone.
    #[error("process {pid} of the sandbox is still there {seconds} seconds after SIGKILL")]
    Unkillable {
        /// Host process id of the first process of the sandbox.
        pid: i32,
        /// How long it was waited for.
        seconds: u64,
    },
}
