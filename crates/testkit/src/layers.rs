//! The layers of the workspace, checked against what cargo says.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, MetadataCommand};

/// Which of our crates each crate may use, beyond development.
const ALLOWED: &[(&str, &[&str])] = &[
    ("firn-nix", &[]),
    ("firn-core", &["firn-nix"]),
    ("firn-protocol", &["firn-nix"]),
    ("firn-sandbox", &[]),
    ("firn-builtin", &["firn-nix"]),
    ("firn-content", &["firn-nix"]),
    (
        "firn-service",
        &["firn-content", "firn-core", "firn-nix", "firn-protocol"],
    ),
    ("firn-db", &["firn-core", "firn-nix", "firn-service"]),
    ("firn-vm", &["firn-content", "firn-nix", "firn-sandbox"]),
    (
        "firn-builder",
        &[
            "firn-content",
            "firn-core",
            "firn-nix",
            "firn-sandbox",
            "firn-service",
            "firn-vm",
        ],
    ),
    (
        "firn-cache",
        &[
            "firn-core",
            "firn-nix",
            "firn-protocol",
            "firn-sandbox",
            "firn-service",
        ],
    ),
    ("firn-ssh", &["firn-protocol", "firn-nix"]),
    ("firn-simulate", &["firn-core", "firn-nix"]),
    (
        "firn",
        &[
            "firn-builder",
            "firn-builtin",
            "firn-cache",
            "firn-content",
            "firn-core",
            "firn-db",
            "firn-nix",
            "firn-protocol",
            "firn-sandbox",
            "firn-service",
            "firn-simulate",
            "firn-ssh",
            "firn-vm",
        ],
    ),
    ("firn-testkit", &[]),
    ("firn-attack", &[]),
    ("xtask", &["firn-nix", "firn-protocol", "firn-testkit"]),
];

/// Foreign crates that must not be reachable from some of ours, at any distance.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("firn-nix", &["tokio", "rustix", "sqlx", "russh"]),
    ("firn-core", &["tokio", "rustix", "sqlx", "russh"]),
    ("firn-protocol", &["sqlx", "russh"]),
    ("firn-content", &["sqlx", "russh"]),
    ("firn-service", &["sqlx", "russh"]),
    ("firn-sandbox", &["sqlx", "russh"]),
    ("firn-simulate", &["tokio", "rustix", "sqlx", "russh"]),
];

/// Every dependency that the layers forbid, as sentences.
///
/// # Errors
/// When cargo cannot describe the workspace.
pub fn forbidden_arrows(workspace: &Path) -> anyhow::Result<Vec<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace.join("Cargo.toml"))
        .exec()?;
    let resolve = metadata.resolve.as_ref().context("no dependency graph")?;
    let name = |id: &cargo_metadata::PackageId| {
        metadata
            .packages
            .iter()
            .find(|p| &p.id == id)
            .map(|p| p.name.to_string())
            .unwrap_or_default()
    };
    let direct = |id: &cargo_metadata::PackageId| -> Vec<cargo_metadata::PackageId> {
        resolve
            .nodes
            .iter()
            .filter(|node| &node.id == id)
            .flat_map(|node| &node.deps)
            .filter(|dep| dep.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal))
            .map(|dep| dep.pkg.clone())
            .collect()
    };
    let ours: BTreeSet<String> = metadata.workspace_members.iter().map(&name).collect();
    let mut wrong = Vec::new();
    for member in &metadata.workspace_members {
        let from = name(member);
        let Some((_, allowed)) = ALLOWED.iter().find(|(crate_name, _)| *crate_name == from) else {
            wrong.push(format!("{from} stands in no layer"));
            continue;
        };
        for to in direct(member).iter().map(&name).filter(|to| ours.contains(to)) {
            if !allowed.contains(&to.as_str()) {
                wrong.push(format!("{from} must not use {to}"));
            }
        }
        let mut reached = BTreeSet::new();
        let mut queue = vec![member.clone()];
        while let Some(id) = queue.pop() {
            if reached.insert(id.clone()) {
                queue.extend(direct(&id));
            }
        }
        let forbidden = FORBIDDEN
            .iter()
            .find(|(crate_name, _)| *crate_name == from)
            .map_or(&[][..], |(_, f)| f);
        for to in reached
            .iter()
            .map(&name)
            .filter(|to| forbidden.contains(&to.as_str()))
        {
            wrong.push(format!("{from} must not reach {to}"));
        }
    }
    Ok(wrong)
}
