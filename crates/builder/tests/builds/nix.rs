//! The installed Nix, with a store of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use firn_nix::rewrite::SelfReferences;
use firn_nix::{ContentAddress, Derivation, DerivationOutput, Hash, StorePath};
use tempfile::TempDir;

/// What both sides say `NIX_BUILD_CORES` is.
pub const CORES: u32 = 3;
/// The statically linked shell that is `/bin/sh` on both sides.
pub const SHELL: &str = "/bin/busybox";

/// What scripts of tests can call.
const APPLETS: &str = "awk cat chmod chown cmp cut echo env grep head hostname id install ip kill ln ls mkdir mkfifo mount nc od printf \
    readlink rm sed sh sleep sort stat stty su tail test touch tr true umount uname unshare wc";

/// A Nix whose store, state, configuration and home are in a temporary directory.
pub struct Nix {
    /// Expressions are evaluated here.
    pub dir: TempDir,
}

/// Nix's verdict: by output name the hash of the NAR (base-16) and the references, or what it said.
pub type Verdict = Result<BTreeMap<String, (String, BTreeSet<StorePath>)>, String>;

/// What Nix knows of a valid path.
pub struct Info {
    pub path: StorePath,
    /// Of the NAR, base-16.
    pub hash: String,
    pub references: BTreeSet<StorePath>,
    pub ca: Option<ContentAddress>,
}

impl Nix {
    /// None, with the reason printed, on a machine without Nix or busybox or where Nix cannot build.
    pub fn new() -> Option<Self> {
        for program in ["nix", "nix-instantiate", "nix-store"] {
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
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", bb.join(applet)).unwrap();
        }
        Some(Self { dir })
    }

    /// Runs one of Nix's programs.
    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        let dir = self.dir.path();
        let store = format!("local?root={}", dir.join("root").display());
        // Nix passes on which signals it was started to ignore.
        Command::new("env")
            .args(["--default-signal", program])
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
            .args([
                "--option",
                "fsync-metadata",
                "false",
                "--option",
                "cores",
                &CORES.to_string(),
            ])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", dir.join("home"))
            .env("NIX_CONF_DIR", dir.join("conf"))
            .env(
                "NIX_CONFIG",
                "extra-experimental-features = nix-command ca-derivations",
            )
            .current_dir(dir)
            .output()
            .unwrap()
    }

    /// The form of this version's content addresses.
    pub fn self_references(&self) -> SelfReferences {
        let said = self.run("nix", &["--version"]).stdout;
        let version = String::from_utf8(said).unwrap();
        let mut parts = version.rsplit(' ').next().unwrap().trim().split('.');
        let mut part = || parts.next().and_then(|part| part.parse().ok());
        match (part(), part()) {
            (Some(2), Some(17..=34)) => SelfReferences::Unplaced,
            _ => SelfReferences::Placed,
        }
    }

    /// Evaluates `let bb = …; in <expression>`, a derivation; `bb` is a directory of busybox applets.
    pub fn instantiate(&self, expression: &str) -> (StorePath, Derivation) {
        self.instantiate_all(expression).swap_remove(0)
    }

    /// As [`Nix::instantiate`], for a list of derivations.
    pub fn instantiate_all(&self, expression: &str) -> Vec<(StorePath, Derivation)> {
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
        let paths = String::from_utf8(output.stdout).unwrap();
        let read = |line: &str| {
            let path = StorePath::parse(line.split('!').next().unwrap().as_bytes()).unwrap();
            let drv = Derivation::parse(&std::fs::read(self.real(&path)).unwrap()).unwrap();
            (path, drv)
        };
        paths.lines().map(read).collect()
    }

    /// Where a store path is on this machine.
    pub fn real(&self, path: &StorePath) -> PathBuf {
        self.dir.path().join("root/nix/store").join(path.base_name())
    }

    /// What Nix knows of the closure of some valid paths.
    pub fn closure(&self, roots: &[StorePath]) -> Vec<Info> {
        // Of a derivation, Nix would show the outputs instead.
        let (drvs, others): (Vec<StorePath>, Vec<StorePath>) =
            roots.iter().cloned().partition(StorePath::is_derivation);
        let (drvs, others) = (
            self.closure_of(&drvs, &["--derivation"]),
            self.closure_of(&others, &[]),
        );
        let by_path: BTreeMap<_, _> = drvs
            .into_iter()
            .chain(others)
            .map(|info| (info.path.clone(), info))
            .collect();
        by_path.into_values().collect()
    }

    fn closure_of(&self, roots: &[StorePath], flags: &[&str]) -> Vec<Info> {
        if roots.is_empty() {
            return Vec::new();
        }
        let roots: Vec<String> = roots.iter().map(ToString::to_string).collect();
        let mut args = vec![
            "path-info",
            "--json",
            "--recursive",
            "--extra-experimental-features",
            "nix-command",
        ];
        args.extend(flags);
        args.extend(roots.iter().map(String::as_str));
        let output = self.run("nix", &args);
        assert!(
            output.status.success(),
            "nix path-info: {}",
            output.stderr.escape_ascii()
        );
        let infos: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let path = |path: &serde_json::Value| StorePath::parse(path.as_str().unwrap().as_bytes()).unwrap();
        let info = |info: &serde_json::Value| Info {
            path: path(&info["path"]),
            hash: Hash::parse(info["narHash"].as_str().unwrap(), None)
                .unwrap()
                .hex(),
            references: info["references"].as_array().unwrap().iter().map(path).collect(),
            ca: info["ca"].as_str().map(|ca| ContentAddress::parse(ca).unwrap()),
        };
        infos.as_array().unwrap().iter().map(info).collect()
    }

    /// Builds a derivation.
    pub fn build(&self, path: &StorePath, drv: &Derivation) -> Verdict {
        let output = self.run("nix-store", &["--realise", &path.to_string()]);
        let said = String::from_utf8(output.stderr).unwrap();
        if !output.status.success() {
            return Err(said);
        }
        let outputs = outputs(path, drv);
        let paths: Vec<StorePath> = outputs.values().cloned().collect();
        let infos: BTreeMap<_, _> = self
            .closure(&paths)
            .into_iter()
            .map(|info| (info.path.clone(), info))
            .collect();
        let seen = |path| (infos[&path].hash.clone(), infos[&path].references.clone());
        Ok(outputs
            .into_iter()
            .map(|(name, path)| (name, seen(path)))
            .collect())
    }

    /// The input closure, for which the input derivations are built.
    pub fn inputs(&self, drv: &Derivation) -> Vec<Info> {
        let mut roots: Vec<StorePath> = drv.basic.input_srcs.iter().cloned().collect();
        for (path, used) in &drv.input_drvs {
            let input = Derivation::parse(&std::fs::read(self.real(path)).unwrap()).unwrap();
            self.build(path, &input).unwrap();
            roots.extend(
                outputs(path, &input)
                    .into_iter()
                    .filter(|(name, _)| used.contains(name))
                    .map(|(_, path)| path),
            );
        }
        self.closure(&roots)
    }
}

/// The paths that a derivation states.
pub fn outputs(path: &StorePath, drv: &Derivation) -> BTreeMap<String, StorePath> {
    let drv_name = path.derivation_name().unwrap();
    let path = |(name, output): (&String, &DerivationOutput)| {
        (name.clone(), output.known_path(drv_name, name).unwrap().unwrap())
    };
    drv.basic.outputs.iter().map(path).collect()
}
