//! Our side: a content store, a builder, and what Nix's store has, brought over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firn_builder::{Config, FixedOutputs, LocalBuilder, Machines, Marks};
use firn_content::{ContentStore, WalkLimits, WalkPolicy};
use firn_core::{BuildId, EnvironmentClass, InputMapping, Isolation, Object};
use firn_nix::rewrite::SelfReferences;
use firn_nix::{Derivation, StorePath};
use firn_sandbox::HelperCommand;
use firn_service::ports::{Builder as _, Job, JobLimits, RunFailure, RunReport};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::nix::{CORES, Info, Nix, SHELL};

/// A builder with a content store of its own.
pub struct Firn {
    pub builder: LocalBuilder,
    pub content: ContentStore,
    /// Host users of its builds, when this process is root's.
    pub uids: std::ops::Range<u32>,
    pub dir: TempDir,
}

impl Firn {
    pub fn new() -> Self {
        Self::in_dir(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    pub fn in_dir(dir: TempDir) -> Self {
        let content = ContentStore::open(&dir.path().join("content")).unwrap();
        Self::made_of(config(&dir, &content), content, dir)
    }

    fn made_of(config: Config, content: ContentStore, dir: TempDir) -> Self {
        let builder = LocalBuilder::new(config).unwrap();
        Self {
            uids: builder.uids().unwrap_or_default(),
            builder,
            content,
            dir,
        }
    }

    /// The same with these machines.
    pub fn with(self, machines: Option<Machines>) -> Self {
        self.changed(|config| config.machines = machines)
    }

    /// The same with another configuration.
    pub fn changed(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self {
            builder: old,
            content,
            dir,
            ..
        } = self;
        // Two at a time have no right to one directory.
        drop(old);
        let mut config = config(&dir, &content);
        change(&mut config);
        Self::made_of(config, content, dir)
    }

    /// Brings the input closure of a derivation over from Nix's store.
    pub async fn import(&self, nix: &Nix, drv: &Derivation) -> InputMapping {
        let mut trees = Vec::new();
        let inputs = InputMapping::new(nix.inputs(drv).into_iter().map(|info| {
            let Info {
                path,
                hash,
                references,
                ca,
            } = info;
            let tree = self
                .content
                .ingest_tree(&nix.real(&path), WalkPolicy::Own, WalkLimits::default(), None)
                .unwrap();
            let (content, nar_size) = (tree.hash(), tree.size());
            assert_eq!(content.hex(), hash);
            trees.push(tree);
            Object {
                ca,
                self_references: None,
                path,
                content,
                nar_size,
                references,
            }
        }));
        self.content.publish(trees).await.unwrap();
        inputs
    }

    /// A job with generous limits.
    pub fn job(&self, path: &StorePath, drv: &Derivation, inputs: InputMapping) -> Job {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&u64::from(next()).to_be_bytes());
        Job {
            id: BuildId(id),
            drv_path: path.clone(),
            drv: drv.basic.clone(),
            self_references: SelfReferences::Placed,
            inputs,
            isolation: Isolation::Namespaces,
            class: EnvironmentClass {
                system: "x86_64-linux".into(),
                sandbox: "test".into(),
                extra: BTreeMap::new(),
                cores: CORES,
            },
            limits: JobLimits {
                wall: Duration::from_secs(300),
                silent: Duration::from_secs(300),
                log_bytes: 1 << 20,
                output_bytes: 1 << 30,
                ..JobLimits::default()
            },
        }
    }

    /// Builds and gives the outputs.
    pub async fn build(
        &self,
        path: &StorePath,
        drv: &Derivation,
        inputs: InputMapping,
    ) -> Result<BTreeMap<String, Object>, RunFailure> {
        self.run(self.job(path, drv, inputs)).await
    }

    /// Runs a job, and prints its log in case the test fails.
    pub async fn run(&self, job: Job) -> Result<BTreeMap<String, Object>, RunFailure> {
        self.report(job).await.0
    }

    /// As [`Firn::run`], with what was used.
    pub async fn report(&self, job: Job) -> (Result<BTreeMap<String, Object>, RunFailure>, RunReport) {
        let (log, mut chunks) = mpsc::channel::<bytes::Bytes>(4);
        let print = async {
            while let Some(chunk) = chunks.recv().await {
                print!("{}", chunk.utf8_chunks().map(|c| c.valid()).collect::<String>());
            }
        };
        let (outcome, ()) = tokio::join!(self.builder.run(job, log, CancellationToken::new()), print);
        println!("{:?}", outcome.report);
        (outcome.result, outcome.report)
    }

    /// Where builds run.
    pub fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    /// Where an output's content is.
    pub fn tree(&self, object: &Object) -> PathBuf {
        self.content.tree(&object.content)
    }

    /// Whether nothing is left of any build, once what is thrown away is gone.
    pub fn is_tidy(&self) -> bool {
        for _ in 0..6000 {
            if self.is_empty() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// The same at this moment.
    pub fn is_empty(&self) -> bool {
        std::fs::read_dir(self.scratch()).unwrap().next().is_none()
    }
}

pub fn config(dir: &TempDir, content: &ContentStore) -> Config {
    Config {
        scratch_dir: dir.path().join("scratch"),
        content: content.clone(),
        helper: helper(),
        shell: Some(SHELL.into()),
        first_uid: None,
        uids: 4,
        disk_images: false,
        machines: None,
        fixed: FixedOutputs::without_network("the test has none"),
        at_once: 4,
        marks: Marks::of(dir.path()),
        patience: Duration::from_secs(60),
    }
}

/// A number that no other call of this process gets.
pub fn next() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(4, Ordering::Relaxed)
}

/// The example of this package that is only the helper; `cargo test` builds it.
pub fn helper() -> HelperCommand {
    HelperCommand::new(helper_path())
}

pub fn helper_path() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let example = test
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/builder-sandbox-exec");
    assert!(
        example.exists(),
        "{} is built by `cargo build --examples`",
        example.display()
    );
    example
}

/// Prints how two trees differ.
pub fn show_difference(name: &str, expected: &Path, got: &Path) {
    let output = std::process::Command::new("diff")
        .arg("-r")
        .args([expected, got])
        .output()
        .unwrap();
    println!(
        "output '{name}', Nix and Firn:\n{}",
        output.stdout.escape_ascii().to_string().replace("\\n", "\n")
    );
}
