//! Signatures: what a trusted key has signed is usable, whoever brought it; unsigned uploads stay private.

use firn_testkit::{CacheKey, Client};

use crate::{api, build_locally, derivation, is_valid, server};

const URL: &str = "ssh-ng://firn";

/// A path with a reference, built by the client itself with bytes that nobody else gets; both paths, the top first.
fn closure(client: &Client) -> [String; 2] {
    let low = derivation("low", "cat /proc/sys/kernel/random/uuid > $out");
    let top = format!(
        "let low = {low}; in derivation {{ name = \"top\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; inherit low; \
         args = [ \"-ec\" \"cat /proc/sys/kernel/random/uuid > $out; echo $low >> $out\" ]; }}"
    );
    let top = build_locally(client, &top).remove(0);
    let low = build_locally(client, &low).remove(0);
    [top, low]
}

fn copy_to_firn(client: &Client, path: &str) {
    client
        .nix
        .run("nix", &["copy", "--no-check-sigs", "--to", URL, path])
        .unwrap()
        .success()
        .unwrap();
}

#[test]
fn a_signed_closure_is_shared_through_the_key_and_an_unsigned_one_is_not() {
    let Some(server) = server() else { return };
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| server.client(name).unwrap());
    let [top, low] = closure(&alice);
    let key = CacheKey::new(&alice.nix, alice.nix.dir(), "team-1").unwrap();

    // Unsigned: for the uploader only, even for one who trusts the key.
    api(&bob, &["trusted-keys", "add", &key.public]);
    copy_to_firn(&alice, &top);
    assert!(is_valid(&alice, &top));
    assert!(!is_valid(&bob, &top));

    // Signed: for everybody who trusts the key.
    let secret = key.secret.to_str().unwrap();
    for store in [&alice.nix.store_uri(), URL] {
        let sign = [
            "store",
            "sign",
            "--recursive",
            "--store",
            store,
            "--key-file",
            secret,
            &top,
        ];
        alice.nix.run("nix", &sign).unwrap().success().unwrap();
    }
    assert!(is_valid(&bob, &top) && is_valid(&bob, &low));
    assert!(!is_valid(&carol, &top));

    // Bob's own Nix checks the signature that Firn passes on.
    let copy = [
        "copy",
        "--option",
        "trusted-public-keys",
        &key.public,
        "--from",
        URL,
        &top,
    ];
    bob.nix.run("nix", &copy).unwrap().success().unwrap();
    assert_eq!(bob.nix.nar_hash(&top).unwrap(), alice.nix.nar_hash(&top).unwrap());
    let why = api(&bob, &["explain", &top]);
    assert!(why.to_string().contains("team-1"), "{why}");

    // Trust begins and ends at once, for what was there before.
    api(&carol, &["trusted-keys", "add", &key.public]);
    assert!(is_valid(&carol, &top));
    api(&carol, &["trusted-keys", "remove", "team-1"]);
    assert!(!is_valid(&carol, &top) && !is_valid(&carol, &low));
    assert!(is_valid(&bob, &top));
}

#[test]
fn a_stranger_cannot_poison_a_path_before_during_or_after() {
    let Some(server) = server() else { return };
    let [alice, bob, mallory] = ["alice", "bob", "mallory"].map(|name| server.client(name).unwrap());
    let [top, low] = closure(&alice);
    // The same paths with other bytes: these builders answer differently each time.
    let [bad_top, bad_low] = closure(&mallory);
    assert_eq!([&top, &low], [&bad_top, &bad_low]);
    let good = alice.nix.nar_hash(&top).unwrap();
    assert_ne!(good, mallory.nix.nar_hash(&top).unwrap());
    let key = CacheKey::new(&alice.nix, alice.nix.dir(), "team-1").unwrap();
    api(&bob, &["trusted-keys", "add", &key.public]);

    // Before: Mallory is first, with a key of her own that has the right name.
    let forged = CacheKey::new(&mallory.nix, mallory.nix.dir(), "team-1").unwrap();
    let sign = |client: &Client, key: &CacheKey| {
        let secret = key.secret.to_str().unwrap();
        let store = client.nix.store_uri();
        let sign = [
            "store",
            "sign",
            "--recursive",
            "--store",
            &store,
            "--key-file",
            secret,
            &top,
        ];
        client.nix.run("nix", &sign).unwrap().success().unwrap();
    };
    sign(&mallory, &forged);
    copy_to_firn(&mallory, &top);
    assert!(!is_valid(&bob, &top));

    // During: both are there.
    sign(&alice, &key);
    copy_to_firn(&alice, &top);
    let seen = |client: &Client| {
        let info = client
            .nix
            .run("nix", &["path-info", "--json", "--store", URL, &top])
            .unwrap()
            .success()
            .unwrap();
        let info: serde_json::Value = serde_json::from_str(&info.stdout).unwrap();
        info[0]["narHash"].as_str().unwrap().to_owned()
    };
    let bobs = seen(&bob);
    assert_eq!(bobs, seen(&alice));
    assert_ne!(bobs, seen(&mallory));

    // After: more lies change nothing, neither does her leaving.
    copy_to_firn(&mallory, &low);
    assert_eq!(seen(&bob), bobs);
    server
        .firn(&["account", "remove", "mallory"])
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(seen(&bob), bobs);
}

#[test]
fn wrong_signatures_and_keys_are_refused_by_name() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    let [top, low] = closure(&alice);
    let key = CacheKey::new(&alice.nix, alice.nix.dir(), "team-1").unwrap();
    let other = CacheKey::new(&alice.nix, &alice.nix.dir().join("other"), "team-1").unwrap();
    api(&alice, &["trusted-keys", "add", &key.public]);
    let refused = |arguments: &[&str]| {
        let run = alice.ssh(&[&["api"], arguments].concat()).unwrap();
        assert!(!run.ok, "{}", run.stdout);
        run.stdout
    };
    let second = refused(&["trusted-keys", "add", &other.public]);
    assert!(second.contains("another key named 'team-1'"), "{second}");
    let malformed = refused(&["trusted-keys", "add", "team-2:AAAA"]);
    assert!(malformed.contains("32 bytes"), "{malformed}");

    // A signature by the key of the trusted name, made with another key.
    let secret = other.secret.to_str().unwrap();
    let store = alice.nix.store_uri();
    let sign = ["store", "sign", "--store", &store, "--key-file", secret, &low];
    alice.nix.run("nix", &sign).unwrap().success().unwrap();
    let copy = alice
        .nix
        .run("nix", &["copy", "--no-check-sigs", "--to", URL, &low])
        .unwrap();
    assert!(!copy.ok && copy.stderr.contains("team-1"), "{}", copy.stderr);
    assert!(!is_valid(&alice, &low) && !is_valid(&alice, &top));
}
