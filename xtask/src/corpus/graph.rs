//! The packages of the corpus and how they depend on each other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use firn_nix::Derivation;
use firn_testkit::Nix;

/// One derivation that is to be built.
#[derive(Debug)]
pub struct Package {
    /// Attribute name.
    pub name: String,
    /// Path of its `.drv`.
    pub drv: String,
    /// Output name → store path.
    pub outputs: BTreeMap<String, String>,
    /// Packages that it uses directly → the outputs that it uses of them.
    uses: BTreeMap<String, BTreeSet<String>>,
    /// Store paths of its sources that are fixed outputs.
    sources: BTreeSet<String>,
}

impl Package {
    /// Whether it names an output of that package as an input.
    pub fn uses(&self, name: &str) -> bool {
        self.uses.contains_key(name)
    }
}

/// Packages such that each comes after what it uses.
#[derive(Debug)]
pub struct Graph(Vec<Package>);

impl Graph {
    /// Reads the derivations from a store. What is not among `names` (sources) has been put there already and is no node.
    pub fn read(nix: &Nix, names: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let by_drv: BTreeMap<&str, &str> = names.iter().map(|(n, d)| (d.as_str(), n.as_str())).collect();
        let mut waiting = Vec::new();
        for (name, drv) in names {
            let bytes = std::fs::read(nix.on_disk(drv)).with_context(|| drv.clone())?;
            let parsed = Derivation::parse(&bytes).with_context(|| drv.clone())?;
            let outputs = parsed.basic.outputs.iter();
            let mut sources = BTreeSet::new();
            for input in parsed.input_drvs.keys().map(ToString::to_string) {
                if !by_drv.contains_key(input.as_str()) {
                    sources.extend(fixed_outputs(nix, &input)?);
                }
            }
            waiting.push(Package {
                name: name.clone(),
                drv: drv.clone(),
                outputs: outputs
                    .filter_map(|(output, known)| Some((output.clone(), known.path()?.to_string())))
                    .collect(),
                uses: parsed
                    .input_drvs
                    .iter()
                    .filter_map(|(drv, outputs)| {
                        let name = by_drv.get(drv.to_string().as_str())?;
                        Some(((*name).to_owned(), outputs.clone()))
                    })
                    .collect(),
                sources,
            });
        }
        Self::sorted(waiting)
    }

    fn sorted(mut waiting: Vec<Package>) -> anyhow::Result<Self> {
        let mut sorted: Vec<Package> = Vec::new();
        while !waiting.is_empty() {
            let known: BTreeSet<String> = sorted.iter().map(|p| p.name.clone()).collect();
            let (ready, rest): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|p| p.uses.keys().all(|used| known.contains(used)));
            if ready.is_empty() {
                bail!("the derivations form a circle");
            }
            sorted.extend(ready);
            waiting = rest;
        }
        Ok(Self(sorted))
    }

    /// By attribute name.
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.0.iter().find(|p| p.name == name)
    }

    /// Whose output a store path is.
    pub fn producer(&self, path: &str) -> Option<&Package> {
        self.0.iter().find(|p| p.outputs.values().any(|o| o == path))
    }

    /// These packages and everything that they use, in order.
    pub fn with_dependencies(&self, names: &BTreeSet<String>) -> anyhow::Result<Vec<&Package>> {
        if let Some(unknown) = names.iter().find(|name| self.get(name).is_none()) {
            let known: Vec<&str> = self.0.iter().map(|p| p.name.as_str()).collect();
            bail!("the corpus has no package {unknown}; it has {}", known.join(", "));
        }
        let mut wanted = names.clone();
        for package in self.0.iter().rev() {
            if wanted.contains(&package.name) {
                wanted.extend(package.uses.keys().cloned());
            }
        }
        Ok(self.0.iter().filter(|p| wanted.contains(&p.name)).collect())
    }

    /// Outputs of other packages that a package's derivation names as its inputs.
    pub fn inputs(&self, package: &Package) -> Vec<String> {
        let used = package.uses.iter().filter_map(|(name, outputs)| {
            let outputs = outputs.iter();
            let known = &self.get(name)?.outputs;
            Some(outputs.filter_map(|output| known.get(output).cloned()))
        });
        used.flatten().collect()
    }
}

fn fixed_outputs(nix: &Nix, drv: &str) -> anyhow::Result<BTreeSet<String>> {
    let bytes = std::fs::read(nix.on_disk(drv)).with_context(|| drv.to_owned())?;
    let parsed = Derivation::parse(&bytes).with_context(|| drv.to_owned())?;
    let outputs = parsed.basic.outputs.values();
    Ok(outputs
        .filter_map(|output| Some(output.path()?.to_string()))
        .collect())
}

/// Their derivations.
pub fn drvs(packages: &[&Package]) -> Vec<String> {
    packages.iter().map(|p| p.drv.clone()).collect()
}

/// Their sources that are fixed outputs.
pub fn sources(packages: &[&Package]) -> Vec<String> {
    let all: BTreeSet<&String> = packages.iter().flat_map(|p| &p.sources).collect();
    all.into_iter().cloned().collect()
}

/// Their outputs.
pub fn outputs(packages: &[&Package]) -> Vec<String> {
    packages
        .iter()
        .flat_map(|p| p.outputs.values().cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, uses: &[&str]) -> Package {
        Package {
            name: name.into(),
            drv: format!("/{name}.drv"),
            outputs: BTreeMap::from([
                ("out".into(), format!("/{name}")),
                ("dev".into(), format!("/{name}-dev")),
            ]),
            uses: uses
                .iter()
                .map(|used| ((*used).into(), BTreeSet::from(["dev".into()])))
                .collect(),
            sources: BTreeSet::from([format!("/{name}.tar")]),
        }
    }

    #[test]
    fn a_choice_brings_what_it_uses_in_order() {
        let graph = Graph::sorted(vec![
            package("a", &["b"]),
            package("b", &["c"]),
            package("c", &[]),
            package("d", &["c"]),
        ])
        .unwrap();
        let chosen = graph.with_dependencies(&BTreeSet::from(["a".into()])).unwrap();
        assert_eq!(drvs(&chosen), ["/c.drv", "/b.drv", "/a.drv"]);
        assert_eq!(sources(&chosen), ["/a.tar", "/b.tar", "/c.tar"]);
        assert_eq!(graph.inputs(graph.get("a").unwrap()), ["/b-dev"]);
        assert_eq!(graph.producer("/d-dev").unwrap().name, "d");
        assert!(graph.with_dependencies(&BTreeSet::from(["x".into()])).is_err());
    }

    #[test]
    fn a_circle_is_an_error() {
        assert!(Graph::sorted(vec![package("a", &["b"]), package("b", &["a"])]).is_err());
    }
}
