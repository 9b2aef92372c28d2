//! Hash parts replaced in contents that are not published yet.

use std::sync::{Arc, Mutex};

use crate::common::{Scratch, Tree, hash, stage};
use firn_content::ContentStore;
use firn_nix::StorePath;
use firn_nix::rewrite::HashRewriter;

const FROM: &str = "00000000000000000000000000000000";
const TO: &str = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";

fn tree(part: &str) -> Tree {
    let long = format!("{}{part}{part}", "x".repeat(256 * 1024 - 40));
    Tree::directory([
        (part, Tree::file(b"its place among the names changes")),
        ("b", Tree::Regular(true, long.into_bytes())),
        ("c", Tree::Symlink(format!("/nix/store/{part}-x").into_bytes())),
        (
            "d",
            Tree::directory([("empty", Tree::file(b"")), ("none", Tree::directory([]))]),
        ),
    ])
}

#[tokio::test]
async fn files_names_and_links_are_rewritten() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let path = |part: &str| StorePath::from_base_name(format!("{part}-x").as_bytes()).unwrap();
    let before = stage(&store, &tree(FROM).nar()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observed = Arc::clone(&seen);
    let observer = Box::new(move |bytes: &[u8]| observed.lock().unwrap().extend_from_slice(bytes));
    let rewriter = HashRewriter::new([(&path(FROM), &path(TO))]);
    let after = store.rewrite(&before, rewriter, Some(observer)).unwrap();
    let expected = tree(TO).nar();
    assert!(*seen.lock().unwrap() == expected);
    assert_eq!(
        (after.hash(), after.size()),
        (hash(&expected), expected.len() as u64)
    );
    let again = Arc::new(Mutex::new(Vec::new()));
    let observed = Arc::clone(&again);
    let observer = Box::new(move |bytes: &[u8]| observed.lock().unwrap().extend_from_slice(bytes));
    after.observe(observer).unwrap();
    assert!(*again.lock().unwrap() == expected);
    let found = after.hash();
    store.publish([before, after]).await.unwrap();
    assert!(store.verify(&found).await.unwrap());
    assert!(store.verify(&hash(&tree(FROM).nar())).await.unwrap());
}
