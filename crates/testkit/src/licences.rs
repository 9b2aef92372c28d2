//! The lists of `deny.toml`, checked against what cargo says.

use std::collections::BTreeSet;
use std::path::Path;

use cargo_metadata::MetadataCommand;
use serde::Deserialize;

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

/// Every package that `deny.toml` forbids, as sentences.
///
/// # Errors
/// When `deny.toml` cannot be read or cargo cannot describe the workspace.
pub fn forbidden_packages(workspace: &Path) -> anyhow::Result<Vec<String>> {
    let deny: Deny = toml::from_str(&std::fs::read_to_string(workspace.join("deny.toml"))?)?;
    let metadata = MetadataCommand::new()
        .manifest_path(workspace.join("Cargo.toml"))
        .exec()?;
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        if let Some(ban) = deny
            .bans
            .deny
            .iter()
            .find(|ban| ban.name == package.name.as_str())
        {
            wrong.push(format!("{} is banned: {}", package.name, ban.reason));
        }
        let licence = package.license.as_deref().unwrap_or("none");
        if !allowed(licence, &deny.licenses.allow) {
            wrong.push(format!("{} has the licence {licence}", package.name));
        }
    }
    Ok(wrong)
}

/// An SPDX expression of `AND` over `OR`s in parentheses, or `OR` over `AND`s, as crates have them; `/` is an old spelling of `OR`.
fn allowed(expression: &str, allow: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    let term = |text: &str| allow.contains(text.trim().trim_matches(['(', ')']).trim());
    let any = |text: &str| text.split(" OR ").any(|part| part.split(" AND ").all(term));
    if expression.contains('(') {
        expression.split(" AND ").all(any)
    } else {
        any(&expression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allow: BTreeSet<String> = ["MIT", "Apache-2.0", "Unicode-3.0"].map(String::from).into();
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT/Apache-2.0", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0", false),
            ("none", false),
        ] {
            assert_eq!(allowed(expression, &allow), expected, "{expression}");
        }
    }
}
