//! Hash modulo: paths as Nix computed them, for golden files and for whole evaluations of nixpkgs.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failed test is the point"
)]

mod archive;
mod shared;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use firn_nix::derivation::{Modulo, ModuloError};
use firn_nix::{CaMethod, Derivation, DerivationOutput, Hash, HashAlgo, StorePath};

type Graph = HashMap<StorePath, Arc<Derivation>>;

fn add(graph: &mut Graph, name: &str, drv: Derivation) -> StorePath {
    let path = drv.store_path(name).unwrap();
    graph.insert(path.clone(), Arc::new(drv));
    path
}

fn simple(output: DerivationOutput, inputs: &[&StorePath]) -> Derivation {
    let mut drv = Derivation::default();
    drv.basic.builder = b"/bin/sh".to_vec();
    drv.basic.outputs = [("out".to_owned(), output)].into();
    drv.input_drvs = inputs
        .iter()
        .map(|p| ((*p).clone(), ["out".to_owned()].into()))
        .collect();
    drv
}

#[test]
fn golden_graph() {
    let Some(folder) = shared::folder("vectors/nix/derivation/hash-modulo") else {
        return;
    };
    let read = |name: &str| {
        let bytes = std::fs::read(folder.join(format!("{name}.drv"))).unwrap();
        Derivation::parse(&bytes).unwrap()
    };
    let mut graph = Graph::new();
    for (file, name) in [
        ("source-first", "source"),
        ("source-second", "source"),
        ("intermediate-first", "intermediate"),
        ("intermediate-second", "intermediate"),
    ] {
        add(&mut graph, name, read(file));
    }
    let mut modulo = Modulo::new();
    for (file, name) in [
        ("intermediate-first", "intermediate"),
        ("intermediate-second", "intermediate"),
        ("parent-joined", "parent"),
        ("parent-split", "parent"),
    ] {
        let text = std::fs::read(folder.join(format!("{file}-modulo.drv"))).unwrap();
        let hash = modulo
            .output_hash(&read(file), name, |p| graph.get(p).cloned())
            .unwrap();
        assert!(!hash.deferred);
        assert!(hash.iter().all(|(_, h)| *h == Hash::sha256(&text)), "{file}");
    }
}

#[test]
fn a_floating_input_defers_everything_above() {
    let mut graph = Graph::new();
    let floating = DerivationOutput::Floating {
        method: CaMethod::Nar,
        algo: HashAlgo::Sha256,
    };
    let low = add(&mut graph, "low", simple(floating, &[]));
    let mid = add(&mut graph, "mid", simple(DerivationOutput::Deferred, &[&low]));
    let top = simple(DerivationOutput::Deferred, &[&mid]);
    let paths = Modulo::new().output_paths(&top, "top", |p| graph.get(p).cloned());
    assert_eq!(paths.unwrap(), BTreeMap::from([("out".to_owned(), None)]));
    // Deferred without need: the path can be filled in.
    let plain = simple(DerivationOutput::Deferred, &[]);
    let paths = Modulo::new().output_paths(&plain, "plain", |_| None).unwrap();
    assert!(paths["out"].is_some());
}

#[test]
fn golden_paths_are_filled_in() {
    let Some(folder) = shared::folder("vectors/nix/derivation/invariants") else {
        return;
    };
    for name in [
        "filled-in-deferred-empty-env-var-post",
        "filled-in-deferred-no-env-var-pre",
        "filled-in-idempotent",
    ] {
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut drv = simple(DerivationOutput::Deferred, &[]);
        drv.basic.platform = json["system"].as_str().unwrap().into();
        let env = json["env"].as_object().unwrap().iter();
        drv.basic.env = env
            .map(|(k, v)| (k.clone().into(), v.as_str().unwrap().into()))
            .collect();
        let drv_name = json["name"].as_str().unwrap();
        let paths = Modulo::new().output_paths(&drv, drv_name, |_| None).unwrap();
        let expected = match json["outputs"]["out"]["path"].as_str() {
            Some(path) => path.to_owned(),
            None => "wpk9qrgg77fyswhailap0gicgw98izx9-filled-in-deferred-no-env-var".to_owned(),
        };
        assert_eq!(paths["out"].as_ref().unwrap().base_name(), expected, "{name}");
    }
}

#[test]
fn a_chain_of_fifty_thousand_needs_no_stack() {
    let mut graph = Graph::new();
    let mut last = add(&mut graph, "x", simple(DerivationOutput::Deferred, &[]));
    for _ in 0..50_000 {
        last = add(&mut graph, "x", simple(DerivationOutput::Deferred, &[&last]));
    }
    let mut modulo = Modulo::new();
    assert!(
        !modulo
            .input_hash(&last, |p| graph.get(p).cloned())
            .unwrap()
            .deferred
    );
}

#[test]
fn errors_name_the_derivation() {
    let path = |n: &str| StorePath::from_base_name(format!("{}-{n}", "0".repeat(32)).as_bytes()).unwrap();
    let (a, b) = (path("a.drv"), path("b.drv"));
    let graph: Graph = [
        (a.clone(), Arc::new(simple(DerivationOutput::Deferred, &[&b]))),
        (b.clone(), Arc::new(simple(DerivationOutput::Deferred, &[&a]))),
    ]
    .into();
    let mut modulo = Modulo::new();
    let error = modulo.input_hash(&a, |p| graph.get(p).cloned()).unwrap_err();
    assert_eq!(error, ModuloError::Cycle(a.clone()));
    let error = modulo.input_hash(&a, |_| None).unwrap_err();
    assert_eq!(error, ModuloError::Missing(a));
    let mut graph = Graph::new();
    let low = add(&mut graph, "low", simple(DerivationOutput::Deferred, &[]));
    let mut top = simple(DerivationOutput::Deferred, &[]);
    top.input_drvs.insert(low.clone(), ["dev".to_owned()].into());
    let error = modulo
        .output_paths(&top, "top", |p| graph.get(p).cloned())
        .unwrap_err();
    let output = "dev".to_owned();
    assert_eq!(error, ModuloError::NoOutput { drv: low, output });
}

/// Recomputes the path of every derivation and of every output of an evaluation.
fn whole_evaluation(archive: &str, expected: usize) {
    let Some(folder) = shared::folder("corpus/graphs") else {
        return;
    };
    let mut graph = Graph::new();
    let mut same_text = 0;
    archive::tar_zst(&folder.join(archive), |name, bytes| {
        let base = name.rsplit('/').next().unwrap();
        if !base.ends_with(".drv") {
            return;
        }
        let path = StorePath::from_base_name(base.as_bytes()).unwrap();
        let drv = Derivation::parse(&bytes).unwrap_or_else(|e| panic!("{base}: {e}"));
        assert_eq!(drv.to_aterm(), bytes, "{base}");
        assert_eq!(drv.store_path(path.derivation_name().unwrap()).unwrap(), path);
        same_text += 1;
        graph.insert(path, Arc::new(drv));
    });
    assert_eq!(same_text, expected);
    let mut modulo = Modulo::new();
    let mut outputs = 0;
    for (path, drv) in &graph {
        let name = path.derivation_name().unwrap();
        let paths = modulo
            .output_paths(drv, name, |p| graph.get(p).cloned())
            .unwrap_or_else(|e| panic!("{path}: {e}"));
        for (output, computed) in paths {
            assert_eq!(
                computed.as_ref(),
                drv.basic.outputs[&output].path(),
                "{path} {output}"
            );
            outputs += 1;
        }
        drv.basic.check(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    eprintln!("{archive}: {same_text} derivations, {outputs} outputs");
}

#[test]
fn every_path_of_nixpkgs_2015() {
    whole_evaluation("nixpkgs-2015.drvs.tar.zst", 5_723);
}

#[test]
fn every_path_of_nixpkgs_2026() {
    if std::env::var_os("FIRN_LONG_TESTS").is_none() {
        eprintln!("skipped: takes half a minute (set FIRN_LONG_TESTS)");
        return;
    }
    whole_evaluation("nixpkgs-2026.drvs.tar.zst", 37_021);
}
