//! What a process leaves that ends without warning, and what a power failure does to unsynced trees.

use crate::common::{Scratch, Tree, add, hash, sample, stage, staged};
use firn_content::ContentStore;

/// Forgets a store as a crash does, but for its lock, which a new name takes the place of.
fn crash(store: ContentStore, dir: &std::path::Path) {
    let staging = dir.join("staging");
    let session = std::fs::read_dir(&staging)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let copy = staging.join("crashed");
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(&session)
        .arg(&copy)
        .status()
        .unwrap();
    assert!(status.success());
    drop(store);
}

#[tokio::test]
async fn staging_of_the_dead_is_swept_and_of_the_living_kept() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let alive = stage(&store, &sample().nar()).await;
    std::fs::create_dir_all(dir.path().join("staging/dead/0/a/b")).unwrap();
    std::fs::write(dir.path().join("staging/dead/0/a/file"), "x").unwrap();
    std::fs::write(dir.path().join("staging/stray"), "x").unwrap();
    let second = ContentStore::open(dir.path()).unwrap();
    assert!(!dir.path().join("staging/dead").exists());
    assert!(!dir.path().join("staging/stray").exists());
    assert_eq!(staged(dir.path()).len(), 1);
    store.publish([alive]).await.unwrap();
    assert_eq!(second.list().count(), 1);
    store.sync([]).await.unwrap();
    drop((store, second));
    let left = std::fs::read_dir(dir.path().join("staging")).unwrap().count();
    assert_eq!(left, 0, "closed stores leave no session");
}

#[tokio::test]
async fn unsynced_trees_are_checked_after_a_crash() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let synced = add(&store, &Tree::file(b"synced").nar()).await;
    store.sync([]).await.unwrap();
    let good = add(&store, &sample().nar()).await;
    let torn = add(&store, &Tree::directory([("f", Tree::file(b"contents"))]).nar()).await;
    let tree = store.tree(&torn);
    crash(store, dir.path());

    // As after a power failure: the name is there, the data is not.
    let file = tree.join("f");
    std::process::Command::new("chmod")
        .args(["u+w"])
        .arg(&file)
        .status()
        .unwrap();
    std::fs::write(&file, "").unwrap();
    let store = ContentStore::open(dir.path()).unwrap();
    assert!(store.contains(&synced));
    assert!(store.contains(&good));
    assert!(!store.contains(&torn));
    assert_eq!(staged(dir.path()), [""; 0]);
    assert!(store.verify(&good).await.unwrap());
    // The next upload is whole again.
    let again = add(&store, &Tree::directory([("f", Tree::file(b"contents"))]).nar()).await;
    assert_eq!(again, torn);
    assert!(store.verify(&torn).await.unwrap());
}

#[tokio::test]
async fn a_crash_right_after_the_renaming_is_made_good() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    let nar = sample().nar();
    let hash = add(&store, &nar).await;
    let tree = store.tree(&hash);
    let writable = || std::fs::set_permissions(&tree, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mode = || std::fs::metadata(&tree).unwrap().permissions().mode() & 0o7777;
    writable();
    add(&store, &nar).await;
    assert_eq!(mode(), 0o555);
    writable();
    crash(store, dir.path());
    let store = ContentStore::open(dir.path()).unwrap();
    assert_eq!(mode(), 0o555);
    assert!(store.verify(&hash).await.unwrap());
}

#[test]
fn runtime_shutdown_leaves_nothing() {
    let dir = Scratch::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = ContentStore::open(dir.path()).unwrap();
    let content = runtime.block_on(stage(&store, &sample().nar()));
    assert_eq!(content.hash(), hash(&sample().nar()));
    runtime.block_on(async { drop(content) });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let content = other.block_on(stage(&store, &sample().nar()));
    drop(other);
    drop(content);
    assert_eq!(staged(dir.path()), [""; 0]);
}
