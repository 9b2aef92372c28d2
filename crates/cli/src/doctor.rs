//! `firn doctor`: what this machine offers, and what is missing.

use std::process::ExitCode;

use crate::config::Config;

/// Prints one line a check; fails when something that builds need is missing.
pub fn doctor(config: &Config) -> anyhow::Result<ExitCode> {
    let mut missing = false;
    for check in firn_sandbox::probe::probe() {
        let mark = match (check.ok, check.required) {
            (true, _) => "ok     ",
            (false, true) => "MISSING",
            (false, false) => "absent ",
        };
        missing |= !check.ok && check.required;
        println!("{mark}  {}: {}", check.name, check.detail);
        if let (false, Some(hint)) = (check.ok, check.hint) {
            println!("         {hint}");
        }
    }
    let dir = &config.data_dir;
    println!(
        "ok       data directory: {}{}",
        dir.display(),
        if dir.exists() {
            ""
        } else {
            " (made by `firn serve`)"
        }
    );
    Ok(if missing {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
