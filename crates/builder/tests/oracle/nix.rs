//! The installed Nix, with a store of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use firn_nix::{ContentAddress, Derivation, StorePath};
use tempfile::TempDir;

/// What both sides say `NIX_BUILD_CORES` is.
pub const CORES: u32 = 3;
/// The statically linked shell that is `/bin/sh` on both sides.
pub const SHELL: &str = "/bin/busybox";

/// A Nix whose store, state, configuration and home are in a temporary directory.
pub struct Nix {
    dir: TempDir,
}

/// Nix's verdict: by output name the hash of the NAR (base-16) and the references, or what it said.
pub type Verdict = Result<BTreeMap<String, (String, BTreeSet<StorePath>)>, String>;

impl Nix {
    /// None, with the reason printed, on a machine without Nix or busybox or where Nix cannot build.
    pub fn new() -> Option<Self> {
        for program in ["nix-instantiate", "nix-store"] {
            if Command::new(program).arg("--version").output().is_err() {
                println!("skipped: there is no {program} here");
                return None;
            }
        }
        if !Path::new(SHELL).exists() {
            println!("skipped: there is no {SHELL} here");
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            println!("skipped: comparing with Nix needs root");
            return None;
        }
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let bb = dir.path().join("bb");
        for sub in ["home", "conf", "bb", "root"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        std::fs::copy(SHELL, bb.join("busybox")).unwrap();
        let applets = Command::new(SHELL).arg("--list").output().unwrap().stdout;
        for applet in String::from_utf8(applets)
            .unwrap()
            .lines()
            .filter(|name| *name != "busybox")
        {
            symlink("busybox", bb.join(applet)).unwrap();
        }
        Some(Self { dir })
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        let dir = self.dir.path();
        let store = format!("local?root={}", dir.join("root").display());
        Command::new(program)
            .args(["--store", &store])
            .args(args)
            .args([
                "--option",
                "sandbox",
                "true",
                "--option",
                "sandbox-fallback",
                "false",
            ])
            .args([
                "--option",
                "substitute",
                "false",
                "--option",
                "build-users-group",
                "",
            ])
            .args(["--option", "sandbox-paths", &format!("/bin/sh={SHELL}")])
            .args(["--option", "cores", &CORES.to_string()])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", dir.join("home"))
            .env("NIX_CONF_DIR", dir.join("conf"))
            .current_dir(dir)
            .output()
            .unwrap()
    }

    fn ask(&self, args: &[&str]) -> String {
        let output = self.run("nix-store", args);
        assert!(
            output.status.success(),
            "nix-store {args:?}: {}",
            output.stderr.escape_ascii()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Evaluates `let bb = …; in <expression>`, a derivation; `bb` is a directory of busybox applets.
    pub fn instantiate(&self, expression: &str) -> (StorePath, Derivation) {
        let text = format!(
            "let bb = builtins.path {{ path = ./bb; name = \"bb\"; }};\n\
             sh = name: script: attrs: derivation ({{\n\
               inherit name; system = \"x86_64-linux\"; builder = \"${{bb}}/sh\"; args = [ \"-ec\" script ]; PATH = \"${{bb}}\";\n\
             }} // attrs);\n\
             in {expression}"
        );
        std::fs::write(self.dir.path().join("default.nix"), text).unwrap();
        let output = self.run("nix-instantiate", &["default.nix"]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8(output.stderr).unwrap()
        );
        let path = String::from_utf8(output.stdout).unwrap();
        let path = StorePath::parse(path.trim().as_bytes()).unwrap();
        let drv = Derivation::parse(&std::fs::read(self.real(&path)).unwrap()).unwrap();
        (path, drv)
    }

    /// Where a store path is on this machine.
    pub fn real(&self, path: &StorePath) -> PathBuf {
        self.dir.path().join("root/nix/store").join(path.base_name())
    }

    /// Hash of the NAR (base-16) and references of a valid path.
    pub fn info(&self, path: &StorePath) -> (String, BTreeSet<StorePath>) {
        let path = path.to_string();
        let hash = self.ask(&["--query", "--hash", &path]);
        let hash = self.hex(hash.trim());
        (hash, paths(&self.ask(&["--query", "--references", &path])))
    }

    /// What a valid path commits to.
    pub fn ca(&self, path: &StorePath) -> Option<ContentAddress> {
        let output = self.run(
            "nix",
            &[
                "path-info",
                "--json",
                &path.to_string(),
                "--extra-experimental-features",
                "nix-command",
            ],
        );
        let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        info[0]["ca"]
            .as_str()
            .map(|ca| ContentAddress::parse(ca).unwrap())
    }

    fn hex(&self, hash: &str) -> String {
        firn_nix::Hash::parse(hash, None).unwrap().hex()
    }

    /// Builds a derivation.
    pub fn build(&self, path: &StorePath, drv: &Derivation) -> Verdict {
        let output = self.run("nix-store", &["--realise", &path.to_string()]);
        let said = String::from_utf8(output.stderr).unwrap();
        if !output.status.success() {
            return Err(said);
        }
        let outputs = drv.basic.outputs.iter().map(|(name, output)| {
            let known = output
                .known_path(path.derivation_name().unwrap(), name)
                .unwrap()
                .unwrap();
            (name.clone(), self.info(&known))
        });
        Ok(outputs.collect())
    }

    /// The input closure, for which the input derivations are built.
    pub fn inputs(&self, drv: &Derivation) -> BTreeSet<StorePath> {
        let mut roots: Vec<String> = drv.basic.input_srcs.iter().map(ToString::to_string).collect();
        for (path, outputs) in &drv.input_drvs {
            self.ask(&["--realise", &path.to_string()]);
            let input = Derivation::parse(&std::fs::read(self.real(path)).unwrap()).unwrap();
            for name in outputs {
                let known = input.basic.outputs[name].known_path(path.derivation_name().unwrap(), name);
                roots.push(known.unwrap().unwrap().to_string());
            }
        }
        if roots.is_empty() {
            return BTreeSet::new();
        }
        let mut args = vec!["--query", "--requisites"];
        args.extend(roots.iter().map(String::as_str));
        paths(&self.ask(&args))
    }
}

fn paths(lines: &str) -> BTreeSet<StorePath> {
    lines
        .lines()
        .map(|line| StorePath::parse(line.as_bytes()).unwrap())
        .collect()
}
