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
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

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
    /// Loopback, or the host's network.
    pub network: Network,
    /// Host user and group that run it; none when this process is an ordinary user's.
    pub host_ids: Option<(u32, u32)>,
    /// The operator's.
    pub limits: JobLimits,
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
        files: etc(around.network),
        program: environment.program.clone(),
        argv: environment.argv.clone(),
        env: environment.env.clone(),
        cwd: BUILD_DIR.into(),
        uid: UID,
        gid: GID,
        host_ids: around.host_ids,
        hostname: "localhost".to_owned(),
        domainname: "(none)".to_owned(),
        i686: around.i686,
        network: around.network,
        devices: Vec::new(),
        randomize: false,
        cgroups: Vec::new(),
        limits: Limits {
            wall: Some(around.limits.wall),
            silent: Some(around.limits.silent),
            log_bytes: Some(around.limits.log_bytes),
        },
    }
}

/// Small files, with the bytes that Nix writes. A build that can reach the network also gets what name resolution needs.
pub(crate) fn etc(network: Network) -> Vec<FileSpec> {
    let file = |path: &str, contents: &[u8]| FileSpec {
        path: path.into(),
        contents: contents.to_vec(),
        mode: 0o644,
    };
    let mut files = vec![
        file("/etc/passwd", PASSWD.as_bytes()),
        file("/etc/group", GROUP.as_bytes()),
    ];
    match network {
        Network::Loopback => files.push(file("/etc/hosts", HOSTS.as_bytes())),
        Network::Host => {
            files.push(file("/etc/nsswitch.conf", b"hosts: files dns\nservices: files\n"));
            for path in ["/etc/resolv.conf", "/etc/services", "/etc/hosts"] {
                // Absent on many machines; Nix leaves them out then, too.
                if let Ok(contents) = std::fs::read(path) {
                    files.push(file(path, &contents));
                }
            }
        }
    }
    files
}
