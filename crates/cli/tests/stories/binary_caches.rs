//! Binary caches made by real Nix: good ones, one with a wrong key, one with a flipped bit, one that stalls.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use firn_testkit::{CacheKey, Client, Server, WebServer};

use crate::{api, build, build_locally, derivation, is_valid, rungs, server};

const URL: &str = "ssh-ng://firn";

pub struct Cache {
    pub dir: PathBuf,
    pub key: CacheKey,
    /// Top and low of a closure of two.
    pub paths: [String; 2],
}

const SCRIPT: &str = "head -c 100000 /dev/urandom > $out";

pub fn expression() -> String {
    let low = derivation("low", SCRIPT);
    format!(
        "let low = {low}; in derivation {{ name = \"top\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; inherit low; \
         args = [ \"-ec\" \"head -c 100000 /dev/urandom > $out; echo $low >> $out\" ]; }}"
    )
}

/// A signed cache with a closure that nobody else can build again.
pub fn cache(server: &Server, compression: &str) -> Cache {
    let origin = server.client("origin").unwrap();
    let top = build_locally(&origin, &expression()).remove(0);
    let low = build_locally(&origin, &derivation("low", SCRIPT)).remove(0);
    let dir = origin.nix.dir().join("cache");
    let key = CacheKey::new(&origin.nix, origin.nix.dir(), "cache-1").unwrap();
    let all = [top.clone()];
    origin
        .nix
        .copy_to_cache(&dir, compression, Some(&key), &all)
        .unwrap();
    Cache {
        dir,
        key,
        paths: [top, low],
    }
}

pub fn use_cache(client: &Client, key: &str, url: &str) {
    api(client, &["trusted-keys", "add", key]);
    api(client, &["substituters", "add", url]);
}

/// Asks Firn to have a path.
pub fn ensure(client: &Client, path: &str) -> bool {
    client
        .nix
        .command("nix-store", false)
        .args(["--store", URL, "--realise", path])
        .output()
        .unwrap()
        .status
        .success()
}

fn nar_file(cache: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = std::fs::read_dir(cache.join("nar"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.remove(0)
}

#[test]
fn outputs_and_inputs_come_from_a_signed_cache() {
    let Some(server) = server() else { return };
    for compression in ["xz", "zstd"] {
        let Some(server) = crate::server() else { return };
        let cache = cache(&server, compression);
        let web = WebServer::start(&cache.dir).unwrap();
        let [alice, bob] = ["alice", "bob"].map(|name| server.client(name).unwrap());
        use_cache(&alice, &cache.key.public, &web.url());

        // A build whose output the cache has is fetched, with what it refers to.
        let out = build(&alice, "ssh-ng", &expression()).success().unwrap();
        assert!(out.lines().contains(&cache.paths[0]));
        assert_eq!(
            rungs(&server, "alice").last().map(String::as_str),
            Some("substituted")
        );
        assert!(is_valid(&alice, &cache.paths[1]));

        // Bob trusts the key and asks no cache: what it has signed is there already.
        assert!(!is_valid(&bob, &cache.paths[0]));
        api(&bob, &["trusted-keys", "add", &cache.key.public]);
        assert!(is_valid(&bob, &cache.paths[0]));
    }
    drop(server);
}

#[test]
fn a_wrong_key_and_a_flipped_bit_give_nothing() {
    let Some(server) = server() else { return };
    let cache = cache(&server, "none");
    let web = WebServer::start(&cache.dir).unwrap();
    let [alice, bob] = ["alice", "bob"].map(|name| server.client(name).unwrap());
    let wrong = CacheKey::new(&alice.nix, alice.nix.dir(), "cache-1").unwrap();
    use_cache(&alice, &wrong.public, &web.url());
    assert!(!ensure(&alice, &cache.paths[0]));

    use_cache(&bob, &cache.key.public, &web.url());
    let file = nar_file(&cache.dir);
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    assert!(!ensure(&bob, &cache.paths[0]));
    assert!(!is_valid(&bob, &cache.paths[0]));

    // The cache is repaired: the same question is answered.
    std::fs::write(&file, &good).unwrap();
    assert!(ensure(&bob, &cache.paths[0]));
    assert!(is_valid(&bob, &cache.paths[0]) && is_valid(&bob, &cache.paths[1]));
}

#[test]
fn a_cache_that_stalls_or_is_down_costs_a_bounded_delay_and_the_next_one_answers() {
    let Some(server) = server() else { return };
    let cache = cache(&server, "xz");
    let web = WebServer::start(&cache.dir).unwrap();
    let alice = server.client("alice").unwrap();
    // Takes connections, reads, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let stalls = format!("http://{}?priority=1", silent.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in silent.incoming().map_while(Result::ok) {
            std::thread::spawn(move || (&stream).read_to_end(&mut Vec::new()));
        }
    });
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let down = format!("http://{}?priority=2", closed.local_addr().unwrap());
    drop(closed);
    api(&alice, &["substituters", "add", &stalls]);
    api(&alice, &["substituters", "add", &down]);
    use_cache(&alice, &cache.key.public, &web.url());
    assert!(ensure(&alice, &cache.paths[0]));
    // Both are left alone now; builds do not wait for them.
    build(&alice, "ssh-ng", &derivation("quick", "echo > $out"))
        .success()
        .unwrap();
}
