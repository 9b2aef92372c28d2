//! Realisations as Nix 2.4 to 2.34 writes them.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failed test is the point"
)]

mod shared;

use firn_nix::realisation::{DrvId, DrvOutput, Realisation};
use firn_nix::signature::SecretKey;

const SMALL: &str = r#"{"dependentRealisations":{"sha256:6f869f9ea2823bda165e06076fd0de4366dead2c0e8d2dbbad277d4f15c373f5!quux":"g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-foo"},"id":"sha256:15e3c560894cbb27085cf65b5a2ecb18488c999497f4531b6907a7581ce6d527!baz","outPath":"g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-foo","signatures":[]}"#;

/// The strings of a file of the wire format.
fn strings(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<8>() {
        let len = usize::try_from(u64::from_le_bytes(*len)).unwrap();
        out.push(rest[..len].to_vec());
        bytes = &rest[len.next_multiple_of(8)..];
    }
    out
}

#[test]
fn golden_texts() {
    let Some(folder) = shared::folder("vectors/nix/common-protocol") else {
        return;
    };
    let mut count = 0;
    for file in ["realisation.bin", "realisation-with-deps.bin"] {
        for text in strings(&std::fs::read(folder.join(file)).unwrap()) {
            let realisation = Realisation::parse(&text).unwrap();
            let ours = realisation.to_json();
            assert_eq!(Realisation::parse(ours.as_bytes()).unwrap(), realisation);
            let text = String::from_utf8(text).unwrap();
            if !text.contains("keyName") {
                assert_eq!(ours, text);
            }
            count += 1;
        }
    }
    assert_eq!(count, 3);
    for id in strings(&std::fs::read(folder.join("drv-output.bin")).unwrap()) {
        let id = String::from_utf8(id).unwrap();
        assert_eq!(id.parse::<DrvOutput>().unwrap().to_string(), id);
    }
}

/// The form since Nix 2.35, in which the derivation is named by its path.
#[test]
fn golden_texts_with_paths() {
    let Some(folder) = shared::folder("vectors/nix/realisation") else {
        return;
    };
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    for case in ["simple", "with-signature"] {
        let realisation = Realisation::parse(read(&format!("{case}.json")).as_bytes()).unwrap();
        let DrvId::Resolved(drv) = &realisation.id.drv else {
            panic!()
        };
        assert_eq!(drv.name(), "bar.drv");
        assert_eq!(
            realisation.fingerprint(),
            read(&format!("{case}-fingerprint.txt")).trim_end()
        );
        let again = Realisation::parse(realisation.to_json().as_bytes()).unwrap();
        assert_eq!(again, realisation);
        assert_eq!(realisation.signatures.len(), usize::from(case != "simple"));
    }
    let texts = ["with-signature", "with-signature-unstructured"]
        .map(|file| Realisation::parse(read(&format!("{file}.json")).as_bytes()).unwrap());
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn names_of_derivations() {
    for text in [
        "sha256:15e3c560894cbb27085cf65b5a2ecb18488c999497f4531b6907a7581ce6d527",
        "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-foo.drv",
    ] {
        assert_eq!(text.parse::<DrvId>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "sha256:1",
        "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-foo",
        "/nix/store/x.drv",
    ] {
        assert!(text.parse::<DrvId>().is_err(), "{text}");
    }
}

#[test]
fn the_fingerprint_leaves_out_the_signatures() {
    let mut realisation = Realisation::parse(SMALL.as_bytes()).unwrap();
    assert_eq!(realisation.to_json(), SMALL);
    let fingerprint = SMALL.replace(r#","signatures":[]"#, "");
    assert_eq!(realisation.fingerprint(), fingerprint);
    let key = SecretKey::from_seed("k", &[1; 32]).unwrap();
    realisation.signatures.insert(key.sign(fingerprint.as_bytes()));
    assert_eq!(realisation.fingerprint(), fingerprint);
    assert!(realisation.signed_by(&[key.public_key()]).is_some());
    let again = Realisation::parse(realisation.to_json().as_bytes()).unwrap();
    assert_eq!(again, realisation);
}

#[test]
fn refuses_what_is_none() {
    for (text, expected) in [
        ("[]".to_owned(), "'id' must be a string"),
        (SMALL.replace("!baz", ""), "is not the id"),
        (SMALL.replace("!baz", "!b/z"), "is not the id"),
        (SMALL.replace("sha256:15", "sha256:"), "is not a sha256 hash"),
        (
            SMALL.replace("\"outPath\":\"", "\"outPath\":\"/nix/store/"),
            "hash part",
        ),
        (SMALL.replace("[]", "[1]"), "'signatures' must be"),
        (SMALL.replace("[]", "{}"), "'signatures' must be"),
        (SMALL.replace("}", ""), "JSON, byte"),
    ] {
        let error = Realisation::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
