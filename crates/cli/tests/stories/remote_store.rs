//! `nix build --store ssh-ng://HOST --eval-store auto`: derivations and sources are sent, the server builds the graph.

use crate::{Client, answers, build, build_locally, derivation, rungs, server};

/// Three packages on top of each other, the lowest of a source file; `change` is somewhere in the lowest.
fn packages(change: &str) -> String {
    let low = derivation(
        "low",
        &format!("mkdir $out; cat ${{source}} > $out/low; echo {change} >> $out/low"),
    );
    format!(
        "let source = builtins.toFile \"source\" \"some text\"; low = {low}; \
         middle = derivation {{ name = \"middle\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; outputs = [ \"out\" \"dev\" ]; inherit low; \
         args = [ \"-ec\" ''mkdir $out $dev; cp $low/low $out/; ln -s $out $dev/out; echo building middle'' ]; }}; \
         in derivation {{ name = \"high\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; inherit middle; dev = middle.dev; \
         args = [ \"-ec\" ''mkdir $out; cat $dev/out/low > $out/copy; ln -s $middle $out/middle'' ]; }}"
    )
}

fn out(client: &Client, expression: &str) -> String {
    let run = client.build_in_store(expression, &[]).unwrap().success().unwrap();
    let told: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    told[0]["outputs"]["out"].as_str().unwrap().to_owned()
}

fn fetch(client: &Client, path: &str) -> String {
    let copy = ["copy", "--no-check-sigs", "--from", "ssh-ng://firn", path];
    client.nix.run("nix", &copy).unwrap().success().unwrap();
    client.nix.nar_hash(path).unwrap()
}

#[test]
fn a_graph_is_built_on_the_server_once_for_all() {
    let Some(server) = server() else { return };
    let (alice, bob) = (server.client("alice").unwrap(), server.client("bob").unwrap());
    let run = alice
        .build_in_store(&packages("x"), &["-L"])
        .unwrap()
        .success()
        .unwrap();
    assert!(run.stderr.contains("building middle"), "{}", run.stderr);
    assert_eq!(rungs(&server, "alice"), ["built"; 3]);
    let high = out(&alice, &packages("x"));

    // The oracle: the same graph built by Nix itself.
    let local = server.client("local").unwrap();
    assert_eq!(build_locally(&local, &packages("x")), std::slice::from_ref(&high));
    assert_eq!(fetch(&alice, &high), local.nix.nar_hash(&high).unwrap());

    assert_eq!(out(&bob, &packages("x")), high);
    assert!(
        !rungs(&server, "bob").contains(&"built".to_owned()),
        "{:?}",
        answers(&server, "bob")
    );
    assert_eq!(fetch(&bob, &high), local.nix.nar_hash(&high).unwrap());
}

#[test]
fn a_failure_names_what_failed_and_shows_its_log() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    let low = derivation("low", "echo this is why; exit 3");
    let high = format!(
        "derivation {{ name = \"high\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; low = {low}; args = [ \"-c\" \"true\" ]; }}"
    );
    let run = alice.build_in_store(&high, &[]).unwrap();
    assert!(!run.ok);
    for part in [
        "cannot build '/nix/store/",
        "-high.drv', which needs '/nix/store/",
        "-low.drv' failed with exit code 3",
        "this is why",
    ] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
}

/// `low` has other bytes each time it is built; `high` is made of what is made of it.
const UNSTABLE: &str = r#"
let
  on = name: below: derivation { inherit name below; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-ec" "mkdir $out; cat $below/* > $out/copy" ]; };
  low = derivation { name = "low"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-ec" "mkdir $out; cat /proc/sys/kernel/random/uuid > $out/low" ]; };
  high = on "high" (on "middle" low);
in
"#;

#[test]
fn one_package_that_does_not_build_reproducibly_splits_remote_builders_and_not_remote_stores() {
    let Some(server) = server() else { return };
    let of = |name: &str| format!("{UNSTABLE} {name}");
    let clients = ["alice", "bob", "carol", "dave"].map(|name| server.client(name).unwrap());
    // Each has built the lowest package at home.
    let low = clients
        .each_ref()
        .map(|client| build_locally(client, &of("low")).remove(0));
    let [alice, bob, carol, dave] = &clients;
    assert_ne!(
        alice.nix.nar_hash(&low[0]).unwrap(),
        bob.nix.nar_hash(&low[1]).unwrap()
    );

    for (client, name) in [(alice, "alice"), (bob, "bob")] {
        build(client, "ssh-ng", &of("high")).success().unwrap();
        assert_eq!(rungs(&server, name), ["built"; 2], "{name}");
    }
    let drv = bob
        .nix
        .instantiate(&bob.nix.expression(&of("high")).unwrap(), &[])
        .unwrap()
        .remove(0);
    let why = bob.ssh(&["shell", "explain", &drv]).unwrap().success().unwrap();
    assert!(
        why.stdout.contains(&format!("the one upload to fix: {}", low[0])),
        "{}",
        why.stdout
    );

    let high = out(carol, &of("high"));
    assert_eq!(rungs(&server, "carol"), ["built"; 3]);
    assert_eq!(out(dave, &of("high")), high);
    assert_eq!(rungs(&server, "dave"), ["grounded"]);
    assert_eq!(fetch(carol, &high), fetch(dave, &high));
    let why = dave.ssh(&["shell", "explain", &drv]).unwrap().success().unwrap();
    for part in [
        "grounded: reused high: built before from the same graph",
        "believed without comparing inputs: its whole graph of derivations was checked",
    ] {
        assert!(why.stdout.contains(part), "{}", why.stdout);
    }
}
