//! A sandbox with busybox in `/bin` and its directories in a temporary one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use firn_sandbox::{Exit, FileSpec, HelperCommand, Input, Limits, Network, SandboxError, SandboxSpec, run};
use tempfile::TempDir;

pub const BUSYBOX: &str = "/bin/busybox";
const APPLETS: &str = "sh ls cat id stat sleep echo printf ps mount mkdir touch ln rm chmod setsid seq hostname \
    tty readlink dd sed grep env uname ip nc wc cmp kill head true rmdir mv mknod sort";

pub struct Fixture {
    pub spec: SandboxSpec,
    pub helper: HelperCommand,
    pub dir: TempDir,
    /// Host uid of the command.
    pub uid: u32,
    drop_to: bool,
}

/// The helper executable, built by `cargo test` as an example of this crate.
pub fn example() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let path = me.ancestors().nth(2).unwrap().join("examples/sandbox-exec");
    assert!(
        path.exists(),
        "{} is missing: build it with cargo build -p firn-sandbox --examples",
        path.display()
    );
    path
}

impl Fixture {
    /// With the rights of this process: as root with a host uid of its own, or as the ordinary user it is.
    pub fn new() -> Option<Self> {
        Self::make(false)
    }

    /// As an ordinary user, even when this process is root.
    pub fn ordinary_user() -> Option<Self> {
        if rustix::process::geteuid().is_root() && Command::new("setpriv").arg("--version").output().is_err()
        {
            eprintln!("skipped: setpriv is needed to become an ordinary user");
            return None;
        }
        Self::make(true)
    }

    /// As [`Fixture::ordinary_user`], who may open `/dev/net/tun` whatever its mode is here.
    pub fn ordinary_user_with_tun() -> Option<Self> {
        let mut it = Self::ordinary_user()?;
        if rustix::process::geteuid().is_root() {
            let id = it.uid.to_string();
            let script = "[ -e \"$1/tun\" ] || mknod \"$1/tun\" c 10 200 || exit; chmod 666 \"$1/tun\" && mount --bind \"$1/tun\" /dev/net/tun && shift && exec \"$@\"";
            let mut helper = HelperCommand::new("/usr/bin/unshare");
            for arg in ["--mount", "/bin/sh", "-c", script, "sh"] {
                helper = helper.arg(arg);
            }
            helper = helper.arg(it.dir.path()).arg("/usr/bin/setpriv");
            for arg in ["--reuid", &id, "--regid", &id, "--clear-groups"] {
                helper = helper.arg(arg);
            }
            it.helper = helper.arg(it.at("helper"));
        }
        Some(it)
    }

    fn make(ordinary: bool) -> Option<Self> {
        if !Path::new(BUSYBOX).exists() {
            eprintln!("skipped: no {BUSYBOX} (a static busybox) here");
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = rustix::process::geteuid().is_root();
        let own = rustix::process::geteuid().as_raw();
        // Distinct between the tests of one run, and likely between runs at the same time.
        let slot = 100_000 + std::process::id() % 10_000 * 100 + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        let uid = if root { slot } else { own };
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["scratch", "outputs", "outputs/store", "build", "bin", "content"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::set_permissions(at("build"), fs::Permissions::from_mode(0o700)).unwrap();
        let mut extra = vec![Input {
            target: BUSYBOX.into(),
            source: BUSYBOX.into(),
        }];
        for name in APPLETS.split_whitespace() {
            symlink(BUSYBOX, at("bin").join(name)).unwrap();
            extra.push(Input {
                target: Path::new("/bin").join(name),
                source: at("bin").join(name),
            });
        }
        let mut helper = HelperCommand::new(example());
        if root {
            chown(at("build"), Some(uid), Some(uid)).unwrap();
        }
        if root && ordinary {
            // The whole temporary directory belongs to the ordinary user, and the helper becomes that user.
            for name in ["", "scratch", "outputs", "outputs/store"] {
                chown(at(name), Some(uid), Some(uid)).unwrap();
            }
            let copy = at("helper");
            fs::copy(example(), &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
            let id = uid.to_string();
            helper = HelperCommand::new("/usr/bin/setpriv")
                .arg("--reuid")
                .arg(&id)
                .arg("--regid")
                .arg(&id)
                .arg("--clear-groups")
                .arg(copy);
        }
        let file = |path: &str, contents: &str| FileSpec {
            path: path.into(),
            contents: contents.into(),
            mode: 0o644,
        };
        let spec = SandboxSpec {
            scratch: at("scratch"),
            store_dir: "/nix/store".into(),
            store_scratch: at("outputs/store"),
            build_dir: "/build".into(),
            build_scratch: at("build"),
            content_dir: None,
            inputs: vec![],
            extra,
            files: vec![
                file(
                    "/etc/passwd",
                    "root:x:0:0:Nix build user:/build:/noshell\nnixbld:x:1000:100:Nix build user:/build:/noshell\n",
                ),
                file("/etc/group", "root:x:0:\nnixbld:!:100:\n"),
            ],
            program: b"/bin/sh".to_vec(),
            own: false,
            argv: vec![b"sh".to_vec(), b"-c".to_vec(), b"true".to_vec()],
            env: vec![(b"PATH".to_vec(), b"/bin".to_vec())],
            cwd: "/build".into(),
            uid: 1000,
            gid: 100,
            host_ids: (root && !ordinary).then_some((uid, uid)),
            hostname: "localhost".into(),
            domainname: "(none)".into(),
            i686: false,
            network: Network::Loopback,
            devices: vec![],
            randomize: false,
            processes: None,
            terminals: SandboxSpec::TERMINALS,
            cgroups: vec![],
            limits: Limits {
                wall: Some(Duration::from_secs(120)),
                ..Limits::default()
            },
        };
        Some(Self {
            spec,
            helper,
            dir,
            uid,
            drop_to: root,
        })
    }

    pub fn sh(&mut self, script: &str) -> &mut Self {
        self.spec.argv[2] = script.into();
        self
    }

    /// A host path in the temporary directory.
    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A directory of content outside, to be mounted at a target.
    pub fn content(&mut self, name: &str, target: &str) -> PathBuf {
        let source = self.at("content").join(name);
        fs::create_dir_all(&source).unwrap();
        self.spec.inputs.push(Input {
            target: target.into(),
            source: source.clone(),
        });
        source
    }

    /// Run `sandbox-exec <what>` inside, with the shared libraries that this process itself has loaded.
    pub fn example(&mut self, what: &str) {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut libraries: Vec<&str> = maps
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5))
            .filter(|path| path.contains(".so"))
            .collect();
        libraries.sort_unstable();
        libraries.dedup();
        let mut search = String::new();
        for library in libraries {
            let path = PathBuf::from(library);
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with("ld-linux") {
                let target = if cfg!(target_arch = "x86_64") {
                    "/lib64"
                } else {
                    "/lib"
                };
                self.spec.extra.push(Input {
                    target: PathBuf::from(target).join(name),
                    source: path.clone(),
                });
            } else {
                search = path.parent().unwrap().to_str().unwrap().to_owned();
                self.spec.extra.push(Input {
                    target: path.clone(),
                    source: path,
                });
            }
        }
        self.spec.extra.push(Input {
            target: "/bin/calls".into(),
            source: example(),
        });
        self.spec.env.push((b"LD_LIBRARY_PATH".to_vec(), search.into()));
        self.spec.program = b"/bin/calls".to_vec();
        self.spec.argv = vec![b"calls".to_vec(), what.into()];
    }

    pub async fn try_run(&self) -> (Result<Exit, SandboxError>, Vec<u8>) {
        for used in ["scratch/root", "scratch/tmp", "scratch/lower", "scratch/work"] {
            let _ = fs::remove_dir_all(self.at(used));
        }
        let (log, mut chunks) = tokio::sync::mpsc::channel::<Bytes>(4);
        let read = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                all.extend(chunk);
            }
            all
        });
        let exit = run(&self.helper, &self.spec, log, std::future::pending()).await;
        (exit, read.await.unwrap())
    }

    pub async fn run(&self) -> (Exit, String) {
        let (exit, log) = self.try_run().await;
        (exit.unwrap(), String::from_utf8(log).unwrap())
    }

    /// Run a script that must succeed.
    pub async fn output(&mut self, script: &str) -> String {
        self.sh(script);
        let (exit, log) = self.run().await;
        assert!(exit.success(), "{exit:?}\n{log}");
        log
    }

    /// Live processes of the command's host uid. `None` when that is not distinct.
    pub fn processes(&self) -> Option<Vec<String>> {
        let user = format!("Uid:\t{}\t", self.uid);
        // Not by the owner of the folder, which is root where a process has changed its user.
        let mine = |entry: &fs::DirEntry| {
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            status.contains(&user) && !status.contains("State:\tZ")
        };
        let found = fs::read_dir("/proc").unwrap().flatten().filter(mine);
        self.drop_to.then(|| {
            found
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect()
        })
    }

    pub async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let since = Instant::now();
        while !holds(self) {
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "waited too long for: {what}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn until_started(&self) {
        self.until("the command to start", |it| it.at("build/started").exists())
            .await;
    }

    pub async fn until_gone(&self) {
        self.until("its processes to end", |it| {
            it.processes().is_none_or(|all| all.is_empty())
        })
        .await;
    }
}

/// Skip what needs a host uid of its own.
pub fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}
