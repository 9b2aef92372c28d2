//! Closures and their sizes.

#![expect(clippy::unwrap_used, reason = "a failed test is the point")]

use std::collections::{BTreeMap, BTreeSet};

use firn_nix::graph::{GraphError, closure_size, closure_sizes, exported, registration};
use firn_nix::{NarHash, PathInfo, StorePath};
use proptest::prelude::*;

fn path(n: u8, name: &str) -> StorePath {
    StorePath::new(&[n; 20], name).unwrap()
}

fn store(edges: &[(u8, Vec<u8>)]) -> BTreeMap<StorePath, PathInfo> {
    let info = |(n, references): &(u8, Vec<u8>)| PathInfo {
        path: path(*n, "p"),
        deriver: None,
        nar_hash: NarHash::new([*n; 32]),
        references: references.iter().map(|r| path(*r, "p")).collect(),
        registration_time: 0,
        nar_size: 1 << n,
        ultimate: false,
        signatures: BTreeSet::new(),
        ca: None,
    };
    edges.iter().map(info).map(|i| (i.path.clone(), i)).collect()
}

#[test]
fn only_inputs_may_be_described() {
    let infos = store(&[(1, vec![2]), (2, vec![])]);
    let (one, two) = (path(1, "p"), path(2, "p"));
    let none = |_: &StorePath| BTreeSet::new();
    let error = exported(&[one.clone()].into(), &[two.clone()].into(), &infos, none);
    assert_eq!(error, Err(GraphError::NotAnInput(one.clone())));
    let paths = exported(&[one.clone()].into(), &[one.clone()].into(), &infos, none).unwrap();
    assert_eq!(paths, [one.clone(), two.clone()].into());
    assert_eq!(
        registration(&paths, &infos).unwrap(),
        format!("{one}\n\n1\n{two}\n{two}\n\n0\n")
    );
    let gone = store(&[(1, vec![2])]);
    let error = exported(&[one.clone()].into(), &[one].into(), &gone, none);
    assert_eq!(error, Err(GraphError::Invalid(two)));
}

proptest! {
    #[test]
    fn sizes_are_those_of_single_closures(
        edges in proptest::collection::vec(proptest::collection::vec(0..20u8, 0..4), 20),
        roots in proptest::collection::btree_set(0..20u8, 0..20),
    ) {
        // Self references and circles included.
        let edges: Vec<_> = (0..20u8).zip(edges).collect();
        let infos = store(&edges);
        let roots = roots.into_iter().map(|n| path(n, "p")).collect();
        let sizes = closure_sizes(&roots, &infos).unwrap();
        prop_assert_eq!(sizes.len(), roots.len());
        for root in &roots {
            prop_assert_eq!(sizes[root], closure_size(root, &infos).unwrap());
        }
    }
}
