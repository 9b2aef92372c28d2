//! The attributes that steer a build, plain and structured.

#![expect(clippy::unwrap_used, reason = "a failed test is the point")]

mod shared;

use std::collections::BTreeSet;

use firn_nix::derivation::{DerivationOptions, OutputChecks, OutputReference};
use firn_nix::{BasicDerivation, DerivationOutput, StorePath};
use serde_json::{Value, json};

fn drv(env: &[(&str, &str)]) -> BasicDerivation {
    let outputs = ["out", "dev", "bin"].map(|o| (o.to_owned(), DerivationOutput::Deferred));
    let env = env.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    BasicDerivation {
        outputs: outputs.into(),
        env: env.collect(),
        ..BasicDerivation::default()
    }
}

/// The derivation of a golden file: outputs and environment.
fn golden(json: &Value) -> BasicDerivation {
    let mut drv = BasicDerivation::default();
    for name in json["outputs"].as_object().unwrap().keys() {
        drv.outputs.insert(name.clone(), DerivationOutput::Deferred);
    }
    for (name, value) in json["env"].as_object().unwrap() {
        drv.env
            .insert(name.as_str().into(), value.as_str().unwrap().into());
    }
    // The JSON form keeps the structured attributes beside the environment.
    if let Some(attributes) = json.get("structuredAttrs") {
        drv.env
            .insert("__json".into(), attributes.to_string().into_bytes());
    }
    drv
}

fn words(words: &BTreeSet<Vec<u8>>) -> Value {
    words.iter().map(|w| std::str::from_utf8(w).unwrap()).collect()
}

fn references(set: &BTreeSet<OutputReference>) -> Value {
    let mut items: Vec<Value> = set
        .iter()
        .map(|r| match r {
            OutputReference::Path(path) => json!(path.base_name()),
            OutputReference::Output(output) => json!({ "drvPath": "self", "output": output }),
        })
        .collect();
    // The golden files list outputs first.
    items.sort_by_key(|v| (v.is_string(), v.to_string()));
    items.into()
}

fn checks(checks: &OutputChecks) -> Value {
    json!({
        "ignoreSelfRefs": checks.ignore_self_references,
        "maxSize": checks.max_size,
        "maxClosureSize": checks.max_closure_size,
        "allowedReferences": checks.allowed_references.as_ref().map(references),
        "allowedRequisites": checks.allowed_requisites.as_ref().map(references),
        "disallowedReferences": references(&checks.disallowed_references),
        "disallowedRequisites": references(&checks.disallowed_requisites),
    })
}

/// In the form of the golden files, without what only macOS knows.
fn shown(options: &DerivationOptions) -> Value {
    let output_checks = if options.structured.is_some() {
        let per_output = options.output_checks.iter();
        json!({ "perOutput": per_output.map(|(o, c)| (o.clone(), checks(c))).collect::<serde_json::Map<_, _>>() })
    } else {
        json!({ "forAllOutputs": checks(&options.checks) })
    };
    let graph = options.export_references_graph.iter().map(|(name, paths)| {
        (
            name.clone(),
            paths.iter().map(StorePath::base_name).collect::<Value>(),
        )
    });
    json!({
        "outputChecks": output_checks,
        "unsafeDiscardReferences": options.unsafe_discard_references.iter().map(|o| (o.clone(), json!(true))).collect::<serde_json::Map<_, _>>(),
        "passAsFile": words(&options.pass_as_file),
        "exportReferencesGraph": graph.collect::<serde_json::Map<_, _>>(),
        "noChroot": options.no_chroot,
        "impureHostDeps": words(&options.impure_host_deps),
        "impureEnvVars": words(&options.impure_env_vars),
        "requiredSystemFeatures": words(&options.required_system_features),
        "preferLocalBuild": options.prefer_local_build,
        "allowSubstitutes": options.allow_substitutes,
    })
}

#[test]
fn golden_options() {
    let Some(folder) = shared::folder("vectors/nix/derivation/ia") else {
        return;
    };
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap()
    };
    for (file, expected) in [
        ("advanced-attributes", "all_set"),
        ("advanced-attributes-defaults", "defaults"),
        ("advanced-attributes-structured-attrs", "structuredAttrs_all_set"),
        (
            "advanced-attributes-structured-attrs-defaults",
            "structuredAttrs_defaults",
        ),
    ] {
        let drv = golden(&read(&format!("{file}.json")));
        let mut expected = read(&format!("derivation-options/{expected}.json"));
        let members = expected.as_object_mut().unwrap();
        members.remove("additionalSandboxProfile");
        members.remove("allowLocalNetworking");
        let options = DerivationOptions::of(&drv).unwrap();
        assert_eq!(options.structured.is_some(), file.contains("structured"));
        assert_eq!(shown(&options), expected, "{file}");
    }
}

#[test]
fn reads_what_the_golden_files_leave_out() {
    let options = DerivationOptions::of(&drv(&[("passAsFile", " a\tb\nc "), ("__impure", "1")])).unwrap();
    assert_eq!(words(&options.pass_as_file), json!(["a", "b", "c"]));
    assert!(options.impure);
    let json = r#"{"unsafeDiscardReferences":{"out":true,"dev":false},"passAsFile":["x"]}"#;
    let options = DerivationOptions::of(&drv(&[("__json", json)])).unwrap();
    assert_eq!(options.unsafe_discard_references, ["out".to_owned()].into());
    assert!(options.pass_as_file.is_empty());
}

#[test]
fn takes_a_path_below_a_store_path_for_the_path() {
    let path = format!("/nix/store/{}-a", "0".repeat(32));
    let options =
        DerivationOptions::of(&drv(&[("exportReferencesGraph", &format!("g {path}/bin/x"))])).unwrap();
    assert_eq!(
        options.export_references_graph["g"].first().unwrap().to_string(),
        path
    );
    let json = format!(r#"{{"exportReferencesGraph":{{"g":["{path}",["{path}/x"]]}}}}"#);
    let options = DerivationOptions::of(&drv(&[("__json", &json)])).unwrap();
    assert_eq!(options.export_references_graph["g"].len(), 1);
}

#[test]
fn errors_name_the_attribute() {
    let structured = |json: &'static str| ("__json", json);
    for (attribute, expected) in [
        (
            ("allowedReferences", "out lib"),
            "'allowedReferences' contains 'lib'",
        ),
        (
            ("disallowedRequisites", "/etc"),
            "'disallowedRequisites' contains '/etc'",
        ),
        (("exportReferencesGraph", "a"), "odd number of words"),
        (
            ("exportReferencesGraph", "../a /nix/store/x"),
            "invalid file name '../a'",
        ),
        (("exportReferencesGraph", "a /etc"), "'exportReferencesGraph'"),
        (structured("[]"), "not a JSON object"),
        (structured("{"), "'__json' cannot be read"),
        (
            structured(r#"{"__noChroot":"1"}"#),
            "'__noChroot' must be a Boolean",
        ),
        (
            structured(r#"{"impureEnvVars":"x"}"#),
            "'impureEnvVars' must be a list of strings",
        ),
        (
            structured(r#"{"outputChecks":[]}"#),
            "'outputChecks' must be an object",
        ),
        (
            structured(r#"{"outputChecks":{"out":{"maxSize":-1}}}"#),
            "'outputChecks.out.maxSize' must be a number of bytes",
        ),
        (
            structured(r#"{"outputChecks":{"out":{"allowedReferences":["lib"]}}}"#),
            "'outputChecks.out.allowedReferences' contains 'lib'",
        ),
        (
            structured(r#"{"unsafeDiscardReferences":{"out":1}}"#),
            "'unsafeDiscardReferences.out' must be a Boolean",
        ),
        (
            structured(r#"{"exportReferencesGraph":{"g":[1]}}"#),
            "'exportReferencesGraph.g' must be a path",
        ),
    ] {
        let drv = drv(&[attribute]);
        let error = DerivationOptions::of(&drv)
            .and_then(|o| o.check_outputs(&drv))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}
