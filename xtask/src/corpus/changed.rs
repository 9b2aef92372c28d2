//! A library with other bytes under the same store paths, and who must notice.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, ensure};
use firn_testkit::Nix;

use super::account::{Account, Answer};
use super::distribution::run;
use super::graph::{Graph, Package};
use super::store;

/// The library. What includes its header gets the version into its own bytes.
pub const LIBRARY: &str = "zlib";
const HEADER: &str = "include/zlib.h";
const VERSION: &str = "#define ZLIB_VERSION \"1.2.13";
/// Stands in everything that was built with the changed library, and nowhere else.
pub const MARK: &str = "-changed-by-three";

/// Puts all outputs of the library into a store as if they had been built there, with [`MARK`] in the version. What they refer to
/// must be valid in that store.
pub fn plant(from: &Nix, to: &Nix, library: &Package) -> anyhow::Result<()> {
    let mut changed = 0;
    for path in library.outputs.values() {
        let copy = to.on_disk(path);
        if let Some(parent) = copy.parent() {
            std::fs::create_dir_all(parent)?;
        }
        run(Command::new("cp").arg("-a").arg(from.on_disk(path)).arg(&copy))?;
        let header = copy.join(HEADER);
        if header.exists() {
            run(Command::new("chmod").arg("-R").arg("u+w").arg(&copy))?;
            let text = std::fs::read_to_string(&header)?;
            std::fs::write(&header, text.replace(VERSION, &format!("{VERSION}{MARK}")))?;
            changed += usize::from(text.contains(VERSION));
        }
    }
    ensure!(changed == 1, "{LIBRARY} has no header with {VERSION}");
    let mut waiting: Vec<&String> = library.outputs.values().collect();
    while !waiting.is_empty() {
        let mut later = Vec::new();
        let before = waiting.len();
        for path in &waiting {
            let mut references = store::references(from, path)?;
            if references.iter().any(|r| r != *path && waiting.contains(&r)) {
                later.push(*path);
                continue;
            }
            let itself = from
                .run("nix-store", &["--query", "--references", path])?
                .success()?;
            if itself.lines().contains(path) {
                references.push((*path).clone());
            }
            to.register(path, &references)?;
        }
        ensure!(
            later.len() < before,
            "outputs of {LIBRARY} refer to each other in a circle"
        );
        waiting = later;
    }
    Ok(())
}

/// For every package but the library: the rung that must answer an account in whose store some paths differ from what was built
/// before. `built` where a path in the closure of the inputs differs, else `reused`.
pub fn expected(
    graph: &Graph,
    packages: &[&Package],
    account: &Account,
    before: &BTreeMap<String, String>,
) -> anyhow::Result<BTreeMap<String, &'static str>> {
    let nix = &account.client.nix;
    let mut rungs = BTreeMap::new();
    for package in packages.iter().filter(|p| p.name != LIBRARY) {
        let inputs: Vec<String> = store::closure(nix, &graph.inputs(package))?.into_iter().collect();
        let inputs: Vec<String> = inputs.into_iter().filter(|p| before.contains_key(p)).collect();
        let differs = !inputs.is_empty()
            && store::hashes(nix, &inputs)?
                .iter()
                .any(|(path, hash)| before.get(path) != Some(hash));
        rungs.insert(package.drv.clone(), if differs { "built" } else { "reused" });
    }
    Ok(rungs)
}

/// The quickest of what an account had to build itself.
pub fn quickest(answers: &[Answer], count: usize) -> anyhow::Result<Vec<String>> {
    let mut built: Vec<&Answer> = answers.iter().filter(|a| a.rung == "built").collect();
    built.sort_by_key(|a| a.wall);
    let drvs: Vec<String> = built.iter().take(count).map(|a| a.drv.clone()).collect();
    drvs.first().context("the account built nothing itself")?;
    Ok(drvs)
}
