//! What one account built is reused for another, with the reason; nobody trusts anybody.

use crate::{answers, build, build_locally, derivation, rungs, server};

fn chain() -> String {
    let low = derivation("low", "mkdir $out; echo low > $out/low");
    format!(
        "let low = {low}; in derivation {{ name = \"high\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; inherit low; \
         args = [ \"-ec\" ''echo looking at $low; mkdir $out; cat $low/low > $out/copy; ln -s $low $out/low'' ]; }}"
    )
}

#[test]
fn the_second_account_runs_nothing() {
    let Some(server) = server() else { return };
    let (alice, bob) = (server.client("alice").unwrap(), server.client("bob").unwrap());

    let first = build(&alice, "ssh-ng", &chain()).success().unwrap();
    assert!(
        first.stderr.contains("looking at /nix/store/"),
        "the log is live: {}",
        first.stderr
    );
    assert!(first.stderr.contains("firn: built high in "), "{}", first.stderr);
    assert_eq!(rungs(&server, "alice"), ["built", "built"]);

    let second = build(&bob, "ssh-ng", &chain()).success().unwrap();
    assert!(
        second
            .stderr
            .contains("firn: reused high: same derivation and same inputs"),
        "{}",
        second.stderr
    );
    assert_eq!(rungs(&server, "bob"), ["reused", "reused"]);

    let out = &first.lines()[0];
    assert_eq!(second.lines()[0], *out);
    assert_eq!(alice.nix.nar_hash(out).unwrap(), bob.nix.nar_hash(out).unwrap());

    // The oracle: the same derivation built by Nix itself.
    let local = server.client("local").unwrap();
    assert_eq!(build_locally(&local, &chain()), std::slice::from_ref(out));
    assert_eq!(local.nix.nar_hash(out).unwrap(), alice.nix.nar_hash(out).unwrap());
}

#[test]
fn the_same_account_is_answered_from_its_view() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    build(&alice, "ssh-ng", &chain()).success().unwrap();
    // A second machine of the same account with an empty store.
    let laptop = server.another_client("alice", "laptop").unwrap();
    build(&laptop, "ssh-ng", &chain()).success().unwrap();
    let reasons = answers(&server, "alice");
    assert_eq!(reasons.len(), 4);
    assert_eq!(reasons[3].0, "already-valid", "{reasons:?}");
}
