//! Can this machine run machines? For `doctor` commands and for a clear message at the start of a service.

use std::path::{Path, PathBuf};
use std::process::Command;

use firn_sandbox::probe::Check;

use crate::machine::{Accelerator, find_qemu, kvm_group};
use crate::prepare::Manifest;

/// Tries the accelerator, QEMU and the files in `dir`, without starting a machine. `qemu` as in
/// [`MachineOptions`](crate::MachineOptions); none to look for it.
#[must_use]
pub fn probe(dir: &Path, qemu: Option<&Path>, accelerator: Accelerator) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut check = |name, outcome: Result<String, String>, hint| {
        checks.push(Check {
            name,
            ok: outcome.is_ok(),
            required: true,
            hint: outcome.is_err().then_some(hint),
            detail: outcome.unwrap_or_else(|why| why),
        });
    };
    if accelerator == Accelerator::Kvm {
        let usable = firn_sandbox::kvm::probe()
            .map_err(|e| e.to_string())
            .and_then(|time| kvm_group().map(|_| format!("works ({} µs)", time.as_micros())));
        check(
            "KVM",
            usable,
            "virtual machines need a processor with virtualisation and access to /dev/kvm; in a virtual machine, nested virtualisation",
        );
    }
    check("QEMU", version(qemu), "install qemu-system-x86_64, 7.2 or newer");
    let prepared = Manifest::open(dir);
    check(
        "prepared machine",
        prepared
            .map(|manifest| format!("{} ({})", manifest.kernel_package, manifest.class()))
            .map_err(|e| e.to_string()),
        "prepare the machine (again)",
    );
    checks
}

fn version(qemu: Option<&Path>) -> Result<String, String> {
    let qemu: PathBuf = match qemu {
        Some(path) => path.to_owned(),
        None => find_qemu().ok_or("not found")?,
    };
    let said = Command::new(&qemu)
        .arg("--version")
        .output()
        .map_err(|e| format!("{}: {e}", qemu.display()))?;
    let line = said
        .stdout
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    if said.status.success() {
        Ok(line.escape_ascii().to_string())
    } else {
        Err(format!("{}: {}", qemu.display(), said.status))
    }
}
