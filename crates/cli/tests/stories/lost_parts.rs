//! A log that cannot be written, and parts of the service that die.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Client, api, build, derivation, server};

/// A small file system of its own, for as long as this value is there.
struct Disk(PathBuf);

impl Disk {
    /// `None` where this process may not mount.
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&at);
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|s| s.success());
        mounted.then_some(Self(at))
    }

    /// Takes all that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        for size in [4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What makes the service write to its log and its database.
fn use_it(alice: &Client, round: u32) {
    for n in 0..4 {
        api(alice, &["settings", "set", "timeout", &n.to_string()]);
    }
    let expression = derivation(&format!("thing-{round}"), "echo 1 > $out");
    build(alice, "ssh-ng", &expression).success().unwrap();
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    let Some(mut server) = server() else { return };
    let alice = server.client("alice").unwrap();
    server.stop();
    let Some(disk) = Disk::mount(server.data_dir().join("../small")) else {
        eprintln!("skipped: mounting needs root");
        return;
    };
    server.configure("").unwrap();
    let config = server.data_dir().join("../firn.toml");
    let settings = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("log = \"debug\"\n{settings}")).unwrap();
    server.log_to(&disk.0.join("log"));
    server.launch().unwrap();
    disk.fill();
    for round in 0..3 {
        use_it(&alice, round);
    }
    disk.free();
    use_it(&alice, 3);
    let log = server.log();
    assert!(
        log.contains(" lines of the log could not be written"),
        "{}",
        log.len()
    );
    server.stop();
}

#[test]
fn a_log_that_can_never_be_written_stops_nothing() {
    let Some(mut server) = server() else { return };
    let alice = server.client("alice").unwrap();
    server.stop();
    server.log_to(Path::new("/dev/full"));
    server.launch().unwrap();
    use_it(&alice, 0);
}

/// A build of the program that has no such fault to inject does not end; the tests' has one.
#[test]
fn without_its_databases_writer_the_service_ends() {
    let Some(mut server) = server() else { return };
    server.stop();
    let config = server.data_dir().join("../firn.toml");
    let mut program = Command::new(env!("CARGO_BIN_EXE_firn"));
    program
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(server.data_dir())
        .env("FIRN_CONFIG", config)
        .env("FIRN_TEST_LOSE", "database-writer");
    let ended = program.stdin(Stdio::null()).output().unwrap();
    let said = ended.stderr.escape_ascii().to_string().replace("\\'", "'");
    assert_eq!(ended.status.code(), Some(1), "{said}");
    for part in [
        "the database's writer has ended",
        "the service ends, to be started again",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // And it can be started again.
    server.launch().unwrap();
    server.client("alice").unwrap();
}
