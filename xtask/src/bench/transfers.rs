//! Bytes to the server, and back into an empty store.

use std::fs::File;
use std::io::{Read as _, copy};
use std::path::{Path, PathBuf};
use std::process::Command;

use firn_testkit::Nix;

use super::remote::Remote;
use super::substitution::Cache;
use super::usage::Sample;

const LARGE: u64 = 500_000_000;
const MANY: usize = 2000;
/// Of each of many.
const SMALL: u64 = 16 * 1024;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    Large,
    Many,
}

impl Load {
    pub fn name(self) -> &'static str {
        match self {
            Self::Large => "1 path of 500 MB",
            Self::Many => "2000 paths of 16 KiB",
        }
    }
}

/// The stores that have what is sent; made when first asked for.
pub struct Sources {
    dir: PathBuf,
    large: Option<Vec<String>>,
    many: Option<Vec<String>>,
    cache: Option<Cache>,
}

impl Sources {
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            large: None,
            many: None,
            cache: None,
        }
    }

    /// A binary cache with its web server.
    pub fn cache(&mut self) -> anyhow::Result<&Cache> {
        let made = match self.cache.take() {
            Some(made) => made,
            None => Cache::new(&self.dir.join("cache"))?,
        };
        Ok(self.cache.insert(made))
    }

    fn store(&self, load: Load) -> PathBuf {
        self.dir.join(match load {
            Load::Large => "large",
            Load::Many => "many",
        })
    }

    /// The store paths of a load.
    fn paths(&mut self, load: Load) -> anyhow::Result<Vec<String>> {
        let store = self.store(load);
        let made = match load {
            Load::Large => &mut self.large,
            Load::Many => &mut self.many,
        };
        if made.is_none() {
            let (count, size) = match load {
                Load::Large => (1, LARGE),
                Load::Many => (MANY, SMALL),
            };
            *made = Some(add(&Nix::new(&store)?, count, size)?);
        }
        Ok(made.clone().unwrap_or_default())
    }
}

/// Uploads, and downloads the same.
pub fn run(
    remote: &Remote,
    scheme: &str,
    load: Load,
    sources: &mut Sources,
    dir: &Path,
) -> anyhow::Result<Vec<Sample>> {
    let paths = sources.paths(load)?;
    let source = remote.client(&sources.store(load))?;
    let up = remote.measure(&mut transfer(&source, "--to", scheme, &paths))?;
    let empty = remote.client(&dir.join("empty"))?;
    let down = remote.measure(&mut transfer(&empty, "--from", scheme, &paths))?;
    Ok(vec![up, down])
}

fn transfer(client: &Nix, direction: &str, scheme: &str, paths: &[String]) -> Command {
    let mut command = client.command("nix", true);
    command
        .args(["copy", "--no-check-sigs", direction, &Remote::uri(scheme)])
        .args(paths);
    command
}

/// Files of random bytes, each a store path.
pub fn add(nix: &Nix, count: usize, size: u64) -> anyhow::Result<Vec<String>> {
    let dir = tempfile::tempdir_in(nix.dir())?;
    let files: Vec<PathBuf> = (0..count).map(|n| dir.path().join(format!("file-{n}"))).collect();
    for file in &files {
        copy(
            &mut File::open("/dev/urandom")?.take(size),
            &mut File::create(file)?,
        )?;
    }
    let files: Vec<&str> = files.iter().filter_map(|f| f.to_str()).collect();
    let run = nix.run("nix-store", &[&["--add"], files.as_slice()].concat())?;
    Ok(run.success()?.lines())
}
