//! The reference scan against a scan that looks at every position.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failed test is the point"
)]

use std::collections::BTreeSet;

use firn_nix::refscan::RefScanner;
use firn_nix::{StorePath, base32};
use proptest::prelude::*;

fn naive(candidates: &BTreeSet<StorePath>, data: &[u8]) -> BTreeSet<StorePath> {
    candidates
        .iter()
        .filter(|p| data.windows(32).any(|w| w == p.hash_part().as_bytes()))
        .cloned()
        .collect()
}

fn path(hash: [u8; 20], name: &str) -> StorePath {
    StorePath::new(&hash, name).unwrap()
}

/// Pieces of a stream: noise, digits, whole hash parts, hash parts with a wrong end.
fn piece(n: usize) -> impl Strategy<Value = Piece> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80).prop_map(Piece::Bytes),
        proptest::collection::vec(0..32usize, 0..80)
            .prop_map(|v| Piece::Bytes(v.into_iter().map(|d| base32::ALPHABET[d]).collect())),
        (0..n).prop_map(Piece::Hash),
        (0..n, 0..32usize).prop_map(|(i, cut)| Piece::Part(i, cut)),
    ]
}

#[derive(Clone, Debug)]
enum Piece {
    Bytes(Vec<u8>),
    Hash(usize),
    Part(usize, usize),
}

proptest! {
    #[test]
    fn finds_what_a_naive_scan_finds(
        hashes in proptest::collection::vec(any::<[u8; 20]>(), 8),
        pieces in proptest::collection::vec(piece(8), 0..12),
        cuts in proptest::collection::vec(1..70usize, 1..40),
    ) {
        let paths: Vec<_> = hashes.into_iter().map(|h| path(h, "a")).collect();
        let mut data = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(b) => data.extend(b),
                Piece::Hash(i) => data.extend(paths[i].hash_part().bytes()),
                Piece::Part(i, cut) => data.extend(paths[i].hash_part().bytes().take(cut)),
            }
        }
        let candidates: BTreeSet<_> = paths.into_iter().collect();
        let mut scan = RefScanner::new(&candidates);
        let mut rest = data.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, next) = rest.split_at(rest.len().min(*cut));
            scan.push(chunk);
            rest = next;
        }
        prop_assert_eq!(scan.found(), naive(&candidates, &data));
    }
}

#[test]
fn two_names_with_one_hash_part_are_both_found() {
    let candidates: BTreeSet<_> = [path([7; 20], "a"), path([7; 20], "b"), path([8; 20], "c")].into();
    let mut scan = RefScanner::new(&candidates);
    for byte in path([7; 20], "x").to_string().bytes() {
        scan.push(&[byte]);
    }
    let found: Vec<_> = scan.found().into_iter().map(|p| p.name().to_owned()).collect();
    assert_eq!(found, ["a", "b"]);
}

#[test]
fn nothing_is_found_for_nothing() {
    let mut scan = RefScanner::new(&BTreeSet::new());
    scan.push(&[b'0'; 100]);
    assert!(scan.found().is_empty());
}
