//! Hashes and base-32: every spelling reads back, and only real spellings are read.

#![expect(clippy::indexing_slicing, reason = "a failed test is the point")]

mod shared;

use firn_nix::{Hash, HashAlgo, HashError, NarHash, base32};
use proptest::prelude::*;

/// Digests that are published with the algorithms.
const ABC: [(HashAlgo, &str); 4] = [
    (HashAlgo::Md5, "900150983cd24fb0d6963f7d28e17f72"),
    (HashAlgo::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
    (
        HashAlgo::Sha256,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ),
    (
        HashAlgo::Sha512,
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ),
];

#[test]
fn digests() {
    for (algo, hex) in ABC {
        assert_eq!(algo.digest(b"abc").hex(), hex);
        assert_eq!(algo.len() * 2, hex.len());
    }
}

#[test]
fn spellings_of_one_hash() {
    let hash = Hash::sha256(b"abc");
    let nix32 = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
    let base64 = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    assert_eq!(hash.nix32(), nix32);
    assert_eq!(hash.base64(), base64);
    assert_eq!(hash.to_string(), format!("sha256:{nix32}"));
    assert_eq!(hash.sri(), format!("sha256-{base64}"));
    assert_eq!(NarHash::parse(nix32).unwrap().to_hash(), hash);
}

#[test]
fn golden_hashes() {
    let Some(folder) = shared::folder("vectors/nix/hash") else {
        return;
    };
    let read = |name: &str| -> String {
        serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap()
    };
    let text = read("sha256.json");
    assert_eq!(Hash::parse(&text, None).unwrap().sri(), text);
    assert_eq!(
        Hash::parse(&read("blake3.json"), None),
        Err(HashError::Algorithm("blake3".to_owned()))
    );
}

#[test]
fn refuses_what_is_none() {
    let good = Hash::sha256(b"abc");
    for bad in [
        String::new(),
        "sha256:".to_owned(),
        good.hex(),
        format!("sha1:{}", good.hex()),
        format!("sha256:{}0", good.hex()),
        format!("sha256:{}", good.hex().replace('b', "g")),
        format!("sha256:{}", good.nix32().replace('1', "e")),
        format!("sha256-{}", good.base64().replace('=', "!")),
        format!("sha256 :{}", good.hex()),
        // Bits beyond the last byte.
        format!("sha256:{}", good.nix32().replacen('1', "z", 1)),
    ] {
        assert!(Hash::parse(&bad, None).is_err(), "{bad}");
    }
    assert!(Hash::parse(&good.to_string(), Some(HashAlgo::Sha1)).is_err());
}

fn hash() -> impl Strategy<Value = Hash> {
    (0..4usize, any::<Vec<u8>>()).prop_map(|(i, data)| HashAlgo::ALL[i].digest(&data))
}

proptest! {
    #[test]
    fn every_spelling_reads_back(hash in hash()) {
        let name = hash.algo().name();
        for digest in [hash.hex(), hash.nix32(), hash.base64(), hash.hex().to_uppercase()] {
            prop_assert_eq!(Hash::parse_digest(hash.algo(), &digest).unwrap(), hash);
            prop_assert_eq!(Hash::parse(&digest, Some(hash.algo())).unwrap(), hash);
            prop_assert_eq!(Hash::parse(&format!("{name}:{digest}"), None).unwrap(), hash);
        }
        prop_assert_eq!(Hash::parse(&hash.sri(), None).unwrap(), hash);
        prop_assert_eq!(Hash::new(hash.algo(), hash.bytes()).unwrap(), hash);
    }

    #[test]
    fn base32_reads_back(bytes: [u8; 20], digits in proptest::collection::vec(0..32usize, 32)) {
        let text = base32::encode(&bytes);
        prop_assert_eq!(text.len(), base32::encoded_len(20));
        prop_assert_eq!(base32::decode::<20>(text.as_bytes()), Some(bytes));
        // 160 bits are 32 digits exactly, so every text is some bytes.
        let text: Vec<u8> = digits.into_iter().map(|d| base32::ALPHABET[d]).collect();
        let bytes = base32::decode::<20>(&text).unwrap();
        prop_assert_eq!(base32::encode(&bytes).into_bytes(), text);
    }

    #[test]
    fn base32_is_one_to_one(text in "[0-9a-z]{26}") {
        if let Some(bytes) = base32::decode::<16>(text.as_bytes()) {
            prop_assert_eq!(base32::encode(&bytes), text);
        }
    }

    #[test]
    fn garbage_is_an_error_not_a_panic(text: String, algo in 0..4usize) {
        let _ = Hash::parse(&text, None);
        let _ = Hash::parse_digest(HashAlgo::ALL[algo], &text);
        let _ = base32::decode::<32>(text.as_bytes());
    }
}
