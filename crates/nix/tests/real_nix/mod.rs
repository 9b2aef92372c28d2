//! Builds with the Nix of this machine, in a store of its own.

#![expect(clippy::unwrap_used, reason = "a failed test is the point")]
#![expect(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use firn_nix::{ContentAddress, Derivation, NarHash, PathInfo, StorePath};

const BUSYBOX: &str = "/bin/busybox";

/// A Nix store in a temporary folder, with a shell to build with.
pub struct Nix {
    root: tempfile::TempDir,
    features: &'static str,
}

/// One output of [`Nix::graph`].
pub struct Built {
    /// The derivation as it was instantiated.
    pub drv: StorePath,
    /// Where the output is.
    pub path: StorePath,
}

impl Nix {
    /// A new store; `None`, after saying why, where Nix cannot build.
    pub fn new() -> Option<Self> {
        Self::with_features("")
    }

    /// With these experimental features besides `nix-command`.
    pub fn with_features(features: &'static str) -> Option<Self> {
        if Command::new("nix-build").arg("--version").output().is_err() {
            eprintln!("skipped: no nix-build on this machine");
            return None;
        }
        let applets = Command::new(BUSYBOX).arg("--list").output();
        if !applets.is_ok_and(|o| o.stdout.split(|&b| b == b'\n').any(|a| a == b"cp")) {
            eprintln!("skipped: no {BUSYBOX}");
            return None;
        }
        let nix = Self {
            root: tempfile::tempdir().unwrap(),
            features,
        };
        let shell = nix.root.path().join("shell");
        std::fs::create_dir(&shell).unwrap();
        std::fs::copy(BUSYBOX, shell.join("busybox")).unwrap();
        let probe = nix.build("out", "", "$bb touch @out@");
        if !probe.1.status.success() {
            let stderr = probe.1.stderr.escape_ascii().to_string();
            eprintln!("skipped: Nix cannot build here: {stderr}");
            return None;
        }
        Some(nix)
    }

    /// Which 2.x this is.
    pub fn minor_version(&self) -> u32 {
        let output = self.command("nix").arg("--version").output().unwrap();
        let version = String::from_utf8(output.stdout).unwrap();
        let version = version.rsplit(' ').next().unwrap();
        version.split('.').nth(1).unwrap().parse().unwrap()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let home = self.root.path().join("home");
        command
            .args(["--store", &format!("local?root={}", self.root.path().join("store").display())])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env(
                "NIX_CONFIG",
                format!(
                    "build-users-group =\nsubstitute = false\nexperimental-features = nix-command {}\nsandbox = true",
                    self.features
                ),
            );
        command
    }

    /// Builds `derivation { …; ${attributes} }`, whose script sees busybox as `$bb`; `@out@` is its output. Returns the expression
    /// file and what happened.
    fn build(&self, outputs: &str, attributes: &str, script: &str) -> (PathBuf, Output) {
        let shell = self.root.path().join("shell");
        let script = script.replace("@out@", "${builtins.placeholder \"out\"}");
        let outputs: String = outputs.split(' ').map(|o| format!("\"{o}\" ")).collect();
        let text = format!(
            "let bb = builtins.path {{ path = {shell}; name = \"busybox\"; }};\n\
             in derivation ({{ name = \"x\"; system = builtins.currentSystem; builder = \"${{bb}}/busybox\";\n\
             outputs = [ {outputs} ];\n\
             args = [ \"sh\" \"-e\" \"-c\" ''bb=${{bb}}/busybox; {script}'' ]; }} // (with builtins; {{ {attributes} }}))\n",
            shell = shell.display(),
        );
        let file = self.root.path().join("default.nix");
        std::fs::write(&file, text).unwrap();
        let mut command = self.command("nix-build");
        let output = command.arg("--no-out-link").arg(&file).output().unwrap();
        (file, output)
    }

    /// Builds; returns the derivation and, by output, its path.
    pub fn built(
        &self,
        outputs: &str,
        attributes: &str,
        script: &str,
    ) -> (Derivation, BTreeMap<String, StorePath>) {
        let (file, output) = self.build(outputs, attributes, script);
        assert!(output.status.success(), "{}", output.stderr.escape_ascii());
        let output = self.command("nix-instantiate").arg(&file).output().unwrap();
        let drv = std::str::from_utf8(&output.stdout).unwrap();
        let drv = drv.trim().split('!').next().unwrap();
        let drv = Derivation::parse(&std::fs::read(self.real(Path::new(drv))).unwrap()).unwrap();
        let paths = drv.basic.outputs.iter();
        let paths = paths
            .map(|(o, v)| (o.clone(), v.path().unwrap().clone()))
            .collect();
        (drv, paths)
    }

    /// Builds these attributes of an expression in which `make name attributes script` makes a derivation whose script sees busybox
    /// as `$bb`. By `<name>!<output>`.
    pub fn graph(&self, expression: &str, attributes: &[&str]) -> BTreeMap<String, Built> {
        let shell = self.root.path().join("shell");
        let text = format!(
            "let bb = builtins.path {{ path = {shell}; name = \"busybox\"; }};\n\
             make = name: attributes: script: derivation ({{ inherit name; system = builtins.currentSystem;\n\
             builder = \"${{bb}}/busybox\"; args = [ \"sh\" \"-e\" \"-c\" ''bb=${{bb}}/busybox; ${{script}}'' ]; }} // attributes);\n\
             in {expression}",
            shell = shell.display(),
        );
        let file = self.root.path().join("graph.nix");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let mut all = BTreeMap::new();
        for attribute in attributes {
            let mut command = self.command("nix");
            let built = command
                .args(["build", "--json", "--no-link", "-f", file, attribute])
                .output()
                .unwrap();
            assert!(built.status.success(), "{}", built.stderr.escape_ascii());
            let json: serde_json::Value = serde_json::from_slice(&built.stdout).unwrap();
            let path = |v: &serde_json::Value| StorePath::parse(v.as_str().unwrap().as_bytes()).unwrap();
            let drv = path(&json[0]["drvPath"]);
            let query = self
                .command("nix-instantiate")
                .args(["--eval", "--json", "--strict", file, "-A"])
                .arg(format!("{attribute}.outputs"))
                .output()
                .unwrap();
            let outputs: Vec<String> = if query.status.success() {
                serde_json::from_slice(&query.stdout).unwrap()
            } else {
                vec!["out".to_owned()]
            };
            for output in outputs {
                let built = self
                    .command("nix")
                    .args(["build", "--json", "--no-link", "-f", file])
                    .arg(format!("{attribute}.{output}"))
                    .output()
                    .unwrap();
                assert!(built.status.success(), "{}", built.stderr.escape_ascii());
                let json: serde_json::Value = serde_json::from_slice(&built.stdout).unwrap();
                let built = Built {
                    drv: drv.clone(),
                    path: path(&json[0]["outputs"][&output]),
                };
                all.insert(format!("{attribute}!{output}"), built);
            }
        }
        all
    }

    /// The path that a realisation in this store has.
    pub fn realisation(&self, id: &str) -> Option<StorePath> {
        let file = self.root.path().join("store/nix/var/nix/db/db.sqlite");
        let (hash, output) = id.split_once('!').unwrap();
        let query = format!(
            "select p.path from Realisations r join ValidPaths p on p.id = r.outputPath \
             where r.drvPath = '{hash}' and r.outputName = '{output}'"
        );
        let output = Command::new("sqlite3").arg(file).arg(query).output().unwrap();
        let text = std::str::from_utf8(&output.stdout).unwrap().trim().to_owned();
        (!text.is_empty()).then(|| StorePath::parse(text.as_bytes()).unwrap())
    }

    /// The NAR of a store path.
    pub fn nar(&self, path: &StorePath) -> Vec<u8> {
        let mut command = self.command("nix-store");
        let output = command
            .arg("--dump")
            .arg(self.real(Path::new(&path.to_string())))
            .output();
        output.unwrap().stdout
    }

    /// Where a store path's bytes are.
    pub fn real(&self, path: &Path) -> PathBuf {
        self.root
            .path()
            .join("store")
            .join(path.strip_prefix("/").unwrap())
    }

    /// What Nix knows of the closure of these paths.
    pub fn closure(&self, paths: &[StorePath]) -> BTreeMap<StorePath, PathInfo> {
        let (drvs, others): (Vec<_>, Vec<_>) = paths.iter().partition(|p| p.is_derivation());
        // Without the flag, a derivation's path means its outputs.
        let mut infos = self.path_info(&["-r", "--derivation"], &drvs);
        infos.extend(self.path_info(&["-r"], &others));
        infos
    }

    fn path_info(&self, flags: &[&str], paths: &[&StorePath]) -> BTreeMap<StorePath, PathInfo> {
        if paths.is_empty() {
            return BTreeMap::new();
        }
        let mut command = self.command("nix");
        command.args(["path-info", "--json"]).args(flags);
        let output = command
            .args(paths.iter().map(ToString::to_string))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", output.stderr.escape_ascii());
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        // A list of objects with "path", or an object by path, depending on the version.
        let entries: Vec<(String, &serde_json::Value)> = match &json {
            serde_json::Value::Array(items) => items
                .iter()
                .map(|v| (v["path"].as_str().unwrap().to_owned(), v))
                .collect(),
            other => other
                .as_object()
                .unwrap()
                .iter()
                .map(|(k, v)| (k.clone(), v))
                .collect(),
        };
        let path = |text: &str| StorePath::parse(text.as_bytes()).unwrap();
        entries
            .into_iter()
            .map(|(name, value)| {
                let references = value["references"].as_array().unwrap().iter();
                let info = PathInfo {
                    path: path(&name),
                    deriver: None,
                    nar_hash: NarHash::parse(value["narHash"].as_str().unwrap()).unwrap(),
                    references: references.map(|r| path(r.as_str().unwrap())).collect(),
                    registration_time: 0,
                    nar_size: value["narSize"].as_u64().unwrap(),
                    ultimate: false,
                    signatures: Default::default(),
                    ca: value["ca"].as_str().map(|ca| ContentAddress::parse(ca).unwrap()),
                };
                (info.path.clone(), info)
            })
            .collect()
    }
}

impl Drop for Nix {
    /// Store paths are read-only; what is in them can be removed only when their folders are writable.
    fn drop(&mut self) {
        fn make_writable(path: &Path) {
            use std::os::unix::fs::PermissionsExt as _;
            let Ok(metadata) = std::fs::symlink_metadata(path) else {
                return;
            };
            if !metadata.is_dir() {
                return;
            }
            let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                make_writable(&entry.path());
            }
        }
        make_writable(self.root.path());
    }
}
