//! `firn doctor`: what this machine offers, and what is missing.

use std::process::ExitCode;

use firn_core::Isolation;

use crate::config::Config;
use crate::machines;

/// Prints one line a check; fails when something that builds need is missing.
pub fn doctor(config: &Config) -> anyhow::Result<ExitCode> {
    let mut missing = false;
    let mut checks = firn_sandbox::probe::probe();
    if config.build.sandboxes.contains(&Isolation::Vm) {
        let vm = &config.vm;
        checks.extend(firn_vm::probe::probe(
            &machines::dir(config),
            vm.qemu.as_deref(),
            vm.accelerator.into(),
        ));
    }
    for check in checks {
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
