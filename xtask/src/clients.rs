//! Other versions of Nix, as Debian's other releases have them, each in a root of its own below `target/clients`.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use firn_testkit::Root;

use crate::setup;

/// The releases, by the name that the tests know them by.
const RELEASES: [&str; 2] = ["trixie", "sid"];

/// What a client needs there.
const PACKAGES: [&str; 3] = ["nix-bin", "openssh-client", "busybox-static"];

/// Seconds for each step: mirrors may hang.
const DEADLINE: &str = "900";

/// Makes the roots that are not there, all at once. A line for each that cannot be made.
pub fn prepare() -> Vec<String> {
    let dir = crate::target().join("clients");
    let missing: Vec<&str> = RELEASES
        .into_iter()
        .filter(|release| !dir.join(release).exists())
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let mirror = match ready().and_then(|()| mirror()) {
        Ok(mirror) => mirror,
        Err(why) => {
            return missing
                .iter()
                .map(|release| format!("Debian {release}: {why:#}"))
                .collect();
        }
    };
    println!(
        "installing Debian {} below {}",
        missing.join(" and "),
        dir.display()
    );
    std::thread::scope(|scope| {
        let making: Vec<_> = missing
            .into_iter()
            .map(|release| (release, scope.spawn(|| make(&dir, release, &mirror))))
            .collect();
        let made = making.into_iter().map(|(release, made)| match made.join() {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(format!("Debian {release}: {why:#}")),
            Err(_) => Some(format!("Debian {release}: it panicked")),
        });
        made.flatten().collect()
    })
}

/// Tries all commands with all versions, and writes down how it went.
pub fn renew() -> anyhow::Result<()> {
    setup::programs()?;
    for note in prepare() {
        println!("note: {note}");
    }
    let arguments = [
        "test",
        "--package",
        "firn",
        "--test",
        "clients",
        "--",
        "--nocapture",
    ];
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .env("FIRN_RENEW", "1")
        .current_dir(crate::root())
        .status()?;
    match status.success() {
        true => Ok(()),
        false => bail!("cargo {} failed", arguments.join(" ")),
    }
}

fn ready() -> anyhow::Result<()> {
    let user = Command::new("id").arg("-u").output()?.stdout;
    if user != b"0\n" {
        bail!("only root can install it");
    }
    match firn_testkit::find("debootstrap") {
        Some(_) => Ok(()),
        None => setup::install(&["debootstrap"]),
    }
}

/// Where this system's own packages come from: what holds for them holds for other releases.
fn mirror() -> anyhow::Result<String> {
    let mut apt = Command::new("apt-get");
    apt.args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Origin: Debian",
    ]);
    let listed = apt.output().context("cannot start apt-get")?.stdout;
    let listed = String::from_utf8(listed)?;
    let main = listed
        .lines()
        .find(|uri| uri.trim_end_matches('/').ends_with("/debian"));
    main.map(str::to_owned)
        .context("this is not Debian, or it has no mirror")
}

fn make(dir: &Path, release: &str, mirror: &str) -> anyhow::Result<()> {
    let (root, partial) = (dir.join(release), dir.join(format!("{release}.partial")));
    let log = dir.join(format!("{release}.log"));
    std::fs::create_dir_all(dir)?;
    if partial.exists() {
        std::fs::remove_dir_all(&partial)?;
    }
    let said = File::create(&log)?;
    let run = |command: &mut Command| -> anyhow::Result<()> {
        let command = command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said.try_clone()?);
        match command.status()?.success() {
            true => Ok(()),
            false => bail!("it cannot be installed: {} says why", log.display()),
        }
    };
    let mut debootstrap = Command::new("timeout");
    debootstrap
        .args([DEADLINE, "debootstrap", "--variant=minbase", release])
        .arg(&partial)
        .arg(mirror);
    run(&mut debootstrap)?;
    // Nothing is to start there; and a release in the making may be older than its date of expiry.
    std::fs::write(partial.join("usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n")?;
    run(Command::new("chmod")
        .arg("0755")
        .arg(partial.join("usr/sbin/policy-rc.d")))?;
    std::fs::write(
        partial.join("etc/apt/apt.conf.d/99clients"),
        "Acquire::Check-Valid-Until \"false\";\n",
    )?;
    let within = Root::open(&partial).map_err(anyhow::Error::msg)?;
    run(within
        .command("timeout", None)
        .args([DEADLINE, "apt-get", "-q", "update"]))?;
    let install = [
        DEADLINE,
        "apt-get",
        "-q",
        "-y",
        "install",
        "--no-install-recommends",
    ];
    run(within.command("timeout", None).args(install).args(PACKAGES))?;
    run(within.command("apt-get", None).arg("clean"))?;
    run(within.command("nix", None).arg("--version"))?;
    // Whole only under its final name.
    std::fs::rename(&partial, &root)?;
    Ok(())
}
