//! The helper process: single-threaded, so that it may fork; lives exactly as long as one sandbox.
//!
//! It stays in the namespaces of its caller and keeps the caller's rights, writes the id maps, carries the log, watches the clock and
//! kills. Everything else happens in its only child ([`child`]), which turns into the command.

mod child;
mod confine;
mod dev;
mod idmap;
mod inherited;
mod inputs;
mod io_ext;
mod network;
mod output;
mod proc;
mod pty;
mod root;
mod spawn;
mod store;
mod supervise;

use std::io::Write;
use std::process::ExitCode;

use crate::wire::{self, Report};
use crate::{Exit, ExitKind, SandboxSpec};

pub use inherited::leftovers;
pub(crate) use network::TUN;

/// What the helper itself does in the place of a program, in the sandbox, as the command: takes the specification and gives an exit
/// status. Standard output and error are the log.
pub type Own = fn(&SandboxSpec) -> u8;

static OWN: std::sync::OnceLock<Own> = std::sync::OnceLock::new();

/// As [`sandbox_exec_main`], for a helper that has something of its own to run ([`SandboxSpec::own`]).
#[must_use]
pub fn sandbox_exec_main_with(own: Own) -> ExitCode {
    // The first counts, and there is no second.
    let _ = OWN.set(own);
    sandbox_exec_main()
}

/// The body of the helper executable: takes a specification from standard input, runs it, reports. Must be the first
/// thing the process does: it relies on being single-threaded.
///
/// The exit status is 0 when there was a report, whatever became of the command.
#[must_use]
pub fn sandbox_exec_main() -> ExitCode {
    let spec = match wire::decode(std::io::stdin()) {
        Ok(spec) => spec,
        Err(error) => {
            eprintln!("reading the sandbox specification: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = supervise::run(&spec)
        .unwrap_or_else(|why| Report::Ended(Exit::unstarted(ExitKind::SetupFailed(why))));
    let sent = report_line(&report);
    store::clear(&spec);
    if sent {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether a terminal can be had; for the probe.
pub(crate) fn terminal() -> Result<(), String> {
    pty::open(None).map(drop)
}

fn report_line(report: &Report) -> bool {
    let Ok(mut line) = serde_json::to_vec(report) else {
        return false;
    };
    line.push(b'\n');
    std::io::stderr().write_all(&line).is_ok()
}
