//! A prepared machine, made once, and jobs for it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use firn_sandbox::{Exit, FileSpec, HelperCommand, Input, Limits, Network, SandboxSpec};
use firn_vm::{
    Accelerator, Job, Machine, MachineOptions, Order, OutputSink, PrepareOptions, Resources, SinkError,
    VmError, VmExit, find_qemu, place, prepare,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub const BUSYBOX: &str = "/bin/busybox";

/// What the programs are called inside. Every store path of the tests is one of these.
pub const TOOLS: &str = "/nix/store/00000000000000000000000000000001-tools";
pub const LINK: &str = "/nix/store/00000000000000000000000000000002-link";
pub const OUT: &str = "00000000000000000000000000000003-out";
pub const DEV: &str = "00000000000000000000000000000004-dev";

/// The name of a process in the place of QEMU that is not from the system's directories.
pub const IDLE: &str = "qemu";

const APPLETS: &str = "sh ls cat id stat sleep echo printf mkdir ln rm chmod readlink dd grep env uname ip hostname sort \
    true false mkfifo date nproc sed tr touch od wc";

/// The executable of guests, built by `cargo test` as an example of this crate.
pub fn example() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let path = me.ancestors().nth(2).unwrap().join("examples/firn-vm-guest");
    assert!(
        path.exists(),
        "{} is missing: build it with cargo build -p firn-vm --examples",
        path.display()
    );
    path
}

pub struct Prepared {
    pub dir: TempDir,
    pub machine: Machine,
}

fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Installs what is missing where that is possible.
fn tools() -> Result<(), String> {
    if find_qemu().is_none() || !installed("mkfs.erofs") {
        let installed = Command::new("apt-get")
            .args([
                "install",
                "-y",
                "-q",
                "--no-install-recommends",
                "qemu-system-x86",
                "erofs-utils",
            ])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output();
        if !installed.is_ok_and(|output| output.status.success()) {
            return Err("QEMU or erofs-utils are not here and cannot be installed".to_owned());
        }
    }
    for path in [BUSYBOX, "/sbin/mke2fs"] {
        if !Path::new(path).exists() {
            return Err(format!("no {path}"));
        }
    }
    Ok(())
}

pub fn options() -> MachineOptions {
    MachineOptions {
        helper: HelperCommand::new(example()),
        qemu: find_qemu().unwrap(),
        accelerator: Accelerator::Tcg,
        boot: Duration::from_secs(180),
    }
}

fn machine() -> Result<Prepared, String> {
    tools()?;
    let dir = tempfile::tempdir().unwrap();
    let options = PrepareOptions::new(example());
    match prepare(dir.path(), &options) {
        Ok(manifest) => println!("{manifest:#?}"),
        Err(e) if e.to_string().contains("apt") => return Err(format!("no kernel package: {e}")),
        Err(e) => panic!("{e}"),
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let machine = Machine::open(dir.path(), self::options()).unwrap();
    Ok(Prepared { dir, machine })
}

/// The machine of all tests that run at a time: made by the first, removed by the last. `None`, and why is printed, when there can be none.
pub fn shared() -> Option<Arc<Prepared>> {
    static SHARED: Mutex<Weak<Prepared>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(prepared) = shared.upgrade() {
        return Some(prepared);
    }
    match machine() {
        Ok(prepared) => {
            let prepared = Arc::new(prepared);
            *shared = Arc::downgrade(&prepared);
            Some(prepared)
        }
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

/// The inputs, as directories and as an image, and scratch for one run.
pub struct Fixture {
    pub dir: TempDir,
    pub uid: u32,
    pub root: bool,
}

#[derive(Default)]
pub struct Archives(pub Vec<Vec<u8>>, pub usize);

impl OutputSink for Archives {
    async fn begin(&mut self, output: usize) -> Result<(), SinkError> {
        assert_eq!(output, self.0.len());
        self.0.push(Vec::new());
        Ok(())
    }

    async fn data(&mut self, bytes: Bytes) -> Result<(), SinkError> {
        self.0.last_mut().unwrap().extend(bytes);
        Ok(())
    }

    async fn end(&mut self) -> Result<(), SinkError> {
        self.1 += 1;
        Ok(())
    }
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

impl Fixture {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        let root = rustix::process::geteuid().is_root();
        let slot = 200_000 + std::process::id() % 10_000 * 100 + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        let it = Self {
            uid: if root {
                slot
            } else {
                rustix::process::geteuid().as_raw()
            },
            dir,
            root,
        };
        let bin = it.at("content").join(name(TOOLS)).join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        symlink(TOOLS, it.at("content").join(name(LINK))).unwrap();
        // As the content store has them.
        fs::set_permissions(bin.join("busybox"), fs::Permissions::from_mode(0o555)).unwrap();
        it.content_modes(0o555);
        let made = Command::new("mkfs.erofs")
            .args(["-T1", "--all-root", "-U", "00000000-0000-4000-8000-000000000001"])
            .arg(it.at("inputs"))
            .arg(it.at("content"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        fs::set_permissions(it.at("inputs"), fs::Permissions::from_mode(0o444)).unwrap();
        it
    }

    fn content_modes(&self, mode: u32) {
        let top = self.at("content").join(name(TOOLS));
        for dir in [top.join("bin"), top] {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The specification of a script's sandbox; directories and inputs are where `place` says.
    fn spec(
        &self,
        script: &str,
        place: impl Fn(&str) -> PathBuf,
        host_ids: Option<(u32, u32)>,
    ) -> SandboxSpec {
        let input = |target: &str| Input {
            target: target.into(),
            source: place(name(target)),
        };
        let file = |path: &str, contents: &str| FileSpec {
            path: path.into(),
            contents: contents.into(),
            mode: 0o644,
        };
        SandboxSpec {
            scratch: place("scratch"),
            store_dir: "/nix/store".into(),
            store_scratch: place("store"),
            build_dir: "/build".into(),
            content_dir: None,
            build_scratch: place("build"),
            inputs: vec![input(TOOLS), input(LINK)],
            extra: vec![Input {
                target: "/bin/sh".into(),
                source: place("sh"),
            }],
            files: vec![
                file(
                    "/etc/passwd",
                    "root:x:0:0:Nix build user:/build:/noshell\nnixbld:x:1000:100:Nix build user:/build:/noshell\n",
                ),
                file("/etc/group", "root:x:0:\nnixbld:!:100:\n"),
            ],
            program: b"/bin/sh".to_vec(),
            own: false,
            argv: vec![b"sh".to_vec(), b"-c".to_vec(), script.into()],
            env: vec![
                (b"PATH".to_vec(), format!("{TOOLS}/bin").into_bytes()),
                (b"out".to_vec(), format!("/nix/store/{OUT}").into_bytes()),
                (b"dev".to_vec(), format!("/nix/store/{DEV}").into_bytes()),
            ],
            cwd: "/build".into(),
            uid: 1000,
            gid: 100,
            host_ids,
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
                wall: Some(Duration::from_secs(180)),
                silent: None,
                log_bytes: Some(1 << 20),
            },
        }
    }

    pub fn job(&self, script: &str, outputs: &[&str]) -> Job {
        let guest = |name: &str| match name {
            "scratch" => place::SCRATCH.into(),
            "store" => place::STORE.into(),
            "build" => place::BUILD.into(),
            "sh" => place::SHELL.into(),
            input => Path::new(place::INPUTS).join(input),
        };
        Job {
            sandbox: self.spec(script, guest, Some(place::IDS)),
            build_files: vec![FileSpec {
                path: "/build/.attrs.json".into(),
                contents: b"{\"a\":1}".to_vec(),
                mode: 0o644,
            }],
            outputs: outputs.iter().map(|&name| name.to_owned()).collect(),
            nar_bytes: 10 << 20,
            processes: None,
            now: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap(),
        }
    }

    /// A script in the sandbox of this machine, with a job's files.
    pub async fn outside(&self, script: &str, job: &Job) -> (Exit, String) {
        for name in ["scratch", "store", "build"] {
            let _ = fs::remove_dir_all(self.at(name));
            fs::create_dir(self.at(name)).unwrap();
        }
        for file in &job.build_files {
            let path = self.at("build").join(file.path.file_name().unwrap());
            fs::write(&path, &file.contents).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).unwrap();
            if self.root {
                chown(&path, Some(self.uid), Some(self.uid)).unwrap();
            }
        }
        fs::set_permissions(self.at("build"), fs::Permissions::from_mode(0o700)).unwrap();
        if self.root {
            chown(self.at("build"), Some(self.uid), Some(self.uid)).unwrap();
        }
        let here = |name: &str| match name {
            "scratch" | "store" | "build" => self.at(name),
            "sh" => BUSYBOX.into(),
            input => self.at("content").join(input),
        };
        let spec = self.spec(script, here, self.root.then_some((self.uid, self.uid)));
        let (log, chunks) = mpsc::channel(4);
        let helper = HelperCommand::new(example());
        let (exit, text) = tokio::join!(
            firn_sandbox::run(&helper, &spec, log, std::future::pending()),
            gather(chunks)
        );
        (exit.unwrap(), text)
    }

    /// An empty directory for one run.
    pub fn work(&self) -> PathBuf {
        let work = self.at("work");
        let _ = fs::remove_dir_all(&work);
        fs::create_dir(&work).unwrap();
        work
    }

    /// A host in a process of its own: root's when there is a user for QEMU, else an ordinary user's.
    pub fn host(&self, prepared: &Prepared, job: &Job, user: Option<u32>, qemu: &Path) -> Command {
        let file = self.at("job.json");
        fs::write(&file, serde_json::to_vec(job).unwrap()).unwrap();
        let work = self.work();
        let program = self.at("host");
        fs::copy(example(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(&program);
        if user.is_none() && self.root {
            for path in [self.dir.path(), &work] {
                chown(path, Some(self.uid), Some(self.uid)).unwrap();
            }
            let id = self.uid.to_string();
            command = Command::new("setpriv");
            command
                .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
                .arg(&program);
        }
        command
            .arg("run")
            .args([prepared.dir.path(), &file, &self.at("inputs"), &work])
            .arg(user.map_or("none".to_owned(), |user| user.to_string()))
            .arg(qemu);
        command
    }

    /// Takes the place of QEMU and does nothing: for what must happen to a machine that need not boot. Its process is called [`IDLE`].
    pub fn idle(&self) -> PathBuf {
        let program = self.at("idle");
        fs::copy(example(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    /// Live processes of QEMU's user; none are found when that is not distinct.
    pub fn processes(&self) -> Vec<String> {
        let mine = |entry: &fs::DirEntry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let zombie = stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"));
            entry.metadata().is_ok_and(|meta| meta.uid() == self.uid) && !zombie
        };
        let found = fs::read_dir("/proc").unwrap().flatten();
        found
            .filter(|entry| self.root && mine(entry))
            .map(|entry| fs::read_to_string(entry.path().join("comm")).unwrap_or_default())
            .collect()
    }

    /// A job in a machine.
    pub async fn try_run(&self, machine: &Machine, job: &Job) -> (Result<VmExit, VmError>, String, Archives) {
        let work = self.work();
        let order = Order {
            job,
            image: &self.at("inputs"),
            work: &work,
            disk: None,
            host_ids: self.root.then_some((self.uid, self.uid)),
            cgroups: &[],
            resources: Resources {
                memory_bytes: 512 << 20,
                cpus: 1,
                disk_bytes: 64 << 20,
            },
        };
        let (log, chunks) = mpsc::channel(4);
        let mut sink = Archives::default();
        let (exit, text) = tokio::join!(
            machine.run(order, log, &mut sink, std::future::pending()),
            gather(chunks)
        );
        println!("{exit:#?}\n{text}");
        assert_eq!(self.processes(), Vec::<String>::new());
        if exit.is_ok() {
            assert!(!work.join("machine/disk").exists() && !work.join("machine/port").exists());
        }
        (exit, text, sink)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Only root can remove what is in a directory that is read-only.
        self.content_modes(0o755);
    }
}

/// The whole log.
async fn gather(mut chunks: mpsc::Receiver<Bytes>) -> String {
    let mut all = String::new();
    while let Some(chunk) = chunks.recv().await {
        all.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    all
}
