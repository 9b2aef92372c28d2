//! What a build's sandbox looks like: Nix's `/build`, `/etc` and user, the inputs at their store paths, and `/bin/sh`.

use std::path::{Path, PathBuf};

use firn_core::InputMapping;
use firn_nix::{NarHash, STORE_DIR};
use firn_sandbox::{FileSpec, Input, Limits, Network, SandboxSpec};
use firn_service::ports::JobLimits;

use crate::environment::{BUILD_DIR, Environment};

/// User and group of a builder, as it sees them.
pub(crate) const UID: u32 = 1000;
pub(crate) const GID: u32 = 100;

const PASSWD: &str = "root:x:0:0:Nix build user:/build:/noshell\n\
nixbld:x:1000:100:Nix build user:/build:/noshell\n\
nobody:x:65534:65534:Nobody:/:/noshell\n";
const GROUP: &str = "root:x:0:\nnixbld:!:100:\nnogroup:x:65534:\n";
pub(crate) const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// Directories of one build on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// For the sandbox itself.
    pub scratch: PathBuf,
    /// Outputs appear here, under their base names. Alone in its directory.
    pub store: PathBuf,
    /// The builder's working directory.
    pub build: PathBuf,
}

impl Directories {
    /// The directories below the one of a build.
    #[must_use]
    pub fn below(dir: &Path) -> Self {
        let [scratch, store, build] = ["sandbox", "outputs/store", "build"].map(|name| dir.join(name));
        Self {
            scratch,
            store,
            build,
        }
    }
}

/// What else shapes a sandbox.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// Host file that is `/bin/sh`.
    pub shell: Option<&'a Path>,
    /// Directory of the content store that has the trees.
    pub contents: Option<&'a Path>,
    /// Present a 32-bit x86 machine.
    pub i686: bool,
    /// What it can reach.
    pub network: Network,
    /// Small files of what it can reach.
    pub files: Vec<FileSpec>,
    /// Host user and group that run it; none when this process is an ordinary user's.
    pub host_ids: Option<(u32, u32)>,
    /// The operator's.
    pub limits: JobLimits,
    /// Most processes, where no control group limits them.
    pub processes: Option<u64>,
    /// Most terminals.
    pub terminals: u32,
}

/// The specification of a build's sandbox. `tree` says where a content lies on this machine.
#[must_use]
pub fn sandbox_spec(
    dirs: &Directories,
    environment: &Environment,
    inputs: &InputMapping,
    tree: impl Fn(&NarHash) -> PathBuf,
    around: &Surroundings<'_>,
) -> SandboxSpec {
    let input = |object: &firn_core::Object| Input {
        target: Path::new(STORE_DIR).join(object.path.base_name()),
        source: tree(&object.content),
    };
    SandboxSpec {
        scratch: dirs.scratch.clone(),
        store_dir: STORE_DIR.into(),
        store_scratch: dirs.store.clone(),
        build_dir: BUILD_DIR.into(),
        build_scratch: dirs.build.clone(),
        content_dir: around.contents.map(Path::to_owned),
        inputs: inputs.objects().map(input).collect(),
        extra: around
            .shell
            .map(|source| Input {
                target: "/bin/sh".into(),
                source: source.into(),
            })
            .into_iter()
            .collect(),
        files: etc().into_iter().chain(around.files.iter().cloned()).collect(),
        program: environment.program.clone(),
        own: environment.own,
        argv: environment.argv.clone(),
        env: environment.env.clone(),
        cwd: BUILD_DIR.into(),
        uid: UID,
        gid: GID,
        host_ids: around.host_ids,
        hostname: "localhost".to_owned(),
        domainname: "(none)".to_owned(),
        i686: around.i686,
        network: around.network.clone(),
        devices: Vec::new(),
        randomize: false,
        processes: around.processes,
        terminals: around.terminals,
        cgroups: Vec::new(),
        limits: Limits {
            wall: Some(around.limits.wall),
            silent: Some(around.limits.silent),
            log_bytes: Some(around.limits.log_bytes),
        },
    }
}

/// Small files of every build, with the bytes that Nix writes.
pub(crate) fn etc() -> Vec<FileSpec> {
    [("/etc/passwd", PASSWD), ("/etc/group", GROUP)]
        .map(|(path, contents)| file(path, contents))
        .into()
}

/// What builds without a network have of name resolution.
pub(crate) fn loopback_files() -> Vec<FileSpec> {
    vec![file("/etc/hosts", HOSTS)]
}

fn file(path: &str, contents: &str) -> FileSpec {
    FileSpec {
        path: path.into(),
        contents: contents.into(),
        mode: 0o644,
    }
}
