//! Two servers on one PostgreSQL, and a PostgreSQL that is started again under a server.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use firn_testkit::postgres::Postgres;
use tempfile::TempDir;

use crate::{Server, api, wait_for};

const PROGRAM: &str = env!("CARGO_BIN_EXE_firn");

/// A PostgreSQL, and two folders for servers on one database of it.
fn place() -> Option<(Postgres, [TempDir; 2])> {
    if let Some(reason) = firn_testkit::missing() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let postgres = match Postgres::start() {
        Ok(server) => server,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: {e}");
            return None;
        }
        Err(e) => panic!("{e}"),
    };
    let url = postgres.database().unwrap();
    let folders = [0, 1].map(|_| {
        let folder =
            firn_testkit::scratch(&Path::new(PROGRAM).ancestors().nth(2).unwrap().join("tmp")).unwrap();
        let config = format!("[settings]\nsubstituters = []\n\n[database]\nurl = \"{url}\"\n");
        std::fs::write(folder.path().join("firn.toml"), config).unwrap();
        folder
    });
    Some((postgres, folders))
}

/// A process that does not outlive the test.
struct Launched(Child);

impl Launched {
    /// Whether it ended without an error; `None` while it runs.
    fn ended(&mut self) -> Option<bool> {
        self.0.try_wait().unwrap().map(|status| status.success())
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `firn serve` in a folder, with what it says in files there.
fn launch(folder: &Path) -> Launched {
    let file = |name: &str| std::fs::File::create(folder.join(name)).unwrap();
    let child = Command::new(PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.join("data"))
        .env("FIRN_CONFIG", folder.join("firn.toml"))
        .stdin(Stdio::null())
        .stdout(file("out"))
        .stderr(file("err"))
        .spawn();
    Launched(child.unwrap())
}

fn said(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn a_second_server_on_one_database_stops_and_names_the_first() {
    let Some((mut postgres, [one, two])) = place() else {
        return;
    };
    let mut first = Server::start_in(Path::new(PROGRAM), one.path()).unwrap();
    let alice = first.client("alice").unwrap();
    let refused = |data: &Path| {
        let second = RefCell::new(launch(two.path()));
        wait_for("the second one ends", || second.borrow_mut().ended().is_some());
        assert_eq!(second.borrow_mut().ended(), Some(false));
        let text = said(two.path(), "err");
        for part in [
            "in use by another `firn serve` on host",
            "127.0.0.1:0",
            data.to_str().unwrap(),
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!said(two.path(), "out").contains("is ready"));
    };
    refused(&first.data_dir());
    // It is the same after the database was away for a while, and the first one goes on.
    postgres.stop().unwrap();
    postgres.launch().unwrap();
    api(&alice, &["settings", "set", "timeout", "7"]);
    refused(&first.data_dir());
    // When the first one is gone, however it went, the second one starts at once.
    first.kill();
    let mut second = Server::start_in(Path::new(PROGRAM), two.path()).unwrap();
    assert!(
        second
            .firn(&["account", "list"])
            .unwrap()
            .stdout
            .contains("alice")
    );
    second.stop();
    first.launch().unwrap();
    assert!(api(&alice, &["settings"]).to_string().contains("\"7\""));
}

#[test]
fn of_two_that_start_at_once_one_serves() {
    let Some((_postgres, [one, two])) = place() else {
        return;
    };
    let folders = [one.path(), two.path()];
    for _ in 0..8 {
        let both = RefCell::new(folders.map(launch));
        let ready = || folders.map(|folder| said(folder, "out").contains("is ready"));
        let over = || both.borrow_mut().each_mut().map(|one| one.ended().is_some());
        wait_for(
            "one has ended, and the other serves or has ended too",
            || match over() {
                [true, true] => true,
                [false, false] => false,
                _ => ready().contains(&true),
            },
        );
        let errors = folders.map(|folder| said(folder, "err")).concat();
        assert!(over().contains(&false), "{errors}");
        assert_eq!(ready(), over().map(|over| !over), "{errors}");
    }
}
