//! Resolution against the golden data of Nix.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failed test is the point"
)]

mod shared;

use std::collections::BTreeMap;
use std::path::Path;

use firn_nix::derivation::ResolveError;
use firn_nix::{CaMethod, Derivation, DerivationOutput, HashAlgo, StorePath};
use serde_json::Value;

fn path(base: &str) -> StorePath {
    StorePath::from_base_name(base.as_bytes()).unwrap()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|v| v.as_str().unwrap())
}

/// Version 4 of the JSON form, as far as these files use it.
fn derivation(file: &Path) -> Derivation {
    let json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let bytes = |v: &Value| v.as_str().unwrap().as_bytes().to_vec();
    let mut drv = Derivation::default();
    for (name, output) in json["outputs"].as_object().unwrap() {
        assert_eq!(output["method"], "nar");
        let algo = HashAlgo::parse(output["hashAlgo"].as_str().unwrap()).unwrap();
        let method = CaMethod::Nar;
        let output = DerivationOutput::Floating { method, algo };
        drv.basic.outputs.insert(name.clone(), output);
    }
    let inputs = &json["inputs"];
    let srcs = if inputs.is_array() {
        inputs
    } else {
        &inputs["srcs"]
    };
    drv.basic.input_srcs = texts(srcs).map(path).collect();
    for (input, used) in inputs["drvs"].as_object().into_iter().flatten() {
        let outputs = texts(&used["outputs"]).map(str::to_owned).collect();
        drv.input_drvs.insert(path(input), outputs);
    }
    drv.basic.platform = bytes(&json["system"]);
    drv.basic.builder = bytes(&json["builder"]);
    drv.basic.args = texts(&json["args"]).map(|a| a.as_bytes().to_vec()).collect();
    let env = json["env"].as_object().unwrap().iter();
    drv.basic.env = env.map(|(k, v)| (k.as_bytes().to_vec(), bytes(v))).collect();
    if let Some(attributes) = json.get("structuredAttrs") {
        let text = attributes.to_string().into_bytes();
        drv.basic.env.insert(b"__json".to_vec(), text);
    }
    drv
}

/// Which path each output has, by derivation and output.
fn trace(file: &Path) -> BTreeMap<(StorePath, String), StorePath> {
    let json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let entries = json.as_array().unwrap().iter();
    entries
        .map(|entry| {
            let text = |v: &Value| v.as_str().unwrap().to_owned();
            let drv = path(entry[0]["drvPath"].as_str().unwrap());
            ((drv, text(&entry[0]["output"])), path(entry[1].as_str().unwrap()))
        })
        .collect()
}

#[test]
fn golden_resolutions() {
    let Some(folder) = shared::folder("vectors/nix/derivation/try-resolve") else {
        return;
    };
    for (case, expected) in [
        ("no-inputs", Some("after")),
        ("with-inputs", Some("after")),
        ("export-ref-subpath", Some("resolved")),
        ("export-ref-subpath-sa", Some("resolved")),
        ("resolution-failure", None),
    ] {
        let file = |part: &str| folder.join(format!("{case}-{part}.json"));
        let before = derivation(&file("before"));
        let known = trace(&file("buildTrace"));
        let drv_path = before.store_path(case).unwrap();
        let resolved = before.resolve(&drv_path, &|drv, output| {
            known.get(&(drv.clone(), output.to_owned())).cloned()
        });
        let Some(expected) = expected else {
            assert!(matches!(resolved, Err(ResolveError::Unknown { .. })), "{case}");
            continue;
        };
        let (resolved, after) = (resolved.unwrap(), derivation(&file(expected)));
        assert_eq!(resolved.drv, after.basic, "{case}");
        assert_eq!(resolved.drv_path, after.store_path(case).unwrap(), "{case}");
    }
}

const INPUT: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-dep.drv";
const BUILT: &str = "f1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-dep";

fn with_input(output: DerivationOutput, text: &str) -> Derivation {
    let mut drv = Derivation::default();
    drv.basic.outputs.insert("out".to_owned(), output);
    drv.basic.builder = b"/bin/sh".to_vec();
    drv.basic.args = vec![text.as_bytes().to_vec()];
    drv.input_drvs.insert(path(INPUT), ["out".to_owned()].into());
    drv
}

#[test]
fn what_is_known_by_its_own_path_keeps_it() {
    let drv_path = path("a1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-top.drv");
    let outputs = |_: &StorePath, _: &str| Some(path(BUILT));
    let placeholder = firn_nix::rewrite::upstream_placeholder(&path(INPUT), "out").unwrap();
    let input_addressed = DerivationOutput::InputAddressed(path("b1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-top"));
    let drv = with_input(input_addressed, &placeholder);
    let resolved = drv.resolve(&drv_path, &outputs).unwrap();
    assert_eq!(resolved.drv_path, drv_path);
    assert_eq!(
        resolved.drv.args, drv.basic.args,
        "its path is over the text as it stands"
    );
    assert_eq!(resolved.drv.input_srcs, [path(BUILT)].into());

    let fixed = |text: &str| {
        let ca = firn_nix::ContentAddress {
            method: CaMethod::Nar,
            hash: firn_nix::Hash::sha256(b""),
        };
        with_input(DerivationOutput::Fixed { path: None, ca }, text)
    };
    let same = fixed("plain").resolve(&drv_path, &outputs).unwrap();
    assert_eq!(same.drv_path, drv_path);
    let other = fixed(&placeholder).resolve(&drv_path, &outputs).unwrap();
    assert_ne!(other.drv_path, drv_path);
    assert_eq!(other.drv.args[0], path(BUILT).to_string().into_bytes());
}

#[test]
fn a_deferred_output_gets_the_path_of_the_resolved_derivation() {
    let drv_path = path("a1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-top.drv");
    let placeholder = firn_nix::rewrite::upstream_placeholder(&path(INPUT), "out").unwrap();
    let mut drv = with_input(DerivationOutput::Deferred, &placeholder);
    drv.basic.env.insert(b"out".to_vec(), Vec::new());
    let resolved = drv.resolve(&drv_path, &|_, _| Some(path(BUILT))).unwrap();
    let out = resolved.drv.outputs["out"].path().unwrap().clone();
    assert_eq!(out.name(), "top");
    assert_eq!(resolved.drv.env[b"out".as_slice()], out.to_string().into_bytes());
    // The path follows from the derivation that states it.
    let plain = Derivation::from_basic(resolved.drv);
    let paths = firn_nix::derivation::Modulo::new()
        .output_paths(&plain, "top", |_| None)
        .unwrap();
    assert_eq!(paths["out"], Some(out));
}
