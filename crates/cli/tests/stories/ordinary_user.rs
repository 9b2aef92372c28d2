//! The whole service as an ordinary user: builds in user namespaces, all under that user's id.

use std::path::Path;

use firn_testkit::Server;

use crate::{build, build_locally, derivation, rungs};

/// `nobody`.
const USER: u32 = 65534;

#[test]
fn an_ordinary_user_serves_the_same_builds() {
    if let Some(reason) = firn_testkit::missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let server = match Server::start_as(Path::new(env!("CARGO_BIN_EXE_firn")), USER) {
        Ok(server) => server,
        Err(reason) => {
            eprintln!("skipped: {reason:#}");
            return;
        }
    };
    let (alice, bob) = (server.client("alice").unwrap(), server.client("bob").unwrap());
    let script = "id -u; id -g; mkdir $out; echo x > $out/file; chmod 755 $out/file; ln -s file $out/link; grep Cap /proc/self/status > $out/caps";
    let expression = derivation("ordinary", script);
    let out = build(&alice, "ssh-ng", &expression)
        .success()
        .unwrap()
        .lines()
        .remove(0);
    build(&bob, "ssh-ng", &expression).success().unwrap();
    assert_eq!(
        (rungs(&server, "alice"), rungs(&server, "bob")),
        (vec!["built".into()], vec!["reused".into()])
    );

    let local = server.another_client("alice", "local").unwrap();
    assert_eq!(build_locally(&local, &expression), std::slice::from_ref(&out));
    let caps =
        |client: &crate::Client| std::fs::read_to_string(client.nix.on_disk(&out).join("caps")).unwrap();
    // The bounding set follows the machine's user; what a build holds is nothing in both.
    let held = |text: String| {
        text.lines()
            .filter(|l| !l.starts_with("CapBnd"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(held(caps(&alice)), held(caps(&local)));
}
