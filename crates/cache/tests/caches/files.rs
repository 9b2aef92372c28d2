//! Caches on the disk.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use firn_cache::{AccountClient, CacheClient, Options};
use firn_core::CacheUrl;
use firn_service::ports::AccountCaches as _;

use crate::fixtures::{bad, bytes, client_with, files, nar, object, pack, path};

fn write(directory: &Path, n: u8, content: &[u8]) {
    let packed = pack("zstd", content);
    for (name, file) in files(&object(n, content, "zstd", &packed), &packed) {
        let to = directory.join(name.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, file).unwrap();
    }
}

fn url(directory: &Path) -> CacheUrl {
    format!("file://{}", directory.display()).parse().unwrap()
}

fn client(root: &Path) -> AccountClient {
    client_with(Options {
        file_roots: vec![root.to_owned()],
        ..Options::default()
    })
}

#[tokio::test]
async fn below_the_roots() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("root");
    let content = bytes(10_000);
    write(&root.join("a/b"), 1, &content);
    let client = client(&root);
    let cache = url(&root.join("a/b"));
    assert_eq!(client.about(&cache, None).await.unwrap().priority, 30);
    let info = client.narinfo(&cache, None, &path(1)).await.unwrap().unwrap();
    assert!(nar(&client, &cache, None, &info).await.unwrap() == content);
    // Nothing is remembered.
    assert_eq!(client.narinfo(&cache, None, &path(2)).await.unwrap(), None);
    write(&root.join("a/b"), 2, &content);
    assert!(client.narinfo(&cache, None, &path(2)).await.unwrap().is_some());
    // Wrong bytes.
    fs::write(root.join("a/b/nar/1.nar"), b"other").unwrap();
    bad(nar(&client, &cache, None, &info).await);
    fs::remove_file(root.join("a/b/nar/1.nar")).unwrap();
    bad(nar(&client, &cache, None, &info).await);
    assert!(bad(client.about(&url(&root), None).await).contains("nix-cache-info"));
    assert_eq!(
        client
            .narinfo(&url(&root.join("none")), None, &path(1))
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn outside_of_the_roots() {
    let temporary = tempfile::tempdir().unwrap();
    let (root, outside) = (temporary.path().join("root"), temporary.path().join("outside"));
    let content = bytes(10_000);
    fs::create_dir_all(&root).unwrap();
    write(&outside, 1, &content);
    write(&root.join("cache"), 1, &content);
    let client = client(&root);
    let none = client_with(Options::default());
    for (client, directory) in [
        (&client, &outside),
        (&none, &outside),
        (&client, &temporary.path().join("root-2")),
    ] {
        let text = bad(client.narinfo(&url(directory), None, &path(1)).await);
        assert!(text.contains("caches.file-roots"), "{text}");
        bad(client.about(&url(directory), None).await);
    }
    // Symlinks: of the cache, of its files; those that stay inside are followed.
    symlink(&outside, root.join("absolute")).unwrap();
    symlink("../outside", root.join("relative")).unwrap();
    symlink("cache", root.join("inside")).unwrap();
    for name in ["absolute", "relative"] {
        let text = bad(client.narinfo(&url(&root.join(name)), None, &path(1)).await);
        assert!(text.contains("symlink"), "{text}");
    }
    let inside = url(&root.join("inside"));
    let mut info = client.narinfo(&inside, None, &path(1)).await.unwrap().unwrap();
    assert!(nar(&client, &inside, None, &info).await.is_ok());
    fs::remove_file(root.join("cache/nar/1.nar")).unwrap();
    symlink(outside.join("nar/1.nar"), root.join("cache/nar/1.nar")).unwrap();
    bad(nar(&client, &inside, None, &info).await);
    for name in [
        "../../outside/nar/1.nar",
        "/etc/passwd",
        "nar/../../cache/nix-cache-info",
        "nar",
        "..",
        "http://127.0.0.1/x",
    ] {
        info.url = name.into();
        bad(nar(&client, &inside, None, &info).await);
    }
    // What is not a file neither blocks nor is read.
    fs::remove_file(root.join("cache/nix-cache-info")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("cache/nix-cache-info"), 0o600.into()).unwrap();
    bad(client.about(&inside, None).await);
    // A root that is a symlink, or is not there.
    symlink(&root, temporary.path().join("alias")).unwrap();
    let aliased = self::client(&temporary.path().join("alias"));
    for directory in [root.join("cache"), temporary.path().join("alias/cache")] {
        assert!(
            aliased
                .narinfo(&url(&directory), None, &path(1))
                .await
                .unwrap()
                .is_some()
        );
    }
    let missing = Options {
        file_roots: vec![root.join("none")],
        ..Options::default()
    };
    assert!(CacheClient::new(missing).is_err());
}
