//! Nobody takes everybody's place, and whoever may not go on is shown out.

use std::process::Stdio;
use std::time::Duration;

use firn_ssh::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::timeout;

use crate::support::{House, PATIENCE, Seen, openssh_is_here, run, text};

/// A connection that is logged in and has no session.
async fn idle(house: &House, key: &str, name: &str) -> Child {
    let socket = house.folder.path().join(name);
    let mut ssh = house.ssh(key);
    ssh.args(["-oSendEnv=FIRN_TEST", "-M", "-N", "-S"])
        .arg(&socket)
        .arg("127.0.0.1");
    let child = ssh.spawn().unwrap();
    let there = async {
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, there).await.unwrap();
    child
}

/// A session on such a connection.
fn on(house: &House, name: &str, script: &str) -> tokio::process::Command {
    let mut ssh = house.ssh("mallory");
    ssh.arg("-S").arg(house.folder.path().join(name));
    // A master sends no SetEnv of the others, only what SendEnv names on both sides.
    ssh.args(["-oSendEnv=FIRN_TEST", "127.0.0.1", "nix-daemon --stdio"]);
    ssh.env("FIRN_TEST", script);
    ssh
}

async fn ends(child: &mut Child) {
    timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_shut_nobody_out() {
    if !openssh_is_here("silent_connections_shut_nobody_out") {
        return;
    }
    let config = Config::default();
    let silent = config.max_unauthenticated;
    let house = House::open(config).await;
    let mut crowd = Vec::new();
    for _ in 0..silent {
        let mut stranger = TcpStream::connect(house.address).await.unwrap();
        // Each has its place.
        stranger.read_exact(&mut [0; 4]).await.unwrap();
        crowd.push(stranger);
    }
    let output = run(house.scripted("bob", "exit 7")).await;
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    drop(crowd);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_one_account_shut_nobody_out() {
    if !openssh_is_here("idle_connections_of_one_account_shut_nobody_out") {
        return;
    }
    let house = House::open(Config {
        max_connections: 3,
        ..Config::default()
    })
    .await;
    let mut many = Vec::new();
    for name in ["a", "b", "c"] {
        many.push(idle(&house, "alice", name).await);
    }
    let output = run(house.scripted("bob", "exit 7")).await;
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let [first, rest @ ..] = many.as_mut_slice() else {
        panic!("three were made")
    };
    ends(first).await;
    for child in rest {
        assert!(child.try_wait().unwrap().is_none());
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_go_on_opens_nothing_and_is_shown_out() {
    if !openssh_is_here("whoever_may_not_go_on_opens_nothing_and_is_shown_out") {
        return;
    }
    let mut house = House::open(Config::default()).await;
    let mut master = idle(&house, "alice", "a").await;
    let mut bobs = idle(&house, "bob", "b").await;
    let mut holder = on(&house, "a", "hold").stdin(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    holder
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .await
        .unwrap();
    while house.seen.try_recv().is_ok() {}

    house.revoked.send_replace(vec!["alice"]);
    let refused = run(on(&house, "a", "exit 0")).await;
    assert_eq!(refused.status.code(), Some(255), "{}", text(&refused.stderr));
    assert_eq!(
        house.next_seen().await,
        Seen::StdinFailed(std::io::ErrorKind::ConnectionAborted)
    );
    assert!(house.seen.try_recv().is_err(), "nothing else was begun");
    ends(&mut master).await;
    ends(&mut holder).await;
    let output = run(on(&house, "b", "exit 7")).await;
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    bobs.kill().await.unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_after_its_name_makes_room_too() {
    if !openssh_is_here("a_client_that_says_nothing_after_its_name_makes_room_too") {
        return;
    }
    let house = House::open(Config {
        max_unauthenticated: 1,
        ..Config::default()
    })
    .await;
    let mut half = TcpStream::connect(house.address).await.unwrap();
    half.write_all(b"SSH-2.0-half\r\n").await.unwrap();
    half.read_exact(&mut [0; 4]).await.unwrap();
    let output = run(house.scripted("bob", "exit 7")).await;
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    timeout(PATIENCE, half.read_to_end(&mut Vec::new()))
        .await
        .unwrap()
        .ok();
    house.close().await;
}
