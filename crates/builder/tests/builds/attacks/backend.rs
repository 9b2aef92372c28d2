//! Somewhere to run a hostile build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use firn_attack::{Column, Need};
use firn_nix::{Derivation, DerivationOutput, StorePath};
use firn_service::ports::{JobLimits, RunFailure};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::outside::Outside;

/// Where builds run, and can be looked at from outside.
pub trait Backend {
    /// Which answers of the table are its.
    fn column(&self) -> Column;

    /// Whether it can limit this, on this machine.
    fn limits(&self, what: Need) -> bool;

    /// What there is outside for a build to look for.
    fn outside(&self) -> &Outside;

    /// Runs `attack ARGS…` as a build: where its outputs are, by name, or why it has none.
    async fn run(
        &self,
        attack: &Attack,
        log: mpsc::Sender<Bytes>,
        cancel: CancellationToken,
    ) -> Result<BTreeMap<String, PathBuf>, RunFailure>;

    /// What is left of builds, now that none runs: processes, mounts, files.
    fn left(&self) -> Vec<String>;

    /// Looks, from another user of the host, for files of the build that runs at the moment. What was found.
    fn exposed(&self) -> Vec<String>;
}

/// One hostile build.
pub struct Attack {
    /// Arguments of the program.
    pub args: Vec<&'static str>,
    /// Names of its outputs.
    pub outputs: Vec<&'static str>,
    /// Changes to the usual limits.
    pub limits: fn(&mut JobLimits),
}

/// How it ended.
pub struct Ended {
    /// Where its outputs are, or why it has none.
    pub result: Result<BTreeMap<String, PathBuf>, RunFailure>,
    /// All of its log.
    pub log: Vec<u8>,
}

impl Attack {
    /// With the usual limits.
    pub fn new(args: &[&'static str]) -> Self {
        Self {
            args: args.to_vec(),
            outputs: vec!["out"],
            limits: |_| {},
        }
    }

    /// Runs it to its end.
    pub async fn run(&self, backend: &impl Backend) -> Ended {
        let (log, mut chunks) = mpsc::channel::<Bytes>(4);
        let read = async {
            let mut all = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                all.extend(chunk);
            }
            all
        };
        let (result, log) = tokio::join!(backend.run(self, log, CancellationToken::new()), read);
        Ended { result, log }
    }

    /// The derivation: the program, its loader and its libraries are one input.
    pub fn derivation(&self, outside: &Outside) -> (StorePath, Derivation) {
        let input = input().to_string();
        let mut drv = Derivation::default();
        let mut env = outside.variables();
        env.insert(firn_attack::host::INPUT.to_owned(), input.clone());
        for name in &self.outputs {
            let suffix = if *name == "out" {
                String::new()
            } else {
                format!("-{name}")
            };
            let path = format!("/nix/store/00000000000000000000000000000002-attacked{suffix}");
            let path = StorePath::parse(path.as_bytes()).unwrap();
            env.insert((*name).to_owned(), path.to_string());
            drv.basic
                .outputs
                .insert((*name).into(), DerivationOutput::InputAddressed(path));
        }
        drv.basic.platform = b"x86_64-linux".into();
        drv.basic.builder = format!("{input}/lib/{}", firn_attack::LOADER).into();
        let words = [
            "--library-path".to_owned(),
            format!("{input}/lib"),
            format!("{input}/bin/attack"),
        ];
        let args = self.args.iter().map(ToString::to_string);
        drv.basic.args = words.into_iter().chain(args).map(Into::into).collect();
        drv.basic
            .env
            .extend(env.into_iter().map(|(name, value)| (name.into(), value.into())));
        let path = StorePath::parse(b"/nix/store/00000000000000000000000000000003-attacked.drv").unwrap();
        (path, drv)
    }
}

/// Where the input with the program is.
pub fn input() -> StorePath {
    StorePath::parse(b"/nix/store/00000000000000000000000000000001-attack").unwrap()
}

/// The input with the program, as [`firn_attack::tree`] makes it.
pub struct Tree(TempDir);

impl Tree {
    /// The program is an example of this package.
    pub fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        let test = std::env::current_exe().unwrap();
        let program = test.ancestors().nth(2).unwrap().join("examples/builder-attack");
        firn_attack::tree(&program, tree.path(), &["data"]).unwrap();
        tree
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
