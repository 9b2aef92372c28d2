//! An account whose builds must run in virtual machines.

use crate::{Server, build, derivation, rungs, server};

/// How builds in machines run where tests run.
const CONFIG: &str = "[build]\nsandboxes = [\"namespaces\", \"vm\"]\n\
    [vm]\naccelerator = \"tcg\"\nmemory = 536870912\nboot-timeout = 180\n";

#[test]
fn who_requires_a_machine_gets_one_or_is_refused() {
    let Some(mut server) = server() else { return };
    let [alice, bob] = ["alice", "bob"].map(|name| server.client(name).unwrap());
    let set = ["shell", "settings", "set", "sandbox", "vm"];
    let refused = alice.ssh(&set).unwrap();
    let why = "'sandbox' cannot be 'vm': this service offers namespaces";
    assert!(!refused.ok && refused.stderr.contains(why), "{refused:?}");
    let expression = derivation(
        "walled",
        "echo the kernel is told:; read told < /proc/cmdline; echo $told; echo between walls > $out",
    );

    server.configure(CONFIG).unwrap();
    server.stop();
    server.launch().unwrap();
    alice.ssh(&set).unwrap().success().unwrap();
    let run = build(&alice, "ssh-ng", &expression);
    let refused = "cannot run in sandbox 'vm' here";
    assert!(!run.ok && run.stderr.contains(refused), "{}", run.stderr);
    assert!(run.stderr.contains("firn vm prepare"), "{}", run.stderr);

    if !prepared(&server) {
        return;
    }
    server.stop();
    server.launch().unwrap();
    let ours = build(&alice, "ssh-ng", &expression).success().unwrap();
    let theirs = build(&bob, "ssh-ng", &expression).success().unwrap();
    assert_eq!(ours.stdout, theirs.stdout);
    // What ran behind other walls is another build.
    assert_eq!(rungs(&server, "alice"), ["failed", "built"]);
    assert_eq!(rungs(&server, "bob"), ["built"]);
    let hashes = [&alice, &bob].map(|client| client.nix.nar_hash(ours.stdout.trim()).unwrap());
    assert_eq!(hashes[0], hashes[1]);
}

fn prepared(server: &Server) -> bool {
    let run = server.firn(&["vm", "prepare"]).unwrap();
    if !run.ok {
        println!("skipped the rest: {}", run.stderr);
    }
    run.ok
}
