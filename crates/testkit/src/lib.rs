//! For tests, the demo and the bench only: a real Firn, real Nix clients, a throwaway PostgreSQL.
//!
//! Everything lives in temporary folders and ends with the value that started it. What is not installed is reported by
//! [`missing`], so that a test can skip with the reason.
//!
//! ```no_run
//! use firn_testkit::{Nix, Server};
//! # fn main() -> anyhow::Result<()> {
//! let server = Server::start("target/debug/firn".as_ref())?;
//! let alice = server.client("alice")?;
//! let out = alice.build("{ }: derivation { … }", &[])?;
//! # Ok(()) }
//! ```

mod cache;
mod file_server;
mod groups;
mod layers;
mod licences;
mod nix;
pub mod postgres;
mod root;
mod server;

use std::path::{Path, PathBuf};

pub use cache::{CacheKey, WebServer};
pub use file_server::FileServer;
pub use layers::forbidden_arrows;
pub use licences::forbidden_packages;
pub use nix::{Nix, Run};
pub use root::Root;
pub use server::{Client, Server};

/// Why stories with real Nix cannot run here; `None` when they can.
#[must_use]
pub fn missing() -> Option<String> {
    let programs = ["nix-store", "nix-instantiate", "ssh", "ssh-keygen"];
    let absent: Vec<&str> = programs.into_iter().filter(|p| find(p).is_none()).collect();
    if !absent.is_empty() {
        return Some(format!("not installed: {}", absent.join(", ")));
    }
    busybox()
        .is_none()
        .then(|| "not installed: a static busybox (package busybox-static)".to_owned())
}

/// Where a program stands in PATH.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// The static busybox that small derivations use as their builder.
#[must_use]
pub fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(PathBuf::from)
        .find(|p| p.is_file())
}

/// Folder for temporary things that hold Nix stores: below the target folder, because newer Nix refuses world-writable parents.
///
/// # Errors
/// When the folder cannot be made.
pub fn scratch(target: &Path) -> std::io::Result<tempfile::TempDir> {
    std::fs::create_dir_all(target)?;
    tempfile::Builder::new().prefix("firn-").tempdir_in(target)
}
