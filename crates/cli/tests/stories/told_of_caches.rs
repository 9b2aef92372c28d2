//! What an account is told of its binary caches, and caches that change or stumble; with caches made by real Nix.

use firn_testkit::{CacheKey, Client, FileServer, Run};

use crate::binary_caches::{cache, ensure, expression, use_cache};
use crate::{api, build, is_valid, server};

/// Asks Firn to have some paths.
fn realise(client: &Client, paths: &[String]) -> Run {
    let mut arguments = vec!["--store", "ssh-ng://firn", "--realise"];
    arguments.extend(paths.iter().map(String::as_str));
    client.nix.run("nix-store", &arguments).unwrap()
}

#[test]
fn a_key_that_is_not_trusted_is_named_with_the_next_step() {
    let Some(server) = server() else { return };
    let cache = cache(&server, "xz");
    let web = FileServer::start(&cache.dir).unwrap();
    let alice = server.client("alice").unwrap();
    let added = api(&alice, &["substituters", "add", &web.url()]);
    assert!(added["warning"].is_null(), "{added}");

    let refused = realise(&alice, &cache.paths[..1]);
    let why = "not signed by any of your trusted-keys, but by 'cache-1' (to believe that key: trusted-keys add cache-1:…)";
    assert!(!refused.ok && refused.stderr.contains(why), "{}", refused.stderr);
    assert!(refused.stderr.contains(&web.url()), "{}", refused.stderr);
    let explained = alice.ssh(&["shell", "explain", &cache.paths[0]]).unwrap();
    assert!(explained.stdout.contains(why), "{}", explained.stdout);
    let listed = api(&alice, &["substituters", "list"]);
    assert_eq!(listed[0]["state"], "answers");
    assert!(listed[0]["not_taken"].as_str().unwrap().contains(why), "{listed}");

    // As a builder: said in the log, once a session; Nix makes one for each build.
    let built = build(&alice, "ssh-ng", &expression()).success().unwrap();
    let said = built.stderr.matches("firn: the cache").count();
    assert_eq!(said, 2, "{}", built.stderr);
    assert!(
        built.stderr.contains("trusted-keys add cache-1:…"),
        "{}",
        built.stderr
    );

    let bob = server.client("bob").unwrap();
    use_cache(&bob, &cache.key.public, &web.url());
    assert!(ensure(&bob, &cache.paths[0]));
}

#[test]
fn a_cache_is_tried_when_it_is_added() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    let added = api(&alice, &["substituters", "add", "http://127.0.0.1:1"]);
    let warning = added["warning"].as_str().unwrap();
    assert!(
        warning.contains("'http://127.0.0.1:1' cannot be reached"),
        "{warning}"
    );
    let added = api(&alice, &["substituters", "add", "http://no-such-host.invalid"]);
    let warning = added["warning"].as_str().unwrap();
    assert!(
        warning.contains("the name 'no-such-host.invalid' does not resolve"),
        "{warning}"
    );
    let refused = alice
        .ssh(&["shell", "substituters", "add", "file:///etc"])
        .unwrap();
    assert!(
        !refused.ok
            && refused
                .stderr
                .contains("is in no directory that the operator allows"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        api(&alice, &["substituters", "list"]).as_array().unwrap().len(),
        2
    );
}

#[test]
fn what_is_pushed_after_it_was_asked_for_is_found() {
    let Some(server) = server() else { return };
    let origin = server.client("origin").unwrap();
    let file = origin.nix.dir().join("file");
    std::fs::write(&file, "pushed later\n").unwrap();
    let path = origin
        .nix
        .run("nix-store", &["--add", file.to_str().unwrap()])
        .unwrap();
    let path = path.success().unwrap().stdout.trim().to_owned();
    let dir = origin.nix.dir().join("pushed");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
    let key = CacheKey::new(&origin.nix, origin.nix.dir(), "cache-1").unwrap();
    let web = FileServer::start(&dir).unwrap();
    let [alice, bob] = ["alice", "bob"].map(|name| server.client(name).unwrap());
    use_cache(&alice, &key.public, &web.url());
    use_cache(&bob, &key.public, &web.url());
    let absent = realise(&alice, std::slice::from_ref(&path));
    assert!(
        !absent.ok && absent.stderr.contains("no cache of the account has it"),
        "{}",
        absent.stderr
    );
    origin
        .nix
        .copy_to_cache(&dir, "none", Some(&key), std::slice::from_ref(&path))
        .unwrap();
    // He never asked.
    assert!(ensure(&bob, &path));
    assert!(is_valid(&bob, &path));
    api(&alice, &["substituters", "refresh"]);
    assert!(ensure(&alice, &path));
}

/// Nix itself fetches everything from such a cache.
#[test]
fn everything_comes_from_a_cache_that_stumbles() {
    let Some(server) = server() else { return };
    let origin = server.client("origin").unwrap();
    let files: Vec<String> = (0..61)
        .map(|n| {
            let file = origin.nix.dir().join(format!("file-{n}"));
            std::fs::write(&file, format!("{n}\n")).unwrap();
            file.display().to_string()
        })
        .collect();
    let mut add = vec!["--add"];
    add.extend(files.iter().map(String::as_str));
    let added = origin.nix.run("nix-store", &add).unwrap().success().unwrap();
    let paths: Vec<String> = added.stdout.lines().map(str::to_owned).collect();
    assert_eq!(paths.len(), 61);
    let dir = origin.nix.dir().join("cache");
    origin.nix.copy_to_cache(&dir, "none", None, &paths).unwrap();
    let web = FileServer::stumbling(&dir).unwrap();
    let alice = server.client("alice").unwrap();
    api(&alice, &["substituters", "add", &web.url()]);
    let fetched = realise(&alice, &paths);
    assert!(fetched.ok, "{}", fetched.stderr);
}
