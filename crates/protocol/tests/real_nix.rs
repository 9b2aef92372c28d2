//! Sessions with the Nix that is installed. It starts a program instead of `ssh` for the host `localhost`: the example `stdio-memory`.
//!
//! With `FIRN_RECORD_TRANSCRIPTS=<folder>` the sessions are recorded for `transcripts.rs`.

#![expect(clippy::unwrap_used, reason = "a test shows by panicking what is wrong")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

struct Sandbox {
    dir: TempDir,
    server: PathBuf,
    record: Option<PathBuf>,
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

impl Sandbox {
    fn new() -> Option<Self> {
        let Some(nix) = on_path("nix-store") else {
            eprintln!("skipped: no nix-store on PATH");
            return None;
        };
        // target/<profile>/deps/<this test> → target/<profile>/examples/stdio-memory
        let this = std::env::current_exe().unwrap();
        let server = this.parent()?.parent()?.join("examples/stdio-memory");
        if !server.is_file() {
            eprintln!("skipped: {} is not built", server.display());
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        for sub in ["served", "home", "bin"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        symlink(&server, dir.path().join("bin/nix-store")).unwrap();
        let sandbox = Self {
            dir,
            server,
            record: std::env::var_os("FIRN_RECORD_TRANSCRIPTS").map(PathBuf::from),
        };
        // A store elsewhere is not possible everywhere, e.g. not inside a build of Nix itself.
        std::fs::write(sandbox.path("f"), "hello\n").unwrap();
        let probe = sandbox
            .command("client", "probe", "nix-store", &["--add", "f"])
            .output()
            .unwrap();
        if !probe.status.success() {
            eprintln!(
                "skipped: {} does not work: {}",
                nix.display(),
                text(&probe.stderr)
            );
            return None;
        }
        Some(sandbox)
    }

    fn path(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    fn uri(&self, scheme: &str) -> String {
        format!("{scheme}://localhost?remote-program={}", self.server.display())
    }

    fn command(&self, store: &str, step: &str, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(on_path(program).unwrap());
        let real_path = std::env::var_os("PATH").unwrap();
        let path = std::iter::once(self.path("bin")).chain(std::env::split_paths(&real_path));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("HOME", self.path("home"))
            .env("NIX_CONF_DIR", self.path("home"))
            .env("XDG_CACHE_HOME", self.path("home/cache"))
            .env("NIX_REMOTE", format!("local?root={}", self.path(store).display()))
            .env(
                "NIX_CONFIG",
                "experimental-features = nix-command\nsubstituters =\nbuild-users-group =\n",
            )
            .env("STDIO_MEMORY_DIR", self.path("served"))
            .env_remove("STDIO_MEMORY_RECORD");
        if let Some(dir) = &self.record {
            command.env("STDIO_MEMORY_RECORD", dir.join(step));
        }
        command
    }

    /// Runs a command; its output.
    fn run(&self, step: &str, program: &str, args: &[&str]) -> String {
        text(&self.run_in("client", step, program, args).stdout)
    }

    fn run_in(&self, store: &str, step: &str, program: &str, args: &[&str]) -> Output {
        let output = self.command(store, step, program, args).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{step}: {program} {args:?}: {stderr}");
        output
    }

    fn file(&self, store: &str, path: &str) -> PathBuf {
        self.path(store).join(path.trim_start_matches('/'))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Store directories are read-only, which only root can delete as they are.
        let _ = Command::new("chmod")
            .args(["-R", "u+w"])
            .arg(self.dir.path())
            .status();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap().trim().to_owned()
}

#[test]
fn an_installed_client_is_served() {
    let Some(nix) = Sandbox::new() else { return };
    let (ng, ssh) = (&*nix.uri("ssh-ng"), &*nix.uri("ssh"));

    let info = nix.run_in("client", "00-ping", "nix", &["store", "ping", "--store", ng]);
    assert!(text(&info.stderr).contains("stdio-memory") || text(&info.stdout).contains("stdio-memory"));
    let path = &*nix.run("01-none", "nix-store", &["--add", "f"]);

    nix.run(
        "02-copy-to",
        "nix",
        &["copy", "--no-check-sigs", "--to", ng, path],
    );
    let found = nix.run(
        "03-path-info",
        "nix",
        &["path-info", "--size", "--store", ng, path],
    );
    assert!(found.contains(path) && found.contains("120"), "{found}");
    let refs = ["--query", "--references", "--store", ng, path];
    assert_eq!(nix.run("04-references", "nix-store", &refs), "");
    nix.run_in(
        "other",
        "05-copy-from",
        "nix",
        &["copy", "--no-check-sigs", "--from", ng, path],
    );
    assert_eq!(std::fs::read(nix.file("other", path)).unwrap(), b"hello\n");
    let added = nix.run("06-add", "nix-store", &["--add", "--store", ng, "f"]);
    assert_eq!(added, path);

    let build = |name: &str, step: &str, uri: &str, env: &str| {
        let expression = format!(
            "derivation {{ name = \"{name}\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; args = [ \"-c\" \"x\" ];
               src = {path}; {env} }}",
            path = format_args!("builtins.storePath \"{path}\""),
        );
        std::fs::write(nix.path("x.nix"), expression).unwrap();
        let drv = nix.run("none", "nix-instantiate", &["x.nix"]);
        let builders = format!("{uri} x86_64-linux - 8 1 - - -");
        let args = ["--realise", &drv, "--max-jobs", "0", "--builders", &builders];
        let output = nix.command("client", step, "nix-store", &args).output().unwrap();
        (drv, output)
    };
    for (name, step, uri) in [("a", "07-build", ng), ("b", "08-build-ssh", ssh)] {
        let (drv, output) = build(name, step, uri, "stubLines = 3;");
        let log = text(&output.stderr);
        assert!(output.status.success(), "{log}");
        assert!(log.contains("stub line 2"), "{log}");
        let out = nix.file("client", &text(&output.stdout));
        assert_eq!(std::fs::read(out).unwrap(), b"stub output out\n");
        let log = nix.run("none", "nix-store", &["--read-log", &drv]);
        assert!(log.contains("stub line 1"), "{log}");
    }
    let (_, output) = build("c", "09-build-fails", ng, "stubFail = \"it broke\";");
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("it broke"),
        "{}",
        text(&output.stderr)
    );

    let info = nix.run_in("client", "10-ping-ssh", "nix", &["store", "ping", "--store", ssh]);
    assert!(info.status.success());
    nix.run_in(
        "third",
        "11-copy-from-ssh",
        "nix",
        &["copy", "--no-check-sigs", "--from", ssh, path],
    );
    assert!(Path::new(&nix.file("third", path)).is_file());
    std::fs::write(nix.path("g"), "other\n").unwrap();
    let second = &*nix.run("none", "nix-store", &["--add", "g"]);
    nix.run(
        "12-copy-closure",
        "nix-copy-closure",
        &["--to", "localhost", second],
    );
    let info = nix.run(
        "13-path-info-ssh",
        "nix",
        &["path-info", "-r", "--store", ssh, second],
    );
    assert_eq!(info, second);
    let requisites = ["--query", "--requisites", "--store", ssh, second];
    assert_eq!(nix.run("14-requisites", "nix-store", &requisites), second);
    let built = nix.run("none", "nix-instantiate", &["x.nix"]);
    nix.run("15-copy-log", "nix", &["store", "copy-log", "--to", ng, &built]);
}

#[test]
fn an_installed_client_shows_a_refusal() {
    let Some(nix) = Sandbox::new() else { return };
    let uri = nix.uri("ssh-ng");
    let output = nix
        .command("client", "none", "nix", &["store", "ping", "--store", &uri])
        .env("STDIO_MEMORY_REFUSE", "your account is over its quota")
        .env_remove("STDIO_MEMORY_RECORD")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("over its quota"),
        "{}",
        text(&output.stderr)
    );
}

/// The client is told while it still sends, and has the sense to stop.
#[test]
fn an_installed_client_shows_why_an_upload_is_refused() {
    let Some(nix) = Sandbox::new() else { return };
    std::fs::write(nix.path("big"), vec![b'x'; 20 << 20]).unwrap();
    let path = nix.run("none", "nix-store", &["--add", "big"]);
    for scheme in ["ssh-ng", "ssh"] {
        let uri = nix.uri(scheme);
        let args = ["copy", "--no-check-sigs", "--to", &uri, &path];
        let output = nix
            .command("client", "none", "nix", &args)
            .env("STDIO_MEMORY_REFUSE_UPLOAD", "big")
            .env_remove("STDIO_MEMORY_RECORD")
            .output()
            .unwrap();
        assert!(!output.status.success());
        let stderr = text(&output.stderr);
        assert!(stderr.contains("-big' is refused"), "{stderr}");
    }
}
