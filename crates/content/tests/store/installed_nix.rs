//! The installed Nix sees in our trees what we see.

use std::process::{Command, Stdio};

use crate::common::{Scratch, Tree, add, sample};
use firn_content::ContentStore;

#[tokio::test]
async fn nix_dumps_the_same_bytes() {
    let works = Command::new("nix-store")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !works.is_ok_and(|status| status.success()) {
        println!("skipped: no nix-store on the PATH");
        return;
    }
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    for tree in [
        sample(),
        Tree::file(b"x"),
        Tree::Symlink(b"y".to_vec()),
        sample().nest(30),
    ] {
        let nar = tree.nar();
        let hash = add(&store, &nar).await;
        let dump = Command::new("nix-store")
            .arg("--dump")
            .arg(store.tree(&hash))
            .stderr(Stdio::null())
            .output()
            .unwrap();
        assert!(dump.status.success());
        assert!(dump.stdout == nar);
    }
}
