//! What plain Nix gets: the bytes that Firn must get.

use std::path::{Path, PathBuf};

use firn_testkit::Nix;

use super::distribution::Distribution;
use super::graph::Package;
use super::store::{self, Repeated};

/// A store in which Nix builds locally, in its own sandbox.
pub struct Reference {
    pub nix: Nix,
    /// `NIX_BUILD_CORES`, here and on Firn.
    pub cores: usize,
    shell: PathBuf,
}

impl Reference {
    /// On an existing store, or one below `dir` that stays from run to run.
    pub fn new(dir: &Path, existing: Option<&Path>, corpus: &Distribution) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let root = existing.map_or_else(|| dir.join("store"), Path::to_owned);
        let nix = Nix::with_store(dir, &root)?;
        corpus.fetch(&nix)?;
        Ok(Self {
            nix,
            cores: std::thread::available_parallelism()?.get(),
            shell: corpus.shell(),
        })
    }

    /// Builds what is not valid yet.
    pub fn build(&self, drvs: &[String]) -> anyhow::Result<()> {
        store::build_locally(&self.nix, &self.shell, self.cores, drvs, &[])?
            .success()
            .map(drop)
    }

    /// Builds something valid again.
    pub fn repeat(&self, package: &Package) -> anyhow::Result<Repeated> {
        store::repeat(&self.nix, &self.shell, self.cores, package)
    }
}
