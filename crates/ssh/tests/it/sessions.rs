//! Sessions through the real OpenSSH client: bytes, environment, exit codes, output, caps.

use std::process::Stdio;

use crate::support::{House, PATIENCE, Seen, openssh_is_here, pattern, run, text};
use firn_ssh::{Command, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn echo_returns_every_byte_both_ways() {
    if !openssh_is_here("echo_returns_every_byte_both_ways") {
        return;
    }
    let house = House::open(Config::default()).await;
    let data: Vec<u8> = (0..64 << 20).map(pattern).collect();
    let mut client = house.ssh("alice");
    // Both sides change keys while data flows both ways.
    client.args([
        "-oRekeyLimit=8M",
        "-oSetEnv=FIRN_TEST=echo",
        "127.0.0.1",
        "nix-daemon --stdio",
    ]);
    let mut client = client.stdin(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let sent = data.clone();
    let sending = tokio::spawn(async move {
        to.write_all(&sent).await.unwrap();
        drop(to);
    });
    let mut received = Vec::new();
    timeout(PATIENCE, from.read_to_end(&mut received))
        .await
        .unwrap()
        .unwrap();
    sending.await.unwrap();
    assert!(client.wait().await.unwrap().success());
    assert_eq!(received.len(), data.len());
    assert!(received == data);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_have_their_exact_length() {
    if !openssh_is_here("downloads_have_their_exact_length") {
        return;
    }
    let house = House::open(Config::default()).await;
    for round in 0..100_usize {
        let size = round.wrapping_mul(2_654_435_761) % [10, 40_000, 300_000, 5_000_000][round % 4];
        let output = run(house.scripted("alice", &format!("source {size}"))).await;
        assert!(output.status.success(), "round {round}: {}", text(&output.stderr));
        assert_eq!(output.stdout.len(), size, "round {round}");
        assert!(
            output
                .stdout
                .iter()
                .enumerate()
                .all(|(index, byte)| *byte == pattern(index))
        );
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_account_and_command_reach_the_session() {
    if !openssh_is_here("environment_account_and_command_reach_the_session") {
        return;
    }
    let mut house = House::open(Config::default()).await;
    let mut ssh = house.ssh("bob");
    ssh.args([
        "-oSetEnv=FIRN_TEST=env \"ODD= a'b=c;$(id) \"",
        "anybody@127.0.0.1",
        "/x/nix-store --serve --write",
    ]);
    let output = run(ssh).await;
    assert_eq!(
        text(&output.stdout),
        "FIRN_TEST=env\nODD= a\\'b=c;$(id) \nbob",
        "{}",
        text(&output.stderr)
    );
    assert_eq!(
        house.next_seen().await,
        Seen::Started(Command::Serve { write: true })
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_and_stderr() {
    if !openssh_is_here("exit_codes_and_stderr") {
        return;
    }
    let house = House::open(Config::default()).await;
    for code in [0, 1, 42, 127, 254] {
        let output = run(house.scripted("alice", &format!("exit {code}"))).await;
        assert_eq!(output.status.code(), Some(code));
    }
    let output = run(house.scripted("alice", "stderr")).await;
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(text(&output.stdout), "a word on stdout\n");
    assert_eq!(text(&output.stderr), "a word on stderr\n");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_one_session_s_own() {
    if !openssh_is_here("a_panic_is_one_session_s_own") {
        return;
    }
    let house = House::open(Config {
        max_sessions_per_account: 1,
        ..Config::default()
    })
    .await;
    let output = run(house.scripted("alice", "panic")).await;
    assert_eq!(output.status.code(), Some(70));
    assert!(text(&output.stderr).contains("internal error"));
    assert!(run(house.scripted("alice", "exit 0")).await.status.success());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_cap_is_per_account_and_says_so() {
    if !openssh_is_here("session_cap_is_per_account_and_says_so") {
        return;
    }
    let house = House::open(Config {
        max_sessions_per_account: 2,
        ..Config::default()
    })
    .await;
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut holder = house
            .scripted("alice", "hold")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        let out = holder.stdout.as_mut().unwrap();
        timeout(PATIENCE, out.read_exact(&mut ready))
            .await
            .unwrap()
            .unwrap();
        holders.push(holder);
    }
    let refused = run(house.scripted("alice", "exit 0")).await;
    assert_eq!(refused.status.code(), Some(1));
    let why = text(&refused.stderr);
    assert!(
        why.contains("alice") && why.contains("cap of 2 sessions"),
        "{why}"
    );
    assert!(run(house.scripted("bob", "exit 0")).await.status.success());
    let mut holder = holders.pop().unwrap();
    drop(holder.stdin.take());
    assert!(holder.wait().await.unwrap().success());
    assert!(run(house.scripted("alice", "exit 0")).await.status.success());
    drop(holders);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_is_offered() {
    if !openssh_is_here("nothing_else_is_offered") {
        return;
    }
    let mut house = House::open(Config::default()).await;
    let mark = house.folder.path().join("mark");
    let shell = format!("nix-daemon --stdio; touch {}", mark.display());
    for command in [
        &shell,
        "$(id)",
        "ls -l",
        "bash",
        "/bin/shell builds",
        "nix-daemon",
        "nix-store -q x",
        "'",
    ] {
        let mut ssh = house.ssh("alice");
        ssh.args(["127.0.0.1", "--", command]);
        let output = run(ssh).await;
        assert_eq!(output.status.code(), Some(127), "{command}");
        let why = text(&output.stderr);
        assert!(why.starts_with("firn: "), "{why}");
    }
    assert!(!mark.exists());

    let mut subsystem = house.ssh("alice");
    subsystem.args(["-s", "127.0.0.1", "sftp"]);
    let output = run(subsystem).await;
    assert_eq!(output.status.code(), Some(255));
    assert!(
        text(&output.stderr).contains("subsystem request failed"),
        "{}",
        text(&output.stderr)
    );

    let mut forward = house.ssh("alice");
    forward.args(["-W", &house.address.to_string(), "127.0.0.1"]);
    let output = run(forward).await;
    assert_eq!(output.status.code(), Some(255));
    assert!(
        text(&output.stderr).contains("administratively prohibited"),
        "{}",
        text(&output.stderr)
    );

    let mut remote_forward = house.ssh("alice");
    remote_forward.args([
        "-oExitOnForwardFailure=yes",
        "-R",
        "0:127.0.0.1:1",
        "-N",
        "127.0.0.1",
    ]);
    let output = run(remote_forward).await;
    assert_eq!(output.status.code(), Some(255));
    assert!(
        text(&output.stderr).contains("remote port forwarding failed"),
        "{}",
        text(&output.stderr)
    );

    assert!(house.seen.try_recv().is_err(), "none of these was a session");

    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_several_sessions() {
    if !openssh_is_here("one_connection_carries_several_sessions") {
        return;
    }
    let house = House::open(Config {
        max_channels_per_connection: 2,
        ..Config::default()
    })
    .await;
    let socket = house.folder.path().join("master");
    let control = format!("-oControlPath={}", socket.display());
    let mut master = house.ssh("alice");
    master.args([
        &control,
        "-oSendEnv=FIRN_TEST",
        "-oControlMaster=yes",
        "-N",
        "127.0.0.1",
    ]);
    let mut master = master.spawn().unwrap();
    timeout(PATIENCE, async {
        while !socket.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let slave = |script: &str| {
        let mut ssh = house.ssh("mallory");
        // A master sends no SetEnv of the others, only what SendEnv names on both sides.
        ssh.args([&control, "-oSendEnv=FIRN_TEST", "127.0.0.1", "nix-daemon --stdio"]);
        ssh.env("FIRN_TEST", script);
        ssh
    };
    for round in 0..10_usize {
        let (first, second) = tokio::join!(
            run(slave("source 3000000")),
            run(slave(&format!("source {round}")))
        );
        assert!(first.status.success(), "{}", text(&first.stderr));
        assert_eq!((first.stdout.len(), second.stdout.len()), (3_000_000, round));
    }
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut holder = slave("hold").stdin(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        timeout(PATIENCE, holder.stdout.as_mut().unwrap().read_exact(&mut ready))
            .await
            .unwrap()
            .unwrap();
        holders.push(holder);
    }
    let refused = run(slave("exit 0")).await;
    assert!(!refused.status.success());
    drop(holders);
    master.kill().await.unwrap();
    house.close().await;
}
