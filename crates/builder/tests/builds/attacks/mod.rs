//! Hostile builds. The program and the table of what must come of it are `firn-attack`'s; here it is run, on each backend.
//!
//! A new backend needs a [`backend::Backend`] and one test that calls [`probes::all`], [`deeds::all`] and [`neighbours::all`] with it.

mod backend;
mod deeds;
mod fixed;
mod local;
mod machine;
mod neighbours;
mod nix;
mod outside;
mod probes;

use std::process::Command;

use firn_attack::Column;
use tempfile::TempDir;

use backend::Backend;
use local::Local;

/// Users from here on are nobody's but a test's.
const OWN_UIDS: u32 = 20_000_000;

/// Everything there is to try on a backend, one after the other.
async fn everything(backend: &impl Backend) {
    probes::all(backend).await;
    deeds::all(backend).await;
    neighbours::all(backend).await;
    neighbours::counted(backend).await;
}

#[tokio::test]
async fn as_root() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root; the test of an ordinary user is for you");
        return;
    }
    everything(&Local::new(super::Firn::new(), Column::Root).await).await;
}

/// In a process of that user.
#[tokio::test]
async fn as_an_ordinary_user() {
    const INNER: &str = "FIRN_ATTACK_TEST_DIR";
    const DONE: &str = "attacked as an ordinary user";
    if let Some(dir) = std::env::var_os(INNER) {
        let firn = super::Firn::in_dir(tempfile::tempdir_in(dir).unwrap());
        everything(&Local::new(firn, Column::User).await).await;
        println!("{DONE}");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        everything(&Local::new(super::Firn::new(), Column::User).await).await;
        return;
    }
    if Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: no setpriv to become an ordinary user");
        return;
    }
    // Nobody else's, so that what is left of it can be told.
    let uid = OWN_UIDS + std::process::id();
    let dir: TempDir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(uid), Some(uid)).unwrap();
    let output = Command::new("setpriv")
        .args([
            &format!("--reuid={uid}"),
            &format!("--regid={uid}"),
            "--clear-groups",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "attacks::as_an_ordinary_user", "--nocapture"])
        .env(INNER, dir.path())
        .env("TMPDIR", dir.path())
        .output()
        .unwrap();
    let said = output.stdout.escape_ascii().to_string().replace("\\n", "\n");
    print!("{said}");
    assert!(
        said.contains(DONE),
        "{}",
        output.stderr.escape_ascii().to_string().replace("\\n", "\n")
    );
}

/// Prints what the installed Nix answers beside what Firn must. Only that it can be asked is asserted.
#[tokio::test]
async fn beside_nix() {
    let Some(nix) = super::Nix::new() else { return };
    nix::print(&nix);
}
