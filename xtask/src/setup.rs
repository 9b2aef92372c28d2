//! What a bare Debian lacks.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

/// A program and the Debian package that has it.
type Program = (&'static str, &'static str);

/// What real Nix clients and a service need, and building one.
const PROGRAMS: [Program; 5] = [
    ("nix-store", "nix-bin"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("busybox", "busybox-static"),
    // To build the allocator.
    ("make", "make"),
];

/// What virtual machines and their tests need besides.
const FOR_MACHINES: [Program; 3] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mke2fs", "e2fsprogs"),
    ("fsck.erofs", "erofs-utils"),
];

/// Installs what real Nix clients and a service need, where it is missing.
///
/// # Errors
/// Names the packages when they cannot be installed.
pub fn programs() -> anyhow::Result<()> {
    install_missing(&PROGRAMS)
}

/// Installs what virtual machines and their tests need besides, where it is missing.
///
/// # Errors
/// Names the packages when they cannot be installed.
pub fn for_machines() -> anyhow::Result<()> {
    install_missing(&FOR_MACHINES)
}

fn install_missing(programs: &[Program]) -> anyhow::Result<()> {
    let mut packages: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| firn_testkit::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    install(&packages)
}

/// Installs Debian packages.
///
/// # Errors
/// Names the packages when they cannot be installed.
pub fn install(packages: &[&str]) -> anyhow::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if firn_testkit::find("apt-get").is_none() {
        bail!("this needs {list}; install them with this system's package manager");
    }
    println!("installing {list}");
    let apt = |arguments: &[&str]| -> anyhow::Result<bool> {
        let status = Command::new("apt-get")
            .args(["-q", "-y"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(std::process::Stdio::null())
            .status()
            .context("cannot start apt-get")?;
        Ok(status.success())
    };
    let arguments = [&["install", "--no-install-recommends"], packages].concat();
    if apt(&arguments)? || (apt(&["update"])? && apt(&arguments)?) {
        return Ok(());
    }
    bail!("cannot install {list}; as root, run: apt-get update && apt-get install {list}")
}

/// Builds the `firn` binary and returns its file.
///
/// # Errors
/// When cargo fails.
pub fn firn(release: bool) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--package", "firn"])
        .current_dir(crate::root());
    if release {
        cargo.arg("--release");
    }
    if !cargo.status()?.success() {
        bail!("cargo cannot build firn");
    }
    Ok(crate::target()
        .join(if release { "release" } else { "debug" })
        .join("firn"))
}
