//! Two contents, compared.

use firn_content::{Change, ContentStore, Difference};

use crate::common::{Scratch, Tree, add};

fn link(to: &str) -> Tree {
    Tree::Symlink(to.as_bytes().to_vec())
}

#[tokio::test]
async fn every_kind_of_difference_is_found_at_its_place() {
    let dir = Scratch::new();
    let store = ContentStore::open(&dir.path().join("store")).unwrap();
    let mut long = vec![b'x'; 300_000];
    long[200_000] = b'y';
    let first = Tree::directory([
        (
            "bin",
            Tree::directory([("run", Tree::Regular(true, b"a".to_vec()))]),
        ),
        ("gone", Tree::file(b"1")),
        ("kind", Tree::file(b"1")),
        ("link", link("here")),
        ("long", Tree::file(&[b'x'; 300_000])),
        ("same", link("there")),
        ("shorter", Tree::file(b"abcd")),
        ("tail", Tree::file(b"ab")),
    ]);
    let second = Tree::directory([
        (
            "bin",
            Tree::directory([("run", Tree::Regular(false, b"b".to_vec()))]),
        ),
        ("kind", link("1")),
        ("link", link("there")),
        ("long", Tree::file(&long)),
        ("new", Tree::file(b"1")),
        ("same", link("there")),
        ("shorter", Tree::file(b"aX")),
        ("tail", Tree::file(b"abc")),
    ]);
    let (a, b) = (add(&store, &first.nar()).await, add(&store, &second.nar()).await);
    let place = |path: &str, change| Difference {
        path: path.as_bytes().to_vec(),
        change,
    };
    let length = |first, second, offset| Change::Length {
        first,
        second,
        offset,
    };
    let target = |first: &str, second: &str| Change::Target {
        first: first.into(),
        second: second.into(),
    };
    let expected = [
        place("bin/run", Change::Executable { first: true }),
        place("bin/run", Change::Bytes { offset: 0 }),
        place("gone", Change::OnlyFirst),
        place("kind", Change::Kind),
        place("link", target("here", "there")),
        place("long", Change::Bytes { offset: 200_000 }),
        place("new", Change::OnlySecond),
        place("shorter", length(4, 2, 1)),
        place("tail", length(2, 3, 2)),
    ];
    assert_eq!(store.diff(&a, &b, 100).unwrap(), expected);
    assert_eq!(store.diff(&a, &b, 3).unwrap(), expected[..3]);
    assert_eq!(store.diff(&a, &a, 100).unwrap(), []);
    store.remove(&b).unwrap();
    assert!(store.diff(&a, &b, 100).is_err());
}
