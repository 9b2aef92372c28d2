//! `firn account`, `firn ssh-keys`, `firn doctor`, the configuration: while the server runs.

use std::os::unix::fs::PermissionsExt as _;

use crate::server;

#[test]
fn accounts_and_keys_come_and_go() {
    let Some(server) = server() else { return };
    let firn = |arguments: &[&str]| server.firn(arguments).unwrap();
    assert!(firn(&["account", "list"]).stdout.contains("no accounts"));
    server.client("alice").unwrap();
    let again = firn(&["account", "add", "alice"]);
    assert!(
        !again.ok && again.stderr.contains("account 'alice' exists already"),
        "{}",
        again.stderr
    );
    let bad = firn(&["account", "add", "../alice"]);
    assert!(
        !bad.ok && bad.stderr.contains("is not an account name"),
        "{}",
        bad.stderr
    );
    firn(&["account", "add", "bob"]).success().unwrap();

    let key = server.data_dir().join("../clients/alice/id_ed25519.pub");
    let key = key.to_str().unwrap();
    let taken = firn(&["ssh-keys", "add", key, "--account", "bob"]);
    assert!(
        !taken.ok && taken.stderr.contains("belongs to an account already"),
        "{}",
        taken.stderr
    );
    let private = firn(&[
        "ssh-keys",
        "add",
        key.trim_end_matches(".pub"),
        "--account",
        "bob",
    ]);
    assert!(
        !private.ok && private.stderr.contains("PRIVATE key"),
        "{}",
        private.stderr
    );
    let nobody = firn(&["ssh-keys", "list", "--account", "nobody"]);
    assert!(
        !nobody.ok && nobody.stderr.contains("there is no account 'nobody'"),
        "{}",
        nobody.stderr
    );

    firn(&["account", "remove", "alice"]).success().unwrap();
    firn(&["ssh-keys", "add", key, "--account", "bob"])
        .success()
        .unwrap();
    assert!(firn(&["account", "list"]).stdout.contains("bob"));
}

#[test]
fn only_the_owner_reaches_the_socket_and_the_data() {
    let Some(server) = server() else { return };
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&server.data_dir()), 0o700);
    assert_eq!(mode(&server.data_dir().join("admin.sock")), 0o600);
    assert_eq!(mode(&server.data_dir().join("ssh_host_ed25519_key")), 0o600);
}

#[test]
fn a_second_server_on_the_same_data_stops_with_the_reason() {
    let Some(server) = server() else { return };
    for _ in 0..2 {
        let second = server.firn(&["serve", "--listen", "127.0.0.1:0"]).unwrap();
        assert!(!second.ok, "{}", second.stdout);
        for part in [
            "is in use by another `firn serve` on host",
            "127.0.0.1:0",
            "since 2",
        ] {
            assert!(second.stderr.contains(part), "{}", second.stderr);
        }
    }
}

#[test]
fn a_data_directory_that_others_can_read_is_refused() {
    let Some(mut server) = server() else { return };
    server.stop();
    std::fs::set_permissions(server.data_dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = server.firn(&["serve", "--listen", "127.0.0.1:0"]).unwrap();
    assert!(!run.ok && run.stderr.contains("run: chmod 700"), "{}", run.stderr);
}

#[test]
fn unknown_settings_are_refused() {
    let Some(server) = server() else { return };
    server
        .configure("[ssh]\nlisten = \"127.0.0.1:0\"\nport = 22\n")
        .unwrap();
    let run = server.firn(&["status"]).unwrap();
    assert!(
        !run.ok && run.stderr.contains("unknown field `port`"),
        "{}",
        run.stderr
    );
}

#[test]
fn the_doctor_says_what_there_is() {
    let Some(server) = server() else { return };
    let run = server.firn(&["doctor"]).unwrap();
    assert!(run.ok, "{}\n{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("user namespaces"), "{}", run.stdout);
}

#[test]
fn the_doctor_says_what_serve_would_refuse() {
    let Some(mut server) = server() else { return };
    let json = |server: &crate::Server| -> serde_json::Value {
        let run = server.firn(&["--json", "doctor"]).unwrap();
        let said: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(run.ok, said["ok"].as_bool().unwrap(), "{said}");
        said
    };
    let of = |said: &serde_json::Value, name: &str| {
        let checks = said["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap().clone()
    };
    let good = json(&server);
    assert_eq!(good["ok"], true, "{good}");
    let place = of(&good, "data directory");
    assert!(
        place["detail"].as_str().unwrap().contains("a service uses it"),
        "{place}"
    );

    server.stop();
    std::fs::set_permissions(server.data_dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = server.firn(&["doctor"]).unwrap();
    assert!(!run.ok && run.stdout.contains("run: chmod 700"), "{}", run.stdout);
    std::fs::set_permissions(server.data_dir(), std::fs::Permissions::from_mode(0o700)).unwrap();

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (toml, name, words) in [
        (
            format!("[ssh]\nlisten = \"{address}\""),
            "ssh address",
            "cannot listen on",
        ),
        (
            "[build]\nsandbox-shell = \"/nowhere\"".into(),
            "sandbox shell",
            "is not a file",
        ),
    ] {
        server.configure(&toml).unwrap();
        let bad = of(&json(&server), name);
        assert!(
            bad["ok"] == false && bad["detail"].as_str().unwrap().contains(words),
            "{bad}"
        );
        let serve = server.firn(&["serve"]).unwrap();
        assert!(!serve.ok && serve.stderr.contains(words), "{}", serve.stderr);
    }
}

#[test]
fn a_reader_that_goes_ends_a_command_quietly() {
    let Some(server) = server() else { return };
    for words in [&["account", "list"][..], &["doctor"], &["simulate", "--help"]] {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_firn"))
            .args(words)
            .arg("--data-dir")
            .arg(server.data_dir())
            .stdout(write)
            .output()
            .unwrap();
        assert_eq!(run.stderr.escape_ascii().to_string(), "", "{words:?}");
    }
}

#[test]
fn help_is_a_command_and_the_log_in_a_file_is_plain() {
    let Some(server) = server() else { return };
    let mut firn = std::process::Command::new(env!("CARGO_BIN_EXE_firn"));
    let help = firn.arg("help").output().unwrap();
    let said = help.stdout.escape_ascii().to_string();
    assert!(help.status.success() && said.contains("Usage: firn"), "{said}");
    let alice = server.client("alice").unwrap();
    let run = crate::build(&alice, "ssh-ng", &crate::derivation("plain", "echo > $out"));
    assert!(run.ok, "{}", run.stderr);
    let log = server.log();
    assert!(!log.contains('\u{1b}') && !log.contains("Some("), "{log}");
    assert!(
        log.contains("rung=\"built\"") || log.contains("rung=built"),
        "{log}"
    );
}
