//! Accounts that trust each other, at both levels: one-way, with the other's consent, and until one of them changes its
//! mind; what was told until then stays.

use firn_testkit::Client;

use crate::{api, build, build_locally, derivation, is_valid, rungs, server};

const URL: &str = "ssh-ng://firn";

#[test]
fn builds_and_uploads_are_two_levels_and_need_both_sides() {
    let Some(server) = server() else { return };
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| server.client(name).unwrap());
    let script = "cat /proc/sys/kernel/random/uuid > $out";
    let built = build(&bob, "ssh-ng", &derivation("built", script));
    let built = built.success().unwrap().lines().remove(0);
    let uploaded = build_locally(&bob, &derivation("uploaded", script)).remove(0);
    let copy = ["copy", "--no-check-sigs", "--to", URL, &uploaded];
    bob.nix.run("nix", &copy).unwrap().success().unwrap();
    let sees = |client: &Client| (is_valid(client, &built), is_valid(client, &uploaded));

    // Trust alone reads nothing, and consent alone makes nothing believed.
    api(&alice, &["trust", "add", "bob", "uploads"]);
    assert_eq!(sees(&alice), (false, false));
    api(&bob, &["readers", "add", "carol", "uploads"]);
    assert_eq!(sees(&carol), (false, false));

    // The lower level counts.
    api(&bob, &["readers", "add", "alice", "builds"]);
    assert_eq!(sees(&alice), (true, false));
    api(&bob, &["readers", "add", "alice", "uploads"]);
    assert_eq!(sees(&alice), (true, true));
    api(&alice, &["trust", "add", "bob", "builds"]);
    assert_eq!(sees(&alice), (true, false));
    api(&alice, &["trust", "add", "bob", "uploads"]);

    // Both see how they stand; it is one-way, and not transitive.
    let relations = api(&bob, &["readers", "list"]).to_string();
    assert!(relations.contains("alice"), "{relations}");
    api(&carol, &["trust", "add", "alice", "uploads"]);
    api(&alice, &["readers", "add", "carol", "uploads"]);
    assert_eq!(sees(&carol), (false, false));

    // What Alice has from Bob answers her builds.
    build(&alice, "ssh-ng", &derivation("built", script))
        .success()
        .unwrap();
    assert_eq!(rungs(&server, "alice"), ["trusted"]);

    // Either side ends it, at once; but what she was told is hers to keep, as long as she believes it.
    let quiet = build_locally(&bob, &derivation("quiet", script)).remove(0);
    let copy = ["copy", "--no-check-sigs", "--to", URL, &quiet];
    bob.nix.run("nix", &copy).unwrap().success().unwrap();
    api(&bob, &["readers", "remove", "alice"]);
    assert_eq!(sees(&alice), (true, true));
    assert!(!is_valid(&alice, &quiet));
    api(&bob, &["readers", "add", "alice", "uploads"]);
    api(&alice, &["trust", "remove", "bob"]);
    assert_eq!(sees(&alice), (false, false));

    // A private account gives nothing more, whatever it had allowed.
    api(&alice, &["trust", "add", "bob", "uploads"]);
    api(&bob, &["settings", "set", "private", "true"]);
    assert_eq!(sees(&alice), (true, true));
    assert!(!is_valid(&alice, &quiet));
    assert_eq!(sees(&bob), (true, true));
}

#[test]
fn private_builds_and_those_outside_the_sharing_are_not_reused() {
    let Some(server) = server() else { return };
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| server.client(name).unwrap());
    let expression = derivation("shared", "echo same > $out");
    api(&alice, &["settings", "set", "private", "true"]);
    api(&carol, &["settings", "set", "share-builds", "false"]);
    for client in [&alice, &bob, &carol] {
        build(client, "ssh-ng", &expression).success().unwrap();
    }
    // Alice gives nothing; Carol takes nothing.
    assert_eq!(rungs(&server, "alice"), ["built"]);
    assert_eq!(rungs(&server, "bob"), ["built"]);
    assert_eq!(rungs(&server, "carol"), ["built"]);
    // A private account may take what others share.
    let other = derivation("other", "echo other > $out");
    build(&bob, "ssh-ng", &other).success().unwrap();
    build(&alice, "ssh-ng", &other).success().unwrap();
    assert_eq!(rungs(&server, "alice")[1], "reused");
}

/// What the operator sets for all holds for the accounts that are there, and what they set for themselves holds against it.
#[test]
fn the_operators_settings_hold_for_accounts_that_exist() {
    let Some(mut server) = server() else { return };
    let [alice, bob, carol, dave] =
        ["alice", "bob", "carol", "dave"].map(|name| server.client(name).unwrap());
    let script = "cat /proc/sys/kernel/random/uuid > $out";
    let mut of = Vec::new();
    for (client, name) in [(&bob, "bob"), (&carol, "carol")] {
        let built = build(client, "ssh-ng", &derivation(&format!("{name}s"), script));
        of.push(built.success().unwrap().lines().remove(0));
        api(client, &["readers", "add", "alice", "builds"]);
        api(&alice, &["trust", "add", name, "builds"]);
    }
    api(&carol, &["settings", "set", "private", "false"]);
    for n in 0..3 {
        build(
            &bob,
            "ssh-ng",
            &derivation(&format!("shared-{n}"), "echo same > $out"),
        )
        .success()
        .unwrap();
    }
    let shown = |client: &Client| {
        let settings = api(client, &["settings"]);
        let rows = settings.as_array().unwrap();
        let row = rows.iter().find(|row| row["setting"] == "private").unwrap();
        row["value"].as_str().unwrap() == "true"
    };
    let mut again = |settings: &str, private: bool, rung: &str, n: u32| {
        server.stop();
        server.configure_settings(settings).unwrap();
        server.launch().unwrap();
        assert_eq!((shown(&bob), shown(&carol)), (private, false));
        assert_eq!(
            [is_valid(&alice, &of[0]), is_valid(&alice, &of[1])],
            [!private, true]
        );
        let expression = derivation(&format!("shared-{n}"), "echo same > $out");
        build(&dave, "ssh-ng", &expression).success().unwrap();
        assert_eq!(rungs(&server, "dave").last().unwrap(), rung);
    };
    again("private = true", true, "built", 0);
    again("", false, "reused", 1);
    again("share-builds = false", false, "built", 2);
}
