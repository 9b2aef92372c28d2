//! Any tree.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Made, Source};

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => Just(b'.'),
        4 => b'a'..=b'c',
        1 => (1..=255_u8).prop_filter("no slash", |byte| *byte != b'/'),
    ];
    let long = (200..=255_usize, b'a'..=b'z').prop_map(|(length, byte)| vec![byte; length]);
    prop_oneof![
        4 => proptest::collection::vec(byte, 1..8),
        1 => long,
    ]
    .prop_filter("a name", |name| !matches!(name.as_slice(), b"." | b".."))
}

fn made() -> impl Strategy<Value = Made> {
    let size = prop_oneof![
        4 => 0..200_usize,
        2 => 1900..2200_usize,
        2 => 3900..4300_usize,
        1 => 0..20_000_usize,
    ];
    let leaf = prop_oneof![
        4 => size.prop_map(Made::file),
        1 => proptest::collection::vec(any::<u8>(), 0..50).prop_map(Made::Program),
        1 => (1..4096_usize).prop_map(|length| Made::Link(vec![b't'; length])),
        1 => Just(Made::Directory(vec![])),
    ];
    leaf.prop_recursive(5, 120, 40, |inner| {
        proptest::collection::btree_map(name(), inner, 0..40)
            .prop_map(|children| Made::Directory(children.into_iter().collect()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn is_read_back(trees in proptest::collection::btree_map(name(), made(), 0..6)) {
        let trees: BTreeMap<Vec<u8>, Made> = trees;
        Source::new(trees.iter().map(|(name, made)| (name.as_slice(), made))).check();
    }
}
