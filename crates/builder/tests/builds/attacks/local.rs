//! The namespaces of this machine, or virtual machines on it, through [`LocalBuilder`](firn_builder::LocalBuilder).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use firn_attack::{Column, Need};
use firn_content::{WalkLimits, WalkPolicy};
use firn_core::{InputMapping, Isolation, Object};
use firn_nix::{Derivation, StorePath};
use firn_service::ports::{Builder as _, RunFailure};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::firn::Firn;
use super::OWN_UIDS;
use super::backend::{Attack, Backend, Tree, input};
use super::outside::Outside;

/// A builder of this machine, with the program in its content store.
pub struct Local {
    firn: Firn,
    column: Column,
    outside: Outside,
    inputs: InputMapping,
}

impl Local {
    /// With the rights of this process.
    pub async fn new(firn: Firn, column: Column) -> Self {
        let tree = Tree::new();
        let staged = firn
            .content
            .ingest_tree(tree.path(), WalkPolicy::Own, WalkLimits::default(), None)
            .unwrap();
        let object = Object {
            path: input(),
            content: staged.hash(),
            nar_size: staged.size(),
            references: BTreeSet::new(),
            ca: None,
            self_references: None,
        };
        firn.content.publish([staged]).await.unwrap();
        Self {
            outside: Outside::new(&firn.scratch()),
            inputs: InputMapping::new([object]),
            firn,
            column,
        }
    }

    /// Builds a derivation.
    pub async fn build(
        &self,
        attack: &Attack,
        path: &StorePath,
        drv: &Derivation,
        log: mpsc::Sender<Bytes>,
        cancel: CancellationToken,
    ) -> Result<BTreeMap<String, PathBuf>, RunFailure> {
        let mut job = self.firn.job(path, drv, self.inputs.clone());
        if self.column == Column::Machine {
            job.isolation = Isolation::Vm;
        }
        (attack.limits)(&mut job.limits);
        let outcome = self.firn.builder.run(job, log, cancel).await;
        let trees = |outputs: BTreeMap<String, Object>| {
            outputs
                .into_iter()
                .map(|(name, object)| (name, self.firn.tree(&object)))
                .collect()
        };
        outcome.result.map(trees)
    }

    fn is_user_of_builds(&self, uid: u32) -> bool {
        match self.column {
            _ if rustix::process::geteuid().is_root() => self.firn.uids.contains(&uid),
            // A developer has other processes, too.
            _ => uid >= OWN_UIDS && uid == rustix::process::geteuid().as_raw(),
        }
    }
}

impl Backend for Local {
    fn column(&self) -> Column {
        self.column
    }

    fn limits(&self, _what: Need) -> bool {
        self.column == Column::Machine || self.firn.builder.unlimited().is_empty()
    }

    fn outside(&self) -> &Outside {
        &self.outside
    }

    async fn run(
        &self,
        attack: &Attack,
        log: mpsc::Sender<Bytes>,
        cancel: CancellationToken,
    ) -> Result<BTreeMap<String, PathBuf>, RunFailure> {
        let (path, drv) = attack.derivation(&self.outside);
        self.build(attack, &path, &drv, log, cancel).await
    }

    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        // What is thrown away has its time.
        self.firn.is_tidy();
        let own = std::process::id().to_string();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let number = name.bytes().all(|byte| byte.is_ascii_digit());
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let dead = stat
                .rsplit(')')
                .next()
                .is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"));
            let of_builds = entry
                .metadata()
                .is_ok_and(|meta| self.is_user_of_builds(meta.uid()));
            if number && of_builds && !dead && name != own {
                left.push(format!("process {}", stat.chars().take(60).collect::<String>()));
            }
        }
        let scratch = self.firn.scratch();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = mounts
            .lines()
            .filter(|line| line.contains(scratch.to_str().unwrap()));
        left.extend(ours.map(|line| format!("mount {line}")));
        left.extend(
            fs::read_dir(scratch)
                .unwrap()
                .map(|entry| format!("file {}", entry.unwrap().path().display())),
        );
        left
    }

    fn exposed(&self) -> Vec<String> {
        let scratch = self.firn.scratch();
        let builds: Vec<PathBuf> = fs::read_dir(&scratch)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        if self.column == Column::Machine {
            // The build runs, and its files are on a disk that has no name any more.
            assert!(!builds.is_empty());
            let disks = builds.iter().map(|dir| dir.join("machine/disk"));
            let named = disks
                .filter(|disk| disk.exists())
                .map(|disk| disk.display().to_string());
            return named.chain(unlocked(&scratch)).collect();
        }
        // The build runs, and its file is where it was.
        let mut secrets = builds.iter().map(|dir| dir.join("build/secret"));
        let secret = secrets.find(|path| path.exists()).unwrap();
        if self.column != Column::Root {
            return unlocked(&scratch);
        }
        let output = Command::new("setpriv")
            .args(["--reuid=54321", "--regid=54321", "--clear-groups", "cat"])
            .arg(&secret)
            .output()
            .unwrap();
        if output.status.success() {
            vec![secret.display().to_string()]
        } else {
            Vec::new()
        }
    }
}

/// The directory, if it is open to others.
fn unlocked(dir: &Path) -> Vec<String> {
    match fs::metadata(dir).unwrap().permissions().mode() & 0o777 {
        0o700 => Vec::new(),
        mode => vec![format!("{} has mode {mode:o}", dir.display())],
    }
}
