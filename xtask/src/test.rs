//! `cargo xtask test`: everything that must pass.

use std::process::Command;
use std::time::Instant;

use anyhow::bail;

use crate::{clients, setup};

/// Runs all checks, the cheap ones first; stops at the first that fails.
pub fn test() -> anyhow::Result<()> {
    let begun = Instant::now();
    if let Err(e) = setup::programs().and_then(|()| setup::for_machines()) {
        println!("note: {e:#}; tests that need it are skipped");
    }
    // Debian installs while the compiler runs.
    let preparing = std::thread::spawn(clients::prepare);
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ])?;
    if firn_testkit::find("cargo-deny").is_some() {
        cargo(&["deny", "--log-level", "error", "check", "bans", "licenses"])?;
    } else {
        println!("note: cargo-deny is not installed; the test `licences` checks the same lists of deny.toml");
    }
    for note in preparing.join().unwrap_or_default() {
        println!("note: {note}; the clients of that release are not tried");
    }
    // One call, so that its closing lines count all tests.
    cargo(&["test", "--workspace", "--no-fail-fast"])?;
    println!("all checks passed in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

pub(crate) fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    println!("── cargo {}", arguments.join(" "));
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(crate::root())
        .status()?;
    if !status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    Ok(())
}
