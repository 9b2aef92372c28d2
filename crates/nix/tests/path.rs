//! Store paths and content addresses.

#![expect(clippy::unwrap_used, reason = "a failed test is the point")]

mod shared;

use std::collections::BTreeSet;

use firn_nix::{CaMethod, ContentAddress, Hash, HashAlgo, PathInfo, StorePath};
use proptest::prelude::*;

const DIGITS: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q";

fn json(path: &std::path::Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn golden_path() {
    let Some(folder) = shared::folder("vectors/nix/store-path") else {
        return;
    };
    let json = json(&folder.join("simple.json"));
    let path = StorePath::from_base_name(json.as_str().unwrap().as_bytes()).unwrap();
    assert_eq!((path.hash_part(), path.name()), (DIGITS, "foo.drv"));
    assert_eq!(path.derivation_name(), Some("foo"));
}

#[test]
fn golden_content_addresses() {
    let Some(folder) = shared::folder("vectors/nix") else {
        return;
    };
    let mut values: Vec<_> = ["nar", "text"]
        .map(|name| json(&folder.join(format!("content-address/{name}.json"))))
        .into();
    values.extend(
        json(&folder.join("common-protocol/content-address.json"))
            .as_array()
            .unwrap()
            .clone(),
    );
    for value in values {
        let method = match value["method"].as_str().unwrap() {
            "nar" => CaMethod::Nar,
            "flat" => CaMethod::Flat,
            _ => CaMethod::Text,
        };
        let hash = Hash::parse(value["hash"].as_str().unwrap(), None).unwrap();
        let ca = ContentAddress { method, hash };
        assert_eq!(ContentAddress::parse(&ca.to_string()).unwrap(), ca);
    }
    let bytes = std::fs::read(folder.join("common-protocol/content-address.bin")).unwrap();
    let ca = ContentAddress {
        method: CaMethod::Flat,
        hash: Hash::parse("sha1-gGemBoenViNZM3hiwqns/Fgzqwo=", None).unwrap(),
    };
    let text = ca.to_string();
    assert!(bytes.windows(text.len()).any(|w| w == text.as_bytes()));
}

/// A path that Nix computed.
#[test]
fn golden_content_addressed_paths() {
    let hash = Hash::parse(
        "894517c9163c896ec31a2adbd33c0681fd5f45b2c0ef08a64c92a03fb97f390f",
        Some(HashAlgo::Sha256),
    );
    let method = CaMethod::Nar;
    let ca = ContentAddress {
        method,
        hash: hash.unwrap(),
    };
    let path = StorePath::make_content_addressed("source", &ca, &BTreeSet::new(), false).unwrap();
    assert_eq!(path.base_name(), "i00sflxqsj37lfmf95m8mn0grv615hpj-source");
}

#[test]
fn golden_path_infos_have_the_fingerprint_of_their_parts() {
    let Some(folder) = shared::folder("vectors/nix/path-info/json-1") else {
        return;
    };
    let json = json(&folder.join("impure.json"));
    let path = |v: &serde_json::Value| StorePath::parse(v.as_str().unwrap().as_bytes()).unwrap();
    let references = json["references"].as_array().unwrap();
    let info = PathInfo {
        path: path(&references[1]),
        deriver: Some(path(&json["deriver"])),
        nar_hash: firn_nix::NarHash::parse(json["narHash"].as_str().unwrap()).unwrap(),
        references: references.iter().map(path).collect(),
        registration_time: 23_423,
        nar_size: json["narSize"].as_u64().unwrap(),
        ultimate: true,
        signatures: BTreeSet::new(),
        ca: Some(ContentAddress::parse(json["ca"].as_str().unwrap()).unwrap()),
    };
    assert_eq!(
        info.fingerprint(),
        "1;/nix/store/n5wkd9frr45pa74if5gpz9j7mifg27fh-foo;sha256:09ymwqf5i9q7d4dm7x4pjjcqqj0qrcp5lnznbh42gfsci5hcbqqm;34878;\
         /nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-bar,/nix/store/n5wkd9frr45pa74if5gpz9j7mifg27fh-foo"
    );
}

#[test]
fn refuses_bad_names() {
    let long = "a".repeat(211);
    for good in ["a", "+-._?=Az09", ".a", "..a", "...", &long] {
        assert!(StorePath::new(&[0; 20], good).is_ok(), "{good}");
    }
    let longer = "a".repeat(212);
    for bad in [
        "", ".", "..", ".-a", "..-a", "a/b", "a b", "a\0", "ä", "a~", &longer,
    ] {
        assert!(StorePath::new(&[0; 20], bad).is_err(), "{bad}");
    }
    for bad in [
        format!("/nix/store/{DIGITS}"),
        format!("/nix/store/{DIGITS}-"),
        format!("/nix/store/{DIGITS}-a/"),
        format!("/nix/store//{DIGITS}-a"),
        format!("/nix/store/{}-a", DIGITS.replace('g', "e")),
        format!("/nix/stores/{DIGITS}-a"),
        format!("{DIGITS}-a"),
    ] {
        assert!(StorePath::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn references_are_only_where_a_method_allows_them() {
    let other: BTreeSet<_> = [StorePath::new(&[1; 20], "a").unwrap()].into();
    let make = |method, references: &BTreeSet<StorePath>, itself| {
        let hash = Hash::sha256(b"x");
        StorePath::make_content_addressed("n", &ContentAddress { method, hash }, references, itself)
    };
    let none = BTreeSet::new();
    assert!(make(CaMethod::Flat, &other, false).is_err());
    assert!(make(CaMethod::Flat, &none, true).is_err());
    assert!(make(CaMethod::Text, &other, true).is_err());
    let paths: BTreeSet<_> = [
        make(CaMethod::Flat, &none, false),
        make(CaMethod::Text, &none, false),
        make(CaMethod::Text, &other, false),
        make(CaMethod::Nar, &none, false),
        make(CaMethod::Nar, &other, false),
        make(CaMethod::Nar, &other, true),
        make(CaMethod::Nar, &none, true),
    ]
    .map(Result::unwrap)
    .into();
    assert_eq!(paths.len(), 7);
}

#[test]
fn refuses_bad_content_addresses() {
    let hash = Hash::sha256(b"x");
    for bad in [
        String::new(),
        format!("fixed:{}", hash.nix32()),
        format!("fixed:text:{hash}"),
        format!("text:r:{hash}"),
        format!("text:{}", HashAlgo::Sha1.digest(b"x")),
        format!("flat:{hash}"),
        "fixed:r:sha256:".to_owned(),
    ] {
        assert!(ContentAddress::parse(&bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn paths_read_back(hash: [u8; 20], name in "[0-9a-zA-Z+_?=][0-9a-zA-Z+._?=-]{0,40}") {
        let path = StorePath::new(&hash, &name).unwrap();
        prop_assert_eq!(path.name(), name);
        prop_assert_eq!(StorePath::parse(path.to_string().as_bytes()).unwrap(), path);
    }

    #[test]
    fn order_is_that_of_full_paths(a: [u8; 20], b: [u8; 20], x in "[a-z.-]{1,3}", y in "[a-z.-]{1,3}") {
        if let (Ok(p), Ok(q)) = (StorePath::new(&a, &x), StorePath::new(&b, &y)) {
            prop_assert_eq!(p.cmp(&q), p.to_string().cmp(&q.to_string()));
        }
    }

    #[test]
    fn content_addresses_read_back(data: Vec<u8>, algo in 0..4usize, method in 0..4usize) {
        let method = [CaMethod::Text, CaMethod::Flat, CaMethod::Nar, CaMethod::Git][method];
        let hash = HashAlgo::ALL[algo].digest(&data);
        let ca = ContentAddress { method, hash };
        let read = ContentAddress::parse(&ca.to_string());
        if method == CaMethod::Text && hash.algo() != HashAlgo::Sha256 {
            prop_assert!(read.is_err());
        } else {
            prop_assert_eq!(read.unwrap(), ca);
        }
    }

    #[test]
    fn garbage_is_an_error_not_a_panic(bytes: Vec<u8>, text: String) {
        let _ = StorePath::parse(&bytes);
        let _ = StorePath::from_base_name(&bytes);
        let _ = ContentAddress::parse(&text);
    }
}
