//! The corpus folder: its sources, its seed and what it evaluates to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use firn_testkit::Nix;

/// A writable copy of a corpus folder. Its expressions read nothing outside it.
pub struct Distribution {
    dir: PathBuf,
}

impl Distribution {
    /// Copies the folder over an older copy, whose downloads stay.
    pub fn copy(from: &Path, to: &Path) -> anyhow::Result<Self> {
        ensure!(
            from.join("default.nix").is_file() && from.join("fetch-sources.py").is_file(),
            "{} is not a corpus folder: it has no default.nix or no fetch-sources.py",
            from.display()
        );
        std::fs::create_dir_all(to)?;
        run(Command::new("cp").arg("-a").arg(from.join(".")).arg(to))?;
        run(Command::new("chmod").args(["-R", "u+w"]).arg(to))?;
        Ok(Self { dir: to.to_owned() })
    }

    /// The static shell that local and remote sandboxes have as `/bin/sh`.
    pub fn shell(&self) -> PathBuf {
        self.dir.join("seed/busybox/bin/bash")
    }

    /// The file with all packages; `real` is the set of those that are built.
    pub fn file(&self) -> PathBuf {
        self.dir.join("default.nix")
    }

    /// Puts the sources into a store, downloading those that no earlier call downloaded. The caller's environment holds, because mirrors
    /// and proxies are configured there.
    pub fn fetch(&self, nix: &Nix) -> anyhow::Result<()> {
        run(Command::new("python3")
            .arg(self.dir.join("fetch-sources.py"))
            .args([nix.store_uri()])
            .arg(self.dir.join("cache"))
            .env("NIX_CONF_DIR", nix.dir().join("conf"))
            .env_remove("NIX_REMOTE"))
    }

    /// Writes all derivations into a store: attribute name → `.drv` path.
    pub fn instantiate(&self, nix: &Nix) -> anyhow::Result<BTreeMap<String, String>> {
        let expression = format!(
            "builtins.mapAttrs (_: package: package.drvPath) (import {} {{ }}).real",
            self.file().display()
        );
        let arguments = [
            "--eval",
            "--strict",
            "--json",
            "--read-write-mode",
            "--expr",
            &expression,
        ];
        let run = nix.run("nix-instantiate", &arguments)?.success()?;
        let names: serde_json::Value = serde_json::from_str(&run.stdout)?;
        let names = names.as_object().context("an attribute set")?;
        names
            .iter()
            .map(|(name, drv)| {
                Ok((
                    name.clone(),
                    drv.as_str().context("a derivation path")?.to_owned(),
                ))
            })
            .collect()
    }
}

/// Runs a command whose output matters only when it fails.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        command.get_program().display(),
        output.stderr.escape_ascii().to_string().replace("\\n", "\n")
    );
    Ok(())
}

/// Removes a tree, read-only folders too; nothing when it is not there.
pub fn remove(tree: &Path) -> anyhow::Result<()> {
    let Ok(kind) = tree.symlink_metadata() else {
        return Ok(());
    };
    if !kind.is_dir() {
        return Ok(std::fs::remove_file(tree)?);
    }
    run(Command::new("chmod").args(["-R", "u+w"]).arg(tree))?;
    Ok(std::fs::remove_dir_all(tree)?)
}
