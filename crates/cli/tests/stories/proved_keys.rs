//! An SSH key acts for an account once somebody who has it has said so, and for the account that its client names.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{Client, Server, api, server};

/// A new key pair: its private half.
fn new_key(client: &Client, name: &str) -> PathBuf {
    let file = client.nix.dir().join(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
        .arg(&file)
        .status();
    assert!(made.unwrap().success());
    file
}

fn public(key: &Path) -> String {
    let line = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    line.trim_end().to_owned()
}

/// How a login with that key goes: whether well, and what it says.
fn login(client: &Client, key: &Path, words: &str) -> (bool, String) {
    let output = Command::new("ssh")
        .arg("-F")
        .arg(&client.ssh_config)
        .arg("-i")
        .arg(key)
        .args(["-oIdentitiesOnly=yes", "firn"])
        .args(words.split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn two() -> Option<(Server, Client, Client)> {
    let server = server()?;
    let clients = ["alice", "bob"].map(|name| server.client(name).unwrap());
    let [alice, bob] = clients;
    Some((server, alice, bob))
}

#[test]
fn whoever_has_a_key_can_add_it() {
    let Some((_server, alice, bob)) = two() else {
        return;
    };
    let key = new_key(&alice, "new");
    let asked = alice
        .ssh(&["shell", "ssh-keys", "add", &public(&key)])
        .unwrap()
        .success()
        .unwrap();
    // The line that it prints, with the file's name.
    let line = asked
        .stdout
        .lines()
        .find(|line| line.trim_start().starts_with("ssh -i FILE"))
        .unwrap();
    let code = line.split_whitespace().next_back().unwrap().to_owned();
    assert!(code.starts_with("alice-"), "{code}");
    let line = line.replace(
        "ssh -i FILE",
        &format!("ssh -F {} -i {}", alice.ssh_config.display(), key.display()),
    );

    // Until then it is good for nothing else, and nobody else can say the code.
    for words in [
        "api whoami",
        "nix-daemon --stdio",
        "nix-store --serve --write",
        "shell",
        "shell ssh-keys confirm alice-0",
    ] {
        let (ok, said) = login(&alice, &key, words);
        assert!(
            !ok && (said.contains("acts for no account yet") || said.contains("no key waits for this code")),
            "{words}: {said}"
        );
    }
    for client in [&alice, &bob] {
        let refused = client.ssh(&["shell", "ssh-keys", "confirm", &code]).unwrap();
        assert!(
            !refused.ok
                && refused
                    .stderr
                    .contains("in a login with the key that it was given for"),
            "{}",
            refused.stderr
        );
    }
    let confirmed = Command::new("sh")
        .args(["-c", &line])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8([confirmed.stdout, confirmed.stderr].concat()).unwrap();
    assert!(
        confirmed.status.success() && said.contains("acts for account 'alice' now"),
        "{said}"
    );
    let (ok, said) = login(&alice, &key, "api whoami");
    let me: Value = serde_json::from_str(&said).unwrap();
    assert!(ok && me["account"] == "alice", "{said}");
    let again = api(&alice, &["ssh-keys", "add", &public(&key)]);
    assert_eq!(again.get("code"), None, "{again}");
}

#[test]
fn a_published_key_becomes_nobodys_login() {
    let Some((server, mallory, bob)) = two() else {
        return;
    };
    // Of somebody who has an account, and of somebody who will.
    let carols = new_key(&bob, "carol");
    let bobs = bob.nix.dir().join("id_ed25519");
    let answers = [&bobs, &carols].map(|key| {
        let answer = api(&mallory, &["ssh-keys", "add", &public(key)]);
        let mut members: Vec<String> = answer.as_object().unwrap().keys().cloned().collect();
        members.sort();
        members
    });
    assert_eq!(
        answers[0], answers[1],
        "the answer does not tell which keys there are"
    );
    let (ok, said) = login(&bob, &carols, "api whoami");
    assert!(
        !ok && !said.contains("mallory") && !said.contains("alice"),
        "{said}"
    );
    let (ok, said) = login(&bob, &bobs, "api whoami");
    assert!(ok && said.contains("\"bob\""), "{said}");
    server
        .firn(&["account", "add", "carol"])
        .unwrap()
        .success()
        .unwrap();
    let file = carols.with_extension("pub");
    let add = ["ssh-keys", "add", file.to_str().unwrap(), "--account", "carol"];
    server.firn(&add).unwrap().success().unwrap();
    let (ok, said) = login(&bob, &carols, "api whoami");
    assert!(ok && said.contains("\"carol\""), "{said}");
}

#[test]
fn a_login_as_an_account_is_that_accounts_or_none() {
    let Some((server, alice, _bob)) = two() else {
        return;
    };
    let key = alice.nix.dir().join("id_ed25519");
    let as_user = |user: &str| login(&alice, &key, &format!("-l {user} api whoami"));
    for user in ["alice", "firn", "nobody-here", "Alice"] {
        let (ok, said) = as_user(user);
        assert!(ok && said.contains("\"alice\""), "{user}: {said}");
    }
    let (ok, said) = as_user("bob");
    assert!(!ok && said.contains("Permission denied"), "{said}");
    for reserved in ["firn", "nix", "root"] {
        let refused = server.firn(&["account", "add", reserved]).unwrap();
        assert!(
            !refused.ok && refused.stderr.contains("cannot be an account"),
            "{}",
            refused.stderr
        );
    }
}
