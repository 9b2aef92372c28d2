//! `firn stdio`: the same session behind OpenSSH, or any other transport.

use std::path::Path;

use crate::{build_locally, derivation, server};

#[test]
fn nix_copy_through_firn_stdio() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    // To Nix, `localhost` is no ssh at all: it starts the remote program itself.
    let program = alice.nix.dir().join("remote-program");
    let firn = Path::new(env!("CARGO_BIN_EXE_firn"));
    for (scheme, exec) in [
        ("ssh-ng", "nix-daemon --stdio"),
        ("ssh", "nix-store --serve --write"),
    ] {
        let script = format!(
            "#!/bin/sh\nexec {} --data-dir {} stdio --account alice --exec '{exec}'\n",
            firn.display(),
            server.data_dir().display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let url = format!("{scheme}://localhost?remote-program={}", program.display());
        let out = build_locally(&alice, &derivation(&format!("through-{scheme}"), "echo x > $out")).remove(0);
        alice
            .nix
            .run("nix", &["copy", "--no-check-sigs", "--to", &url, &out])
            .unwrap()
            .success()
            .unwrap();
        let info = alice
            .nix
            .run("nix", &["path-info", "--store", "ssh-ng://firn", &out])
            .unwrap();
        info.success().unwrap();
    }
}

#[test]
fn an_unknown_account_is_named() {
    let Some(server) = server() else { return };
    let run = server.firn(&["stdio", "--account", "nobody"]).unwrap();
    assert!(
        !run.ok && run.stderr.contains("there is no account 'nobody'"),
        "{}",
        run.stderr
    );
}
