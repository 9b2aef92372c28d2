//! The service's own commands through the real OpenSSH client, with a terminal and without.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use crate::support::{House, PATIENCE, Seen, openssh_is_here, run, text};
use firn_ssh::{Command, Config, Terminal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

fn shell(json: bool, words: &[&str], terminal: Option<Terminal>) -> Seen {
    Seen::Started(Command::Shell {
        json,
        words: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        terminal,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_comes_with_words_or_without() {
    if !openssh_is_here("a_shell_comes_with_words_or_without") {
        return;
    }
    let mut house = House::open(Config::default()).await;
    let nowhere = || Some(Terminal::new(0, 0));
    for (options, command, expected) in [
        (&[][..], &[][..], shell(false, &[], None)),
        (&["-tt"], &[], shell(false, &[], nowhere())),
        (
            &[],
            &["shell", "settings", "'get' x"],
            shell(false, &["settings", "get", "x"], None),
        ),
        (&["-tt"], &["shell"], shell(false, &[], nowhere())),
        (&[], &["api", "whoami"], shell(true, &["whoami"], None)),
    ] {
        let mut ssh = house.ssh("alice");
        ssh.args(["-oSetEnv=FIRN_TEST=exit"])
            .args(options)
            .arg("127.0.0.1")
            .args(command);
        let output = run(ssh).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(house.next_seen().await, expected);
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_session_does_not_mind_a_terminal() {
    if !openssh_is_here("a_protocol_session_does_not_mind_a_terminal") {
        return;
    }
    let house = House::open(Config::default()).await;
    let mut ssh = house.ssh("alice");
    ssh.args([
        "-tt",
        "-oSetEnv=\"FIRN_TEST=source 100000\"",
        "127.0.0.1",
        "nix-daemon --stdio",
    ]);
    let output = run(ssh).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(output.stdout.len(), 100_000);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_fits_the_terminal() {
    if !openssh_is_here("a_refusal_fits_the_terminal") {
        return;
    }
    let house = House::open(Config::default()).await;
    for (option, end) in [("-tt", "\r\n"), ("-T", "\n")] {
        let mut ssh = house.ssh("alice");
        ssh.args([option, "-oLogLevel=ERROR", "127.0.0.1", "bash"]);
        let output = run(ssh).await;
        assert_eq!(output.status.code(), Some(127));
        let why = String::from_utf8(output.stderr).unwrap();
        let line = why.trim_end_matches(['\r', '\n']);
        assert_eq!(&why[line.len()..], end, "{why:?}");
        assert!(why.contains("`shell [COMMAND…]`"), "{why}");
    }
    house.close().await;
}

/// The two ends of a terminal of that size.
fn terminal(columns: u16, rows: u16) -> (OwnedFd, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = File::options().read(true).write(true).open(name).unwrap();
    resize(&ours, columns, rows);
    (ours, theirs)
}

fn resize(terminal: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
    assert_eq!(tcgetwinsize(terminal).unwrap(), size);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_follows_the_window() {
    if !openssh_is_here("the_size_follows_the_window") {
        return;
    }
    let house = House::open(Config::default()).await;
    let (ours, theirs) = terminal(100, 30);
    let mut ssh = house.ssh("alice");
    ssh.args(["-tt", "-oSetEnv=FIRN_TEST=terminal", "127.0.0.1", "shell"])
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::piped());
    let mut client = ssh.spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(client.id().unwrap().try_into().unwrap()).unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut keyboard = tokio::fs::File::from_std(File::from(ours.try_clone().unwrap()));
    let mut ask = async |what: &str| {
        keyboard.write_all(what.as_bytes()).await.unwrap();
        keyboard.write_all(b"\n").await.unwrap();
        keyboard.flush().await.unwrap();
        timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    };
    assert_eq!(ask("first").await, "first 100×30");
    resize(&ours, 50, 20);
    rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    // The client tells of its window when it comes to it.
    while ask("again").await != "again 50×20" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    client.kill().await.unwrap();
    house.close().await;
}
