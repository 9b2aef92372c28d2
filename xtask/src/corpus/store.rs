//! What stands in a Nix store: hashes, differences, closures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use firn_testkit::{Nix, Run};

use super::distribution;
use super::graph::Package;

/// NAR hash of each of these valid paths.
pub fn hashes(nix: &Nix, paths: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let lines = query(nix, "--hash", paths)?;
    ensure!(lines.len() == paths.len(), "one hash for each path");
    Ok(paths.iter().cloned().zip(lines).collect())
}

/// Bytes of the NAR of each of these valid paths.
pub fn sizes(nix: &Nix, paths: &[String]) -> anyhow::Result<Vec<u64>> {
    let lines = query(nix, "--size", paths)?;
    lines.iter().map(|line| Ok(line.parse()?)).collect()
}

/// The closure of these valid paths.
pub fn closure(nix: &Nix, paths: &[String]) -> anyhow::Result<BTreeSet<String>> {
    if paths.is_empty() {
        return Ok(BTreeSet::new());
    }
    Ok(query(nix, "--requisites", paths)?.into_iter().collect())
}

/// What a valid path refers to, itself left out.
pub fn references(nix: &Nix, path: &str) -> anyhow::Result<Vec<String>> {
    let lines = query(nix, "--references", &[path.to_owned()])?;
    Ok(lines.into_iter().filter(|r| r != path).collect())
}

fn query(nix: &Nix, what: &str, paths: &[String]) -> anyhow::Result<Vec<String>> {
    let mut arguments = vec!["--query", what];
    arguments.extend(paths.iter().map(String::as_str));
    Ok(nix.run("nix-store", &arguments)?.success()?.lines())
}

/// Reads everything in the store and compares it with the hashes that the store promises.
pub fn verify(nix: &Nix) -> anyhow::Result<()> {
    nix.run("nix-store", &["--verify", "--check-contents"])?
        .success()
        .map(drop)
}

/// Builds on this machine, by Nix itself, in its sandbox.
pub fn build_locally(
    nix: &Nix,
    shell: &Path,
    cores: usize,
    drvs: &[String],
    more: &[&str],
) -> anyhow::Result<Run> {
    let shell = format!("/bin/sh={}", shell.display());
    let cores = cores.to_string();
    let mut arguments = vec![
        "--realise",
        "--builders",
        "",
        "--max-jobs",
        &cores,
        "--cores",
        &cores,
        "--option",
        "sandbox",
        "true",
        "--option",
        "sandbox-paths",
        &shell,
    ];
    arguments.extend(more);
    arguments.extend(drvs.iter().map(String::as_str));
    nix.run("nix-store", &arguments)
}

/// What came of building a valid derivation again, locally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// The bytes that the store has.
    Equal,
    /// Two more builds differ from each other: the derivation is not deterministic.
    Varies,
    /// Two more builds agree with each other, but not with the store.
    Otherwise,
}

/// Builds a valid derivation once more, and twice when the first has other bytes than the store.
pub fn repeat(nix: &Nix, shell: &Path, cores: usize, package: &Package) -> anyhow::Result<Repeated> {
    let first = built_again(nix, shell, cores, package)?;
    if first.is_empty() {
        return Ok(Repeated::Equal);
    }
    let second = built_again(nix, shell, cores, package)?;
    Ok(if first == second {
        Repeated::Otherwise
    } else {
        Repeated::Varies
    })
}

/// Hashes of the outputs that Nix found to differ when it built again. It stops at the first.
fn built_again(
    nix: &Nix,
    shell: &Path,
    cores: usize,
    package: &Package,
) -> anyhow::Result<BTreeMap<String, String>> {
    let drv = std::slice::from_ref(&package.drv);
    let again = build_locally(nix, shell, cores, drv, &["--check", "--keep-failed"])?;
    let mut differing = BTreeMap::new();
    for (name, path) in &package.outputs {
        let kept = nix.on_disk(&format!("{path}.check"));
        if kept.symlink_metadata().is_err() {
            continue;
        }
        let text = kept.to_str().context("store path")?;
        let hash = nix.run("nix-hash", &["--type", "sha256", text])?.success()?;
        differing.insert(name.clone(), hash.stdout);
        distribution::remove(&kept)?;
    }
    if differing.is_empty() {
        again.success()?;
    }
    Ok(differing)
}

/// Lines that say where two trees differ.
pub fn difference(one: &Path, other: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("diff")
        .args(["-rq", "--no-dereference"])
        .args([one, other])
        .output()
        .context("cannot start diff")?;
    let mut lines: Vec<String> = output
        .stdout
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| line.escape_ascii().to_string())
        .collect();
    if lines.is_empty() {
        lines.push("modes or types of files only".into());
    }
    Ok(lines)
}

/// Files below these store paths that contain a text.
pub fn files_with(nix: &Nix, text: &str, paths: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("grep")
        .args(["-rlaF", "--null", "-e", text])
        .args(paths.iter().map(|p| nix.on_disk(p)))
        .output()
        .context("cannot start grep")?;
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "grep failed: {}",
        output.stderr.escape_ascii()
    );
    output
        .stdout
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| Ok(PathBuf::from(std::str::from_utf8(name)?)))
        .collect()
}
