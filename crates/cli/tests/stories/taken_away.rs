//! What is taken away ends what stands on it: {key, account, right, limit} × {open connection, open shell, running build, queued build}.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::{Client, Server, api, derivation, server, start, status, wait_for};

/// Everything that a key can have open.
struct Open {
    server: Server,
    /// Another key of the same account.
    owner: Client,
    thief: Client,
    fingerprint: String,
    socket: PathBuf,
    connection: Child,
    shell: Child,
    shells_input: ChildStdin,
    builds: Vec<Child>,
}

impl Open {
    /// Two builds run, one waits.
    fn everything() -> Option<Self> {
        let mut server = server()?;
        server.stop();
        server
            .configure("[build]\nmax-jobs = 2\nfinish-left-builds = 0\n")
            .unwrap();
        server.launch().unwrap();
        let owner = server.client("alice").unwrap();
        let thief = server.another_client("alice", "thief").unwrap();
        let fingerprint = api(&thief, &["whoami"])["ssh_key"].as_str().unwrap().to_owned();
        let socket = thief.nix.dir().join("master");
        let ssh = |words: &[&str]| {
            let mut ssh = Command::new("ssh");
            ssh.arg("-F").arg(&thief.ssh_config).args(words);
            ssh
        };
        let connection = ssh(&["-M", "-N", "-S"])
            .arg(&socket)
            .arg("firn")
            .stdin(Stdio::null())
            .spawn();
        let mut shell = ssh(&["firn", "shell"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut shells_input = shell.stdin.take().unwrap();
        shells_input.write_all(b"whoami\n").unwrap();
        let mut answer = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut answer)
            .unwrap();
        assert_eq!(answer, "account: alice\n");
        wait_for("the connection", || socket.exists());
        let mut builds = Vec::new();
        for (name, expected) in [("one", [1, 0]), ("two", [2, 0]), ("three", [2, 1])] {
            builds.push(start(&thief, &derivation(name, "sleep 10000")));
            wait_for(name, || status(&server) == expected);
        }
        Some(Self {
            server,
            owner,
            thief,
            fingerprint,
            socket,
            connection: connection.unwrap(),
            shell,
            shells_input,
            builds,
        })
    }

    fn firn(&self, arguments: &[&str]) {
        self.server.firn(arguments).unwrap().success().unwrap();
    }

    /// A channel of the open connection.
    fn channel(&self, words: &str) -> (bool, String) {
        let run = Command::new("ssh")
            .arg("-F")
            .arg(&self.thief.ssh_config)
            .arg("-S")
            .arg(&self.socket)
            .args(["firn", words])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [run.stdout, run.stderr].concat();
        (run.status.success(), String::from_utf8(said).unwrap())
    }

    /// What is typed into the open shell from here on is not done.
    fn shell_ends(&mut self) {
        // It may be gone already.
        let _ = self.shells_input.write_all(b"settings set timeout 77\n");
        wait_for("the shell ends", || self.shell.try_wait().unwrap().is_some());
        assert!(!self.shell.wait().unwrap().success());
    }

    fn all_ends(&mut self) {
        self.shell_ends();
        let (ok, said) = self.channel("api whoami");
        assert!(!ok && !said.contains("alice\""), "{said}");
        wait_for("the builds end", || status(&self.server) == [0, 0]);
        for build in &mut self.builds {
            assert!(!build.wait().unwrap().success());
        }
        wait_for("the connection ends", || {
            self.connection.try_wait().unwrap().is_some()
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        for child in [&mut self.connection, &mut self.shell]
            .into_iter()
            .chain(&mut self.builds)
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_key() {
    let Some(mut open) = Open::everything() else {
        return;
    };
    // Its own restrictions hold to the end: what it is kept from, the account is not.
    let restricted = ["settings", "set", "timeout", "3600", "--key", &open.fingerprint];
    api(&open.owner, &restricted);
    api(&open.owner, &["ssh-keys", "remove", &open.fingerprint]);
    open.all_ends();
    assert_eq!(api(&open.owner, &["settings", "get", "timeout"])["value"], "0");
}

#[test]
fn an_account() {
    let Some(mut open) = Open::everything() else {
        return;
    };
    open.firn(&["account", "remove", "alice"]);
    open.firn(&["account", "add", "alice"]);
    open.all_ends();
}

#[test]
fn a_right() {
    let Some(mut open) = Open::everything() else {
        return;
    };
    let fingerprint = open.fingerprint.clone();
    open.firn(&[
        "settings",
        "set",
        "allow-shell",
        "false",
        "--key",
        &fingerprint,
        "--account",
        "alice",
    ]);
    open.shell_ends();
    let (ok, said) = open.channel("shell whoami");
    assert!(!ok && said.contains("allow-shell"), "{said}");
    // The right to build is another one.
    let (ok, said) = open.channel("nix-store --serve --write");
    assert!(!said.contains("allow-shell"), "{ok} {said}");
    assert!(open.connection.try_wait().unwrap().is_none());
    assert_eq!(status(&open.server), [2, 1]);
    assert_eq!(api(&open.owner, &["settings", "get", "timeout"])["value"], "0");
}

#[test]
fn a_limit() {
    let Some(mut open) = Open::everything() else {
        return;
    };
    open.firn(&["settings", "set", "build-quota", "1", "--account", "alice"]);
    // What runs goes on, what waits waits by the new limit.
    for (gone, left) in [(0, [1, 1]), (1, [1, 0])] {
        open.builds[gone].kill().unwrap();
        open.builds[gone].wait().unwrap();
        wait_for("one build less", || status(&open.server) == left);
    }
    let (ok, said) = open.channel("api whoami");
    assert!(ok, "{said}");
    assert!(open.shell.try_wait().unwrap().is_none());
}

#[test]
fn a_session_may_take_its_own_rights_away_and_hears_that_it_did() {
    let Some(server) = server() else { return };
    let alice = server.client("alice").unwrap();
    let fingerprint = |client: &Client| api(client, &["whoami"])["ssh_key"].as_str().unwrap().to_owned();
    let robot = server.another_client("alice", "robot").unwrap();
    let own = fingerprint(&robot);
    let closed = robot
        .ssh(&["shell", "settings", "set", "allow-shell", "false", "--key", &own])
        .unwrap();
    assert!(
        closed.ok && closed.stdout.contains("allow-shell = false"),
        "{}",
        closed.stderr
    );
    let mine = fingerprint(&alice);
    api(&alice, &["settings", "unset", "allow-shell", "--key", &own]);
    // In a session of several commands nothing follows.
    let output = Command::new("sh")
        .args([
            "-c",
            &format!(
                "printf 'ssh-keys remove {own}\nsettings set timeout 77\n' | ssh -F {} firn api",
                robot.ssh_config.display()
            ),
        ])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        !output.status.success() && told.contains("acts for account 'alice' no more"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_eq!(api(&alice, &["settings", "get", "timeout"])["value"], "0");
    let last = api(&alice, &["ssh-keys", "remove", &mine, "--yes-last"]);
    assert_eq!(last["removed"], mine.as_str());
}
