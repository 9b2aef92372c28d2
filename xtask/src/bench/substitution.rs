//! A closure from a binary cache on loopback: `nix copy --from` into an empty store, and Firn for an account.

use std::path::Path;

use firn_testkit::{CacheKey, FileServer, Nix};

use super::remote::{Remote, Side};
use super::transfers;
use super::usage::Sample;

const PATHS: usize = 2000;
/// Of each path.
const SIZE: u64 = 16 * 1024;
/// Each path refers to so many before it.
const REFERENCES: usize = 5;

pub const NAME: &str = "substitute a closure of 2000 paths of 16 KiB";

/// A signed cache with one closure, and its web server.
pub struct Cache {
    server: FileServer,
    key: CacheKey,
    root: String,
    paths: Vec<String>,
}

impl Cache {
    /// Makes one below `dir`.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let nix = Nix::new(&dir.join("origin"))?;
        let paths = transfers::add(&nix, PATHS, SIZE)?;
        // `register` makes input-addressed paths of them: nothing but the signature speaks for their bytes.
        nix.register_all(&paths, |at| (at.saturating_sub(REFERENCES)..at).collect())?;
        let key = CacheKey::new(&nix, dir, "bench-1")?;
        let cache = dir.join("cache");
        nix.copy_to_cache(&cache, "xz", Some(&key), &paths)?;
        Ok(Self {
            server: FileServer::start(&cache)?,
            key,
            root: paths.last().cloned().unwrap_or_default(),
            paths,
        })
    }

    /// For one account, then for a second one (to plain Nix: into another empty store).
    pub fn run(&self, remote: &Remote, side: Side, dir: &Path) -> anyhow::Result<Vec<Sample>> {
        let one = |name: &str| match side {
            Side::Nix => self.copy(remote, &dir.join(name)),
            Side::Firn => self.ask(remote, name),
        };
        Ok(vec![one("first")?, one("second")?])
    }

    fn copy(&self, remote: &Remote, dir: &Path) -> anyhow::Result<Sample> {
        let nix = Nix::new(dir)?;
        let mut command = nix.command("nix", true);
        command
            .args([
                "copy",
                "--option",
                "trusted-public-keys",
                &self.key.public,
                "--from",
            ])
            .arg(self.server.url())
            .arg(&self.root);
        remote.measure(&mut command)
    }

    fn ask(&self, remote: &Remote, account: &str) -> anyhow::Result<Sample> {
        let nix = remote.account(account, &self.key.public, &self.server.url())?;
        let mut command = nix.command("nix-store", false);
        command
            .args(["--store", &Remote::uri("ssh-ng"), "--realise"])
            .arg(&self.root);
        let sample = remote.measure(&mut command)?;
        // It must have all of it.
        let mut check = nix.command("nix", false);
        check
            .args(["path-info", "--store", &Remote::uri("ssh-ng")])
            .args(&self.paths);
        remote.measure(&mut check)?;
        Ok(sample)
    }
}
