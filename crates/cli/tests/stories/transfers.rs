//! `nix copy`, `nix path-info`, `nix store ping`: Firn as a store.

use crate::{build_locally, derivation, server};

const URL: &str = "ssh-ng://firn";

#[test]
fn what_was_copied_in_comes_out_the_same() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    let script = "mkdir -p $out/a/b; echo x > $out/a/b/x; chmod 755 $out/a/b/x; ln -s a/b/x $out/link; : > $out/empty; head -c 3000000 /dev/urandom > $out/big; echo $out > $out/self";
    let out = build_locally(&alice, &derivation("tree", script)).remove(0);
    let hash = alice.nix.nar_hash(&out).unwrap();
    alice
        .nix
        .run("nix", &["store", "ping", "--store", URL])
        .unwrap()
        .success()
        .unwrap();
    alice
        .nix
        .run("nix", &["copy", "--no-check-sigs", "--to", URL, &out])
        .unwrap()
        .success()
        .unwrap();
    let info = alice
        .nix
        .run("nix", &["path-info", "--json", "--store", URL, &out])
        .unwrap()
        .success()
        .unwrap();
    let info: serde_json::Value = serde_json::from_str(&info.stdout).unwrap();
    assert_eq!(info[0]["references"], serde_json::json!([out]), "{info}");

    let laptop = server.another_client("alice", "laptop").unwrap();
    laptop
        .nix
        .run("nix", &["copy", "--no-check-sigs", "--from", URL, &out])
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(laptop.nix.nar_hash(&out).unwrap(), hash);
}

#[test]
fn sources_need_no_flag() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    let file = alice.nix.dir().join("source.txt");
    std::fs::write(&file, "some text\n").unwrap();
    let added = alice
        .nix
        .run("nix-store", &["--add", file.to_str().unwrap()])
        .unwrap()
        .success()
        .unwrap();
    let path = added.lines().remove(0);
    alice
        .nix
        .run("nix", &["copy", "--to", URL, &path])
        .unwrap()
        .success()
        .unwrap();
    // Adding it to the remote store gives the same path.
    let mut command = alice.nix.command("nix", false);
    let remote = command
        .args(["store", "add-path", "--store", URL])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(remote.stdout).unwrap().trim(), path);
}

#[test]
fn two_clients_upload_the_same_path_at_once() {
    let Some(server) = server() else { return };
    let clients: Vec<_> = (0..4)
        .map(|i| server.client(&format!("account{i}")).unwrap())
        .collect();
    let expression = derivation(
        "same",
        "mkdir $out; head -c 20000000 /dev/zero > $out/zeros; echo $name > $out/name",
    );
    let paths: Vec<String> = clients
        .iter()
        .map(|c| build_locally(c, &expression).remove(0))
        .collect();
    std::thread::scope(|scope| {
        for client in &clients {
            let path = &paths[0];
            scope.spawn(move || {
                client
                    .nix
                    .run("nix", &["copy", "--no-check-sigs", "--to", URL, path])
                    .unwrap()
                    .success()
                    .unwrap()
            });
        }
    });
    let trees = server.data_dir().join("contents/trees");
    let stored: usize = std::fs::read_dir(trees)
        .unwrap()
        .map(|d| std::fs::read_dir(d.unwrap().path()).unwrap().count())
        .sum();
    // The path itself once, and the sandbox's shell.
    assert_eq!(stored, 2);
}
