//! Any tree survives the way in and out, whether it comes as a NAR or from disk.

use crate::common::{Scratch, Tree, add, hash};
use firn_content::{ContentStore, WalkLimits, WalkPolicy};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tokio::io::AsyncReadExt as _;

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(1u8.., 1..30)
        .prop_map(|mut name| {
            name.iter_mut()
                .filter(|byte| **byte == b'/')
                .for_each(|byte| *byte = b'_');
            name
        })
        .prop_filter("reserved", |name| name != b"." && name != b"..")
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (any::<bool>(), vec(any::<u8>(), 0..100)).prop_map(|(x, data)| Tree::Regular(x, data)),
        vec(1u8.., 1..60).prop_map(Tree::Symlink),
        Just(Tree::Directory(Default::default())),
    ];
    leaf.prop_recursive(5, 30, 5, |node| {
        btree_map(name(), node, 0..5).prop_map(Tree::Directory)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_tree_comes_out_as_it_went_in(tree in tree()) {
        let nar = tree.nar();
        let dir = Scratch::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = ContentStore::open(&dir.path().join("store")).unwrap();
        let got = runtime.block_on(async {
            let hash = add(&store, &nar).await;
            let mut out = Vec::new();
            store.read_nar(&hash).await.unwrap().read_to_end(&mut out).await.unwrap();
            out
        });
        prop_assert_eq!(got, nar.clone());

        let output = dir.path().join("out");
        tree.create(&output);
        let owner = rustix::process::geteuid().as_raw();
        let policy = WalkPolicy::BuildOutput { owner };
        let staged = store.ingest_tree(&output, policy, WalkLimits::default(), None).unwrap();
        prop_assert_eq!(staged.hash(), hash(&nar));
    }
}
