//! Clients that leave, freeze or do not read, and the shutdown.

use std::process::Stdio;
use std::time::Duration;

use crate::support::{House, PATIENCE, Seen, openssh_is_here, run, text};
use firn_ssh::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::time::timeout;

/// A client of the script `hold` or `ignore`, whose session has started.
async fn started(house: &House, script: &str) -> Child {
    let mut client = house
        .scripted("alice", script)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    timeout(PATIENCE, client.stdout.as_mut().unwrap().read_exact(&mut ready))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&ready, b"ready\n");
    client
}

fn signal(client: &Child, name: &str) {
    let id = client.id().unwrap().to_string();
    assert!(
        std::process::Command::new("kill")
            .args([name, &id])
            .status()
            .unwrap()
            .success()
    );
}

fn short_keepalives() -> Config {
    Config {
        keepalive_interval: Duration::from_millis(200),
        keepalive_misses: 3,
        abandon_grace: Duration::from_millis(100),
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_file_reaches_the_session_and_its_answer_the_client() {
    if !openssh_is_here("end_of_file_reaches_the_session_and_its_answer_the_client") {
        return;
    }
    let mut house = House::open(Config::default()).await;
    let mut client = started(&house, "hold").await;
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(&[1; 100_000]).await.unwrap();
    drop(stdin);
    assert_eq!(house.next_end().await, Seen::Eof(100_000));
    assert!(client.wait().await.unwrap().success());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_is_an_error_on_stdin() {
    if !openssh_is_here("a_killed_client_is_an_error_on_stdin") {
        return;
    }
    let mut house = House::open(Config::default()).await;
    let mut client = started(&house, "hold").await;
    client.kill().await.unwrap();
    assert_eq!(
        house.next_end().await,
        Seen::StdinFailed(std::io::ErrorKind::ConnectionAborted)
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_is_an_error_on_stdout() {
    if !openssh_is_here("a_killed_client_is_an_error_on_stdout") {
        return;
    }
    let mut house = House::open(Config::default()).await;
    let mut client = house
        .scripted("alice", "flood")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    client
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0; 1000])
        .await
        .unwrap();
    client.kill().await.unwrap();
    assert_eq!(
        house.next_end().await,
        Seen::StdoutFailed(std::io::ErrorKind::BrokenPipe)
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ignores_its_client_is_dropped_after_the_grace() {
    if !openssh_is_here("a_session_that_ignores_its_client_is_dropped_after_the_grace") {
        return;
    }
    let config = Config {
        abandon_grace: Duration::from_millis(100),
        max_sessions_per_account: 1,
        ..Config::default()
    };
    let mut house = House::open(config).await;
    let mut client = started(&house, "ignore").await;
    client.kill().await.unwrap();
    assert_eq!(house.next_end().await, Seen::Dropped);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_killed_while_nobody_reads_is_noticed() {
    if !openssh_is_here("a_client_killed_while_nobody_reads_is_noticed") {
        return;
    }
    // Keepalives would notice too.
    let config = Config {
        keepalive_interval: Duration::from_secs(3600),
        abandon_grace: Duration::from_millis(100),
        ..Config::default()
    };
    let mut house = House::open(config).await;
    let mut client = started(&house, "ignore").await;
    let mut stdin = client.stdin.take().unwrap();
    // A little more than the connection queues: it stops reading, and the rest waits in the socket with the client's
    // good-bye behind it.
    stdin.write_all(&vec![0; (4 << 20) + 60_000]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.kill().await.unwrap();
    assert_eq!(house.next_end().await, Seen::Dropped);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_client_is_noticed_and_a_silent_one_lives() {
    if !openssh_is_here("a_frozen_client_is_noticed_and_a_silent_one_lives") {
        return;
    }
    let mut house = House::open(short_keepalives()).await;
    let frozen = started(&house, "hold").await;
    let mut silent = started(&house, "hold").await;
    let mut uploader = started(&house, "ignore").await;
    let mut to = uploader.stdin.take().unwrap();
    let upload = tokio::spawn(async move { while to.write_all(&[0; 65536]).await.is_ok() {} });
    signal(&frozen, "-STOP");
    assert_eq!(
        house.next_end().await,
        Seen::StdinFailed(std::io::ErrorKind::ConnectionAborted)
    );
    // As long again as it takes to notice the frozen one, and more.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(silent.try_wait().unwrap().is_none());
    assert!(
        uploader.try_wait().unwrap().is_none(),
        "a client that is not being read is not given up"
    );
    drop(silent.stdin.take());
    assert_eq!(house.next_end().await, Seen::Eof(0));
    signal(&frozen, "-CONT");
    upload.abort();
    drop((frozen, uploader));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_frozen_in_a_download_is_noticed() {
    if !openssh_is_here("a_client_frozen_in_a_download_is_noticed") {
        return;
    }
    let mut house = House::open(short_keepalives()).await;
    let mut client = house
        .scripted("alice", "flood")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut from = client.stdout.take().unwrap();
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; 65536];
        while from.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    signal(&client, "-STOP");
    assert_eq!(
        house.next_end().await,
        Seen::StdoutFailed(std::io::ErrorKind::BrokenPipe)
    );
    signal(&client, "-CONT");
    client.wait().await.unwrap();
    reading.await.unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_lets_sessions_end_and_turns_new_clients_away() {
    if !openssh_is_here("shutdown_lets_sessions_end_and_turns_new_clients_away") {
        return;
    }
    let house = House::open(Config::default()).await;
    let mut client = started(&house, "hold").await;
    house.shutdown.cancel();
    timeout(PATIENCE, async {
        while run(house.scripted("alice", "exit 0")).await.status.code() == Some(0) {}
    })
    .await
    .unwrap();
    assert!(client.try_wait().unwrap().is_none());
    drop(client.stdin.take());
    assert!(client.wait().await.unwrap().success());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_cuts_off_what_outlasts_the_grace() {
    if !openssh_is_here("shutdown_cuts_off_what_outlasts_the_grace") {
        return;
    }
    let grace = Duration::from_millis(200);
    let mut house = House::open(Config {
        shutdown_grace: grace,
        abandon_grace: grace,
        ..Config::default()
    })
    .await;
    let mut client = started(&house, "ignore").await;
    house.shutdown.cancel();
    assert_eq!(house.next_end().await, Seen::Dropped);
    assert_eq!(
        timeout(PATIENCE, client.wait()).await.unwrap().unwrap().code(),
        Some(255)
    );
    let mut said = Vec::new();
    client
        .stderr
        .take()
        .unwrap()
        .read_to_end(&mut said)
        .await
        .unwrap();
    assert!(text(&said).contains("shutting down"), "{}", text(&said));
    house.close().await;
}
