//! Content-addressed derivations: what comes out decides what is built next, not what went in.

use crate::{Client, Run, Server, build_locally, rungs, server};

/// Three packages, one on the other. `low` has two outputs that mention each other and one that mentions itself; `comment` is in its
/// script only.
fn graph(comment: &str) -> String {
    format!(
        r#"let
          ca = {{
            __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
            system = "x86_64-linux"; builder = "/bin/sh";
          }};
          low = derivation (ca // {{
            name = "low"; outputs = [ "out" "lib" ];
            args = [ "-ec" ''# {comment}
              mkdir $out $lib; echo $lib > $lib/self; echo "low of $lib" > $out/low'' ];
          }});
          middle = derivation (ca // {{
            name = "middle"; inherit low; inherit (low) lib;
            args = [ "-ec" ''mkdir $out; cat $low/low $lib/self > $out/copy; ln -s $low $out/low'' ];
          }});
        in derivation {{
          name = "top"; system = "x86_64-linux"; builder = "/bin/sh"; inherit middle;
          args = [ "-ec" ''cat $middle/copy > $out; echo $out ${{middle}} >> $out'' ];
        }}"#
    )
}

fn client(server: &Server, account: &str) -> Client {
    let mut client = server.client(account).unwrap();
    client.nix.set("NIX_CONFIG", FEATURES);
    client
}

const FEATURES: &str = "experimental-features = nix-command ca-derivations";

fn another(server: &Server, account: &str, folder: &str) -> Client {
    let mut client = server.another_client(account, folder).unwrap();
    client.nix.set("NIX_CONFIG", FEATURES);
    client
}

fn build(client: &Client, scheme: &str, expression: &str) -> Run {
    let file = client.nix.expression(expression).unwrap();
    let drvs = client.nix.instantiate(&file, &[]).unwrap();
    let builders = format!("{scheme}://firn x86_64-linux - 32 1 ca-derivations - -");
    let run = client.realise(scheme, &drvs, &["--builders", &builders]).unwrap();
    run.success().unwrap()
}

/// A path and all that it refers to.
fn closure(client: &Client, path: &str) -> Vec<String> {
    let query = client.nix.run("nix-store", &["--query", "--requisites", path]);
    query.unwrap().success().unwrap().lines()
}

#[test]
fn a_change_that_changes_nothing_is_built_once() {
    let Some(server) = server() else { return };
    let alice = client(&server, "alice");
    let out = build(&alice, "ssh-ng", &graph("one")).lines()[0].clone();
    assert_eq!(rungs(&server, "alice"), ["built"; 3]);

    // The oracle: the same derivations built by Nix itself.
    let local = client(&server, "local");
    assert_eq!(build_locally(&local, &graph("one")), std::slice::from_ref(&out));
    let hashes = |client: &Client| {
        let paths = closure(client, &out).into_iter();
        let mut paths: Vec<_> = paths.map(|p| (client.nix.nar_hash(&p).unwrap(), p)).collect();
        paths.sort();
        paths
    };
    assert_eq!(hashes(&alice), hashes(&local));
    assert_eq!(hashes(&alice).len(), 4, "top, middle and both outputs of low");

    // The client itself sees that nothing above has changed.
    assert_eq!(build(&alice, "ssh-ng", &graph("two")).lines()[0], out);
    assert_eq!(rungs(&server, "alice"), ["built"; 4]);

    // One with an empty store asks for everything, and is told what Firn knows.
    let laptop = another(&server, "alice", "laptop");
    assert_eq!(build(&laptop, "ssh-ng", &graph("three")).lines()[0], out);
    assert_eq!(
        rungs(&server, "alice")[4..],
        ["built", "already-valid", "already-valid"]
    );
    let old = another(&server, "alice", "old");
    assert_eq!(build(&old, "ssh", &graph("three")).lines()[0], out);
    assert_eq!(rungs(&server, "alice")[7..], ["already-valid"; 3]);
    assert_eq!(hashes(&old), hashes(&local));

    // Another account.
    let bob = client(&server, "bob");
    assert_eq!(build(&bob, "ssh-ng", &graph("two")).lines()[0], out);
    assert_eq!(rungs(&server, "bob"), ["reused"; 3]);
    assert_eq!(hashes(&bob), hashes(&local));
}

/// Copies of what refers to itself are checked like any other content address.
#[test]
fn self_references_are_copied() {
    let Some(server) = server() else { return };
    let (alice, bob) = (client(&server, "alice"), client(&server, "bob"));
    let out = build_locally(&alice, &graph("one"))[0].clone();
    let run = alice
        .nix
        .run("nix", &["copy", "--no-check-sigs", "--to", "ssh-ng://firn", &out])
        .unwrap();
    run.success().unwrap();
    let closure = closure(&alice, &out);
    let low = closure.iter().find(|path| path.ends_with("-low-lib")).unwrap();
    assert!(crate::is_valid(&alice, low) && !crate::is_valid(&bob, low));
}

/// The server resolves what is above as soon as what is below is built.
#[test]
fn a_graph_on_the_server_is_cut_off_early() {
    let Some(server) = server() else { return };
    let (alice, bob) = (client(&server, "alice"), client(&server, "bob"));
    let out = |client: &Client, comment: &str| {
        let run = client
            .build_in_store(&graph(comment), &[])
            .unwrap()
            .success()
            .unwrap();
        let told: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        told[0]["outputs"]["out"].as_str().unwrap().to_owned()
    };
    let top = out(&alice, "one");
    assert_eq!(rungs(&server, "alice"), ["built"; 3]);
    let local = client(&server, "local");
    assert_eq!(build_locally(&local, &graph("one")), std::slice::from_ref(&top));

    // Nothing is resolved again where it is known already.
    assert_eq!(out(&alice, "one"), top);
    assert_eq!(rungs(&server, "alice").len(), 3);

    assert_eq!(out(&alice, "two"), top);
    assert_eq!(
        rungs(&server, "alice")[3..],
        ["built", "already-valid", "already-valid"]
    );

    assert_eq!(out(&bob, "two"), top);
    assert_eq!(rungs(&server, "bob"), ["reused"; 3]);
    let copy = ["copy", "--no-check-sigs", "--from", "ssh-ng://firn", &top];
    bob.nix.run("nix", &copy).unwrap().success().unwrap();
    assert_eq!(bob.nix.nar_hash(&top).unwrap(), local.nix.nar_hash(&top).unwrap());
}
