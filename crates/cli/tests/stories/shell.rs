//! `ssh HOST shell`, `ssh HOST api` and the same commands for the operator.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::{Client, Server, build, derivation, rungs, server};

/// `ssh` with options, a command, and all of its input.
fn ssh(client: &Client, options: &[&str], command: &str, input: &str) -> Seen {
    let mut child = Command::new("ssh")
        .arg("-F")
        .arg(&client.ssh_config)
        .args(options)
        .arg("firn")
        .args((!command.is_empty()).then_some(command))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A server that refuses reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Seen {
        ok: output.status.success(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

struct Seen {
    ok: bool,
    stdout: String,
    stderr: String,
}

impl Seen {
    fn success(self) -> Self {
        assert!(self.ok, "{}{}", self.stdout, self.stderr);
        self
    }
}

/// What `api` answers; `Err` when the command failed.
fn api_with(client: &Client, options: &[&str], command: &str, input: &str) -> Result<Value, String> {
    let run = ssh(client, options, &format!("api {command}"), input);
    assert_eq!(run.stderr, "", "{command}");
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    match value.get("error") {
        Some(error) => {
            assert!(!run.ok, "{command}");
            Err(error.as_str().unwrap().to_owned())
        }
        None => {
            assert!(run.ok, "{command}");
            Ok(value)
        }
    }
}

fn api(client: &Client, command: &str) -> Result<Value, String> {
    api_with(client, &[], command, "")
}

/// The members of that name in a list of objects.
fn all(list: &Value, member: &str) -> Vec<String> {
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| row[member].as_str().unwrap_or("-").to_owned())
        .collect()
}

fn two() -> Option<(Server, Client, Client)> {
    let server = server()?;
    let (alice, bob) = (server.client("alice").unwrap(), server.client("bob").unwrap());
    Some((server, alice, bob))
}

#[test]
fn every_command_of_settings_and_keys() {
    let Some((server, alice, _bob)) = two() else {
        return;
    };
    let me = api(&alice, "whoami").unwrap();
    let fingerprint = me["ssh_key"].as_str().unwrap();
    assert_eq!(
        (me["account"].as_str(), me["operator"].as_bool()),
        (Some("alice"), Some(false))
    );

    let names = all(&api(&alice, "settings").unwrap(), "setting");
    assert!(names.contains(&"timeout".into()), "{names:?}");
    assert_eq!(api(&alice, "settings set timeout 60").unwrap()["value"], "60");
    let at_key = api(&alice, &format!("settings set timeout 70 --key {fingerprint}")).unwrap();
    assert_eq!(
        (&at_key["value"], &at_key["set_by"]),
        (&json!("70"), &json!("ssh-key"))
    );
    assert_eq!(api(&alice, "settings get timeout").unwrap()["set_by"], "account");
    assert_eq!(api(&alice, "settings unset timeout").unwrap()["set_by"], "system");
    for (command, error) in [
        ("settings set timout 1", "did you mean 'timeout'"),
        ("settings set timeout soon", "not a whole number"),
        (
            "settings set private 1 --key SHA256:x",
            "cannot be set by the ssh-key",
        ),
        ("settings get nonsense", "there is no setting 'nonsense'"),
        ("settings list --key SHA256:x", "has no key 'SHA256:x'"),
        ("settings set timeout '1", "unbalanced quote"),
        ("nonsense", "nonsense"),
    ] {
        match command.contains('\'') {
            true => assert!(
                ssh(&alice, &[], &format!("api {command}"), "")
                    .stderr
                    .contains(error)
            ),
            false => {
                let refused = api(&alice, command).unwrap_err();
                assert!(refused.contains(error), "{refused}");
            }
        }
    }

    assert_eq!(
        all(&api(&alice, "ssh-keys list").unwrap(), "fingerprint"),
        [fingerprint]
    );
    let last = api(&alice, &format!("ssh-keys remove {fingerprint}")).unwrap_err();
    assert!(last.contains("--yes-last"), "{last}");
    let taken = std::fs::read_to_string(server.data_dir().join("../clients/bob/id_ed25519.pub")).unwrap();
    let proposed = api(&alice, &format!("ssh-keys add {taken}")).unwrap();
    assert_eq!(proposed["comment"], "bob");
    assert_eq!(
        all(&api(&alice, "ssh-keys list").unwrap(), "fingerprint"),
        [fingerprint]
    );
    api(&alice, &format!("ssh-keys remove {fingerprint} --yes-last")).unwrap();
    assert!(!ssh(&alice, &[], "api whoami", "").ok, "the key acts no more");
}

fn first_key(server: &Server, account: &str) -> String {
    let run = server
        .firn(&["ssh-keys", "list", "--account", account, "--json"])
        .unwrap();
    let keys: Value = serde_json::from_str(&run.success().unwrap().stdout).unwrap();
    keys[0]["fingerprint"].as_str().unwrap().to_owned()
}

#[test]
fn every_command_of_caches_and_signing() {
    let Some((server, alice, _bob)) = two() else {
        return;
    };
    let shown = api(&alice, "signing-key show").unwrap();
    let first = shown[0]["key"].as_str().unwrap().to_owned();
    let second = api(&alice, "signing-key rotate").unwrap();
    assert_ne!(second["key"].as_str().unwrap(), first);
    assert_eq!(
        api(&alice, "signing-key show").unwrap().as_array().unwrap().len(),
        2
    );
    let made = alice
        .nix
        .run("nix", &["key", "generate-secret", "--key-name", "mine-1"]);
    let secret = made.unwrap().success().unwrap().stdout;
    let imported = api_with(&alice, &[], "signing-key import", &secret).unwrap();
    assert!(
        imported["key"].as_str().unwrap().starts_with("mine-1:"),
        "{imported}"
    );
    assert!(
        !imported.to_string().contains(secret.trim()),
        "the secret stays one"
    );
    assert!(
        api(&alice, "signing-key import")
            .unwrap_err()
            .contains("the next line of input")
    );

    api(&alice, &format!("trusted-keys add {first}")).unwrap();
    let name = first.split(':').next().unwrap();
    let names = all(&api(&alice, "trusted-keys list").unwrap(), "name");
    assert!(names.contains(&name.to_owned()), "{names:?}");
    api(&alice, &format!("trusted-keys remove {name}")).unwrap();
    assert!(
        api(&alice, &format!("trusted-keys remove {name}"))
            .unwrap_err()
            .contains("no key named")
    );
    assert!(api(&alice, "trusted-keys add nonsense").is_err());

    assert_eq!(api(&alice, "substituters list").unwrap(), json!([]));
    api(&alice, "substituters add https://cache.example.org/a").unwrap();
    assert_eq!(
        all(&api(&alice, "substituters list").unwrap(), "url"),
        ["https://cache.example.org/a"]
    );
    api(&alice, "substituters remove https://cache.example.org/a").unwrap();
    assert!(
        api(&alice, "substituters add nonsense")
            .unwrap_err()
            .contains("not the address")
    );

    api_with(&alice, &[], "logins set cache.example.org:444 alice", "s3cret\n").unwrap();
    let logins = api(&alice, "logins list").unwrap();
    assert_eq!(
        logins,
        json!([{ "host": "cache.example.org:444", "user": "alice" }])
    );
    api(&alice, "logins remove cache.example.org:444").unwrap();
    assert!(
        api(&alice, "logins remove cache.example.org:444")
            .unwrap_err()
            .contains("no login")
    );
    assert!(!server.log().contains("s3cret"), "secrets are not logged");
}

#[test]
fn trust_takes_two_and_says_so() {
    let Some((_server, alice, bob)) = two() else {
        return;
    };
    let half = ssh(&bob, &[], "shell trust add alice uploads", "").success();
    assert!(half.stdout.contains("readers add bob uploads"), "{}", half.stdout);
    let half = ssh(&alice, &[], "shell readers add bob builds", "").success();
    assert!(!half.stdout.contains("must say"), "{}", half.stdout);
    let trusted = api(&bob, "trust list").unwrap();
    assert_eq!(
        trusted,
        json!([{ "account": "alice", "trusts": "uploads", "lets_you_read": "builds" }])
    );
    let readers = api(&alice, "readers list").unwrap();
    assert_eq!(
        readers,
        json!([{ "account": "bob", "may_read": "builds", "trusts_you": "uploads" }])
    );
    assert_eq!(api(&alice, "trust list").unwrap(), json!([]));
    api(&bob, "trust remove alice").unwrap();
    api(&alice, "readers remove bob").unwrap();
    assert_eq!(api(&alice, "readers list").unwrap(), json!([]));
    assert!(
        api(&bob, "trust add nobody builds")
            .unwrap_err()
            .contains("no account 'nobody'")
    );
    assert!(
        api(&bob, "trust add alice much")
            .unwrap_err()
            .contains("builds, uploads")
    );
}

#[test]
fn what_happened_is_told_and_can_be_forgotten() {
    let Some((server, alice, bob)) = two() else { return };
    let expression = derivation("told", "echo told > $out");
    let drvs = alice
        .nix
        .instantiate(&alice.nix.expression(&expression).unwrap(), &[])
        .unwrap();
    let outs = alice
        .realise("ssh-ng", &drvs, &[])
        .unwrap()
        .success()
        .unwrap()
        .lines();
    let out = &outs[0];
    assert_eq!(all(&api(&alice, "builds --limit 5").unwrap(), "rung"), ["built"]);
    assert_eq!(api(&alice, "usage").unwrap()["rungs"]["built"]["requests"], 1);
    let why = api(&alice, &format!("explain {out}")).unwrap();
    assert_eq!(
        (&why["valid"], &why["candidates"][0]["chosen"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(api(&bob, &format!("explain {out}")).unwrap()["valid"], false);
    assert!(
        api(&alice, "explain /etc/passwd")
            .unwrap_err()
            .contains("not a store path")
    );
    assert_eq!(api(&alice, &format!("forget {out}")).unwrap()["forgotten"], 1);
    assert_eq!(api(&alice, &format!("explain {out}")).unwrap()["valid"], false);
    // The operator has the same commands.
    let text = server
        .firn(&["explain", out, "--account", "alice"])
        .unwrap()
        .success()
        .unwrap();
    assert!(text.stdout.contains("is not valid for you"), "{}", text.stdout);
    let builds = server
        .firn(&["builds", "--account", "bob"])
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(builds.stdout.trim(), "no requests yet");
    let whose = server.firn(&["builds"]).unwrap();
    assert!(
        !whose.ok && whose.stderr.contains("--account NAME"),
        "{}",
        whose.stderr
    );
    let refused = server
        .firn(&["settings", "get", "x", "--account", "bob", "--json"])
        .unwrap();
    assert!(
        !refused.ok && refused.stdout.starts_with("{\"error\":"),
        "{}",
        refused.stdout
    );
}

#[test]
fn the_shell_is_for_people_and_for_pipes() {
    let Some((_server, alice, _bob)) = two() else {
        return;
    };
    // Lines from a pipe: no prompt, failures do not stop, but count.
    let lines = "# a comment\nwhoami\n\nsettings get private\nnonsense\nsettings get timeout\n";
    let piped = ssh(&alice, &["-T"], "", lines);
    assert!(!piped.ok);
    assert!(
        piped.stdout.starts_with("account: alice\n") && piped.stdout.ends_with("\nfalse\n0\n"),
        "{}",
        piped.stdout
    );
    assert!(
        piped.stderr.starts_with("firn: ") && piped.stderr.contains("nonsense"),
        "{}",
        piped.stderr
    );
    // Who says nothing is told where he is.
    for (command, part) in [
        ("", "ssh HOST shell help"),
        ("shell", "account 'alice'"),
        ("api", "\"account\":\"alice\""),
    ] {
        let nothing = ssh(&alice, &["-T"], command, "").success();
        assert!(nothing.stdout.contains(part), "{command}: {}", nothing.stdout);
    }
    assert_eq!(ssh(&alice, &[], "shell", "exit\n").success().stdout, "");
    let documents = ssh(&alice, &[], "api", "whoami\nsettings get timeout\nexit\nwhoami\n");
    assert!(documents.ok);
    let values: Vec<Value> = documents
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((values.len(), &values[1]["value"]), (2, &json!("0")));

    // Keys of a terminal: completion, editing, history, a secret, the end.
    let keys = "who\t\rsettings get tim\t\x7f\x1b[D\x1b[C\r\x1b[A\x01\x0bdropped\x03logins set host alice\rs3cret\rlogins l\t\r\x04";
    for command in ["", "shell"] {
        let seen = ssh(&alice, &["-tt"], command, keys);
        assert!(seen.ok, "{}", seen.stderr);
        let screen = seen.stdout.replace("\r\n", "\n");
        for part in [
            "Firn, account 'alice'.",
            "account: alice\n",
            "settings get timeout\u{1b}[K",
            "\n0\n",
            "^C\n",
            "password: ",
            "the login for host is kept",
            "HOST  USER\nhost  alice\n",
        ] {
            assert!(screen.contains(part), "'{part}' is not in {screen:?}");
        }
        assert!(!screen.contains("s3cret"), "{screen:?}");
        assert!(
            !seen.stdout.replace("\r\n", "").contains('\n'),
            "every line feed has its return"
        );
    }
    let help = ssh(&alice, &[], "shell help trust", "").success();
    assert!(help.stdout.contains("It takes two"), "{}", help.stdout);
}

#[test]
fn a_key_can_be_shut_out_of_the_shell() {
    let Some((server, alice, _bob)) = two() else {
        return;
    };
    let robot = server.another_client("alice", "robot").unwrap();
    let key = api(&robot, "whoami").unwrap()["ssh_key"]
        .as_str()
        .unwrap()
        .to_owned();
    api(&alice, &format!("settings set allow-shell false --key {key}")).unwrap();
    let refused = api(&robot, "settings unset allow-shell").unwrap_err();
    assert!(refused.contains("allow-shell"), "{refused}");
    for options in [&["-T"][..], &["-tt"]] {
        let refused = ssh(&robot, options, "", "whoami\n");
        assert!(
            !refused.ok && refused.stderr.contains("allow-shell"),
            "{}",
            refused.stderr
        );
    }
    api(&alice, "whoami").unwrap();
    // Builds are another matter.
    build(&robot, "ssh-ng", &derivation("robot", "echo > $out"))
        .success()
        .unwrap();
}

#[test]
fn settings_come_with_the_session() {
    let Some((server, mut alice, mut bob)) = two() else {
        return;
    };
    let expression = derivation("with-the-session", "echo > $out");
    build(&alice, "ssh-ng", &expression).success().unwrap();
    let set = |client: &mut Client, variable: &str| {
        let options = format!("-F {} -oSetEnv={variable}", client.ssh_config.display());
        client.nix.set("NIX_SSHOPTS", options);
    };
    set(&mut bob, "FIRN_SHARE_BUILDS=false");
    build(&bob, "ssh-ng", &expression).success().unwrap();
    assert_eq!(
        rungs(&server, "bob"),
        ["built"],
        "bob left the sharing for this session"
    );
    set(&mut alice, "FIRN_SHARE_BULDS=false");
    let refused = build(&alice, "ssh-ng", &derivation("refused", "echo > $out"));
    assert!(
        !refused.ok && refused.stderr.contains("did you mean 'share-builds'"),
        "{}",
        refused.stderr
    );
    let refused = api_with(&alice, &["-oSetEnv=FIRN_PRIVATE=1"], "whoami", "").unwrap_err();
    assert!(
        refused.contains("cannot be set by the ssh-environment"),
        "{refused}"
    );
    // The program's own variables are no settings.
    api_with(&alice, &["-oSetEnv=FIRN_DATA_DIR=/x"], "whoami", "").unwrap();
    // Unless the account wants none of it.
    api(&alice, "settings set settings-from-ssh-env false").unwrap();
    api_with(&alice, &["-oSetEnv=FIRN_NONSENSE=1"], "whoami", "").unwrap();
}

#[test]
fn the_same_behind_openssh() {
    let Some((server, _alice, _bob)) = two() else {
        return;
    };
    let stdio = |variable: Option<(&str, &str)>, exec: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_firn"))
            .args(["stdio", "--account", "alice", "--exec", exec, "--data-dir"])
            .arg(server.data_dir())
            .envs(variable)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, out, err) = stdio(Some(("FIRN_TIMEOUT", "5")), "api whoami");
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let me: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&me["account"], &me["ssh_key"]), (&json!("alice"), &Value::Null));
    let (status, out, err) = stdio(Some(("FIRN_TIMOUT", "5")), "shell whoami");
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.contains("did you mean 'timeout'"), "{err}");
}

#[test]
fn an_account_is_made_with_its_key_or_not_at_all() {
    let Some((server, _alice, _bob)) = two() else {
        return;
    };
    let taken = server.data_dir().join("../clients/bob/id_ed25519.pub");
    let taken = taken.to_str().unwrap();
    let refused = server
        .firn(&["account", "add", "carol", "--ssh-key", taken])
        .unwrap();
    assert!(
        !refused.ok && refused.stderr.contains("belongs to an account already"),
        "{}",
        refused.stderr
    );
    assert!(
        !server
            .firn(&["account", "list"])
            .unwrap()
            .stdout
            .contains("carol")
    );
    server
        .firn(&["account", "remove", "bob"])
        .unwrap()
        .success()
        .unwrap();
    let added = server
        .firn(&["account", "add", "carol", "--ssh-key", taken, "--json"])
        .unwrap();
    let added: Value = serde_json::from_str(&added.success().unwrap().stdout).unwrap();
    assert_eq!(added["ssh_key"], json!(first_key(&server, "carol")));
}

#[test]
fn sessions_that_end_as_they_should_are_not_called_early() {
    let Some((server, alice, bob)) = two() else {
        return;
    };
    for (scheme, client) in [("ssh-ng", &alice), ("ssh", &bob)] {
        let expression = derivation("ordinary", "echo > $out");
        build(client, scheme, &expression).success().unwrap();
    }
    ssh(&alice, &[], "shell whoami", "").success();
    server.firn(&["status"]).unwrap().success().unwrap();
    assert!(!server.log().contains("ended early"), "{}", server.log());
}
