//! Recorded values of Nix's own unit tests: read and written in every version that a session speaks.
//!
//! Not applicable: `serve-protocol/build-result-2.7-compat` (written by servers that do not know the derivation's hash) and the
//! serve protocol's realisations on their own (no command has them), `*valid-path-info-1.15` (before the oldest version that is served).

#![expect(clippy::unwrap_used, reason = "a test shows by panicking what is wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use firn_nix::{ContentAddress, Hash, NarHash, PathInfo, StorePath};
use firn_protocol::codec::{RealisationForm, format_derived_path, parse_derived_path};
use firn_protocol::serve::{self, ServeBuildOptions};
use firn_protocol::wire::{Decoder, Encoder, WireLimits};
use firn_protocol::worker::{self, Version};
use firn_protocol::{BuildMode, BuildResult, BuildStatus, BuiltOutput, DerivedPath, OutputsSpec};
use serde_json::Value;

mod support;

/// Reads the bytes with `decode`, expects the value of the JSON, and writes the bytes again.
macro_rules! both_ways {
    ($dir:expr, $name:expr, $expected:expr, |$d:ident| $decode:expr, |$e:ident, $v:ident| $encode:expr) => {{
        let (raw, json) = load($dir, $name);
        let expected: Vec<_> = json.as_array().unwrap().iter().map($expected).collect();
        let (mut source, limits) = (raw.as_slice(), WireLimits::default());
        let mut decoder = Decoder::new(&mut source, &limits);
        let mut found = Vec::new();
        for _ in &expected {
            let $d = &mut decoder;
            found.push($decode);
        }
        assert_eq!(found, expected, "{}", $name);
        assert!(source.is_empty(), "{}: bytes are left", $name);
        let mut encoder = Encoder::default();
        for $v in &expected {
            let $e = &mut encoder;
            $encode;
        }
        assert_eq!(encoder.as_bytes(), raw, "{}", $name);
    }};
}

fn load(dir: &Path, name: &str) -> (Vec<u8>, Value) {
    let raw = std::fs::read(dir.join(format!("{name}.bin"))).unwrap();
    let json = std::fs::read(dir.join(format!("{name}.json"))).unwrap();
    (raw, serde_json::from_slice(&json).unwrap())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn base(value: &Value) -> StorePath {
    StorePath::from_base_name(value.as_str().unwrap().as_bytes()).unwrap()
}

fn optional<T>(value: &Value, each: impl Fn(&Value) -> T) -> Option<T> {
    (!value.is_null()).then(|| each(value))
}

fn ca(value: &Value) -> ContentAddress {
    let method = match value["method"].as_str().unwrap() {
        "text" => firn_nix::CaMethod::Text,
        "flat" => firn_nix::CaMethod::Flat,
        "nar" => firn_nix::CaMethod::Nar,
        other => panic!("{other}"),
    };
    let hash = Hash::parse(value["hash"].as_str().unwrap(), None).unwrap();
    ContentAddress { method, hash }
}

fn signature(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        v => format!(
            "{}:{}",
            v["keyName"].as_str().unwrap(),
            v["sig"].as_str().unwrap()
        ),
    }
}

fn path_info(value: &Value) -> PathInfo {
    let path = value.get("path").map_or_else(|| support::path("x"), base);
    PathInfo {
        path,
        deriver: optional(&value["deriver"], base),
        nar_hash: NarHash::parse(value["narHash"].as_str().unwrap()).unwrap(),
        references: value["references"].as_array().unwrap().iter().map(base).collect(),
        registration_time: value["registrationTime"].as_u64().unwrap_or(0),
        nar_size: value["narSize"].as_u64().unwrap(),
        ultimate: value["ultimate"].as_bool().unwrap(),
        signatures: value["signatures"]
            .as_array()
            .unwrap()
            .iter()
            .map(signature)
            .collect(),
        ca: optional(&value["ca"], ca),
    }
}

fn build_result(value: &Value) -> BuildResult {
    let status = BuildStatus::ALL
        .into_iter()
        .find(|s| format!("{s:?}") == value["status"].as_str().unwrap())
        .unwrap();
    let error = value.get("errorMsg").map_or_else(String::new, text);
    let number = |key: &str| value.get(key).and_then(Value::as_u64);
    let mut outputs = BTreeMap::new();
    for (name, output) in value
        .get("builtOutputs")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        // Where derivations are named by their paths, the hash is not there.
        let drv_hash = output["id"].as_str().map_or_else(String::new, |id| {
            let hash = id.strip_prefix("sha256:").unwrap();
            hash.split_once('!').unwrap().0.to_owned()
        });
        let signatures: BTreeSet<String> = output["signatures"]
            .as_array()
            .unwrap()
            .iter()
            .map(signature)
            .collect();
        let out_path = base(&output["outPath"]);
        outputs.insert(
            name.clone(),
            BuiltOutput {
                drv_hash,
                out_path,
                signatures,
                path_signatures: BTreeSet::new(),
            },
        );
    }
    BuildResult {
        is_non_deterministic: value
            .get("isNonDeterministic")
            .is_some_and(|v| v.as_bool().unwrap()),
        times_built: number("timesBuilt").unwrap(),
        start_time: number("startTime").unwrap(),
        stop_time: number("stopTime").unwrap(),
        cpu_user: number("cpuUser"),
        cpu_system: number("cpuSystem"),
        built_outputs: outputs,
        ..BuildResult::new(status, error)
    }
}

fn derived_path(value: &Value) -> DerivedPath {
    if value.is_string() {
        return DerivedPath::Opaque(base(value));
    }
    let names: BTreeSet<String> = value["outputs"].as_array().unwrap().iter().map(text).collect();
    DerivedPath::Built {
        drv_path: base(&value["drvPath"]),
        outputs: if names.contains("*") {
            OutputsSpec::All
        } else {
            OutputsSpec::Names(names)
        },
    }
}

#[tokio::test]
async fn primitives() {
    let Some(vectors) = support::shared_vectors() else {
        return;
    };
    for protocol in ["common-protocol", "worker-protocol", "serve-protocol"] {
        let dir = &vectors.join(protocol);
        both_ways!(
            dir,
            "string",
            |v| text(v).into_bytes(),
            |d| d.bytes("").await.unwrap(),
            |e, v| e.bytes(v)
        );
        both_ways!(dir, "store-path", base, |d| d.path("").await.unwrap(), |e, v| e
            .path(v));
        both_ways!(
            dir,
            "optional-store-path",
            |v| optional(v, base),
            |d| d.optional_path("").await.unwrap(),
            |e, v| e.optional_path(v.as_ref())
        );
        both_ways!(
            dir,
            "content-address",
            |v| Some(ca(v)),
            |d| d.optional_ca("").await.unwrap(),
            |e, v| e.optional_ca(v.as_ref())
        );
        both_ways!(
            dir,
            "optional-content-address",
            |v| optional(v, ca),
            |d| d.optional_ca("").await.unwrap(),
            |e, v| e.optional_ca(v.as_ref())
        );
        // Three sets, or lists, of strings, then one of sets: the fourth has three inside.
        for name in ["set", "vector"] {
            let (raw, json) = load(dir, name);
            let (mut source, limits) = (raw.as_slice(), WireLimits::default());
            let mut d = Decoder::new(&mut source, &limits);
            let mut e = Encoder::default();
            let flat = json.as_array().unwrap();
            let nested = flat[3].as_array().unwrap();
            for (n, list) in flat[..3].iter().chain(nested).enumerate() {
                if n == 3 {
                    assert_eq!(d.count(9, "").await.unwrap(), 3);
                    e.u64(3);
                }
                let list: Vec<String> = list.as_array().unwrap().iter().map(text).collect();
                for (k, item) in list.iter().enumerate() {
                    if k == 0 {
                        assert_eq!(d.count(9, "").await.unwrap(), list.len() as u64);
                    }
                    assert_eq!(&d.text("").await.unwrap(), item);
                }
                if list.is_empty() {
                    assert_eq!(d.count(9, "").await.unwrap(), 0);
                }
                e.texts(&list);
            }
            assert!(source.is_empty());
            assert_eq!(e.as_bytes(), raw, "{name}");
        }
    }
}

#[tokio::test]
async fn path_infos() {
    let Some(vectors) = support::shared_vectors() else {
        return;
    };
    let dir = &vectors.join("worker-protocol");
    both_ways!(
        dir,
        "valid-path-info-1.16",
        path_info,
        |d| d.path_info().await.unwrap(),
        |e, v| e.path_info(v)
    );
    let dir = &vectors.join("serve-protocol");
    for minor in [3, 4] {
        let version = serve::Version::new(minor);
        both_ways!(
            dir,
            &format!("unkeyed-valid-path-info-2.{minor}"),
            path_info,
            |d| d.serve_path_info(support::path("x"), version).await.unwrap(),
            |e, v| e.serve_path_info(v, version)
        );
    }
}

#[tokio::test]
async fn build_results() {
    let Some(vectors) = support::shared_vectors() else {
        return;
    };
    let dir = &vectors.join("worker-protocol");
    for minor in [27, 28, 29, 37] {
        let format = Version::new(minor).result_format();
        both_ways!(
            dir,
            &format!("build-result-1.{minor}"),
            build_result,
            |d| d.build_result(format).await.unwrap(),
            |e, v| e.build_result(v, format)
        );
    }
    let format = Version::NEWEST.with_realisation_paths().result_format();
    both_ways!(
        dir,
        "build-result-realisation-with-path-not-hash",
        build_result,
        |d| d.build_result(format).await.unwrap(),
        |e, v| e.build_result(v, format)
    );
    let format = Version::new(29).result_format();
    both_ways!(
        dir,
        "keyed-build-result-1.29",
        |v| (derived_path(&v["path"]), build_result(v)),
        |d| (
            parse_derived_path(&d.bytes("").await.unwrap(), true).unwrap(),
            d.build_result(format).await.unwrap()
        ),
        |e, v| e
            .text(&format_derived_path(&v.0, true))
            .build_result(&v.1, format)
    );
    let dir = &vectors.join("serve-protocol");
    for minor in [2, 3, 6, 8] {
        let format = serve::Version::new(minor).result_format();
        both_ways!(
            dir,
            &format!("build-result-2.{minor}"),
            build_result,
            |d| d.build_result(format).await.unwrap(),
            |e, v| e.build_result(v, format)
        );
    }
}

/// Newer servers leave fields out of realisations and send a hash of zeros: readable, but not how a session writes them.
#[tokio::test]
async fn build_results_of_newer_servers() {
    let Some(vectors) = support::shared_vectors() else {
        return;
    };
    let (raw, _) = load(&vectors.join("worker-protocol"), "build-result-1.29-compat");
    let limits = WireLimits::default();
    let mut source = raw.as_slice();
    let mut d = Decoder::new(&mut source, &limits);
    let mut last = None;
    for _ in 0..3 {
        last = Some(d.build_result(Version::new(29).result_format()).await.unwrap());
    }
    assert!(source.is_empty());
    let outputs = last.unwrap().built_outputs;
    assert_eq!(outputs["foo"].out_path, support::path("foo"));
    assert_eq!(outputs["foo"].drv_hash, "0".repeat(64));
}

#[tokio::test]
async fn realisations() {
    let Some(vectors) = support::shared_vectors() else {
        return;
    };
    let read = |name: &str| std::fs::read(vectors.join("worker-protocol").join(name)).unwrap();
    let limits = WireLimits::default();
    for (file, with_paths, count) in [
        ("drv-output.bin", false, 2),
        ("drv-output-realisation-with-path-not-hash.bin", true, 2),
    ] {
        let raw = read(file);
        let (mut source, mut e) = (raw.as_slice(), Encoder::default());
        for _ in 0..count {
            let id = Decoder::new(&mut source, &limits).drv_output(with_paths).await;
            e.drv_output(&id.unwrap());
        }
        assert!(source.is_empty());
        assert_eq!(e.as_bytes(), raw, "{file}");
    }
    for (file, form, count) in [
        ("realisation.bin", RealisationForm::Json, 2),
        ("realisation-with-deps.bin", RealisationForm::Json, 1),
        (
            "realisation-realisation-with-path-not-hash.bin",
            RealisationForm::Fields,
            1,
        ),
    ] {
        let raw = read(file);
        let mut source = raw.as_slice();
        for _ in 0..count {
            let found = Decoder::new(&mut source, &limits)
                .realisation(form)
                .await
                .unwrap();
            let mut e = Encoder::default();
            e.realisation(&found, form);
            if form == RealisationForm::Fields {
                assert_eq!(e.as_bytes(), raw, "{file}");
                let mut e = Encoder::default();
                e.unkeyed_realisation(&found);
                let unkeyed = read("unkeyed-realisation-realisation-with-path-not-hash.bin");
                assert_eq!(e.as_bytes(), unkeyed);
            }
            // Signatures may be objects in what is read; they are written as text.
            let again = Decoder::new(&mut e.as_bytes(), &limits).realisation(form).await;
            assert_eq!(again.unwrap(), found, "{file}");
        }
        assert!(source.is_empty());
    }
}

#[tokio::test]
async fn derived_paths() {
    let Some(vectors) = support::shared_vectors() else {
        return;
    };
    let dir = &vectors.join("worker-protocol");
    for (minor, legacy) in [(29, true), (30, false)] {
        both_ways!(
            dir,
            &format!("derived-path-1.{minor}"),
            derived_path,
            |d| parse_derived_path(&d.bytes("").await.unwrap(), legacy).unwrap(),
            |e, v| e.text(&format_derived_path(v, legacy))
        );
    }
}

#[tokio::test]
async fn build_options() {
    let Some(vectors) = support::shared_vectors() else {
        return;
    };
    for minor in [1, 2, 3, 7] {
        let version = serve::Version::new(minor);
        let file = vectors.join(format!("serve-protocol/build-options-2.{minor}.bin"));
        let raw = std::fs::read(file).unwrap();
        let (mut source, limits) = (raw.as_slice(), WireLimits::default());
        let options = ServeBuildOptions::decode(&mut Decoder::new(&mut source, &limits), version)
            .await
            .unwrap();
        assert!(source.is_empty());
        assert_eq!(options.limits.max_silent_time, Some(5));
        assert_eq!(options.limits.timeout, Some(6));
        assert_eq!(options.limits.max_log_size, (minor >= 2).then_some(7));
        assert_eq!(options.repeats, if minor >= 3 { 8 } else { 0 });
        assert_eq!(options.keep_failed, minor >= 7);
        let mut e = Encoder::default();
        options.encode(version, &mut e);
        assert_eq!(e.as_bytes(), raw);
    }
}

/// The recorded handshakes are of other versions than ours; only the form can be compared.
#[tokio::test]
async fn handshakes() {
    let Some(vectors) = support::shared_vectors() else {
        return;
    };
    let read = |name: &str| std::fs::read(vectors.join(name)).unwrap();
    let mut e = Encoder::default();
    e.u64(worker::SERVER_MAGIC).u64(Version::new(10).to_wire());
    assert_eq!(e.as_bytes(), read("worker-protocol/handshake-to-client.bin"));
    let mut e = Encoder::default();
    e.u64(serve::SERVER_MAGIC).u64(serve::Version::new(5).to_wire());
    assert_eq!(e.as_bytes(), read("serve-protocol/handshake-to-client.bin"));
}

/// What follows the versions: the daemon's version since 1.33, the trust flag since 1.35 (0 unknown, 1 trusted, 2 not).
#[tokio::test]
async fn words_of_the_handshake_and_of_requests() {
    let Some(vectors) = support::shared_vectors() else {
        return;
    };
    let read = |name: &str| std::fs::read(vectors.join("worker-protocol").join(name)).unwrap();
    let mut e = Encoder::default();
    e.text("foo").text("bar");
    assert_eq!(e.as_bytes(), read("client-handshake-info_1_33.bin"));
    let mut e = Encoder::default();
    e.text("foo").u64(2).text("bar").u64(1);
    assert_eq!(e.as_bytes(), read("client-handshake-info_1_35.bin"));
    let mut modes = Vec::new();
    for mode in [BuildMode::Normal, BuildMode::Repair, BuildMode::Check] {
        let mut e = Encoder::default();
        worker::Request::BuildPaths(Vec::new(), mode).encode(Version::NEWEST, &mut e);
        modes.extend_from_slice(&e.as_bytes()[16..]);
    }
    assert_eq!(modes, read("build-mode.bin"));
}
