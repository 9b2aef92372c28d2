//! Caches that cannot be reached are left alone.

use std::time::Duration;

use firn_cache::{CacheClient, Options};
use firn_service::ports::Caches as _;

use crate::fixtures::{bytes, client, files, nar, object, options, path, unreachable};
use crate::server::{Server, Step, status};

#[tokio::test]
async fn every_method_answers_at_once() {
    let server = Server::start(|_| vec![Step::Close]).await;
    let (client, url) = (client(), server.url(""));
    unreachable(client.narinfo(&url, None, &path(1)).await);
    let before = server.connections();
    for n in 0..20 {
        let text = unreachable(client.narinfo(&url, None, &path(n)).await);
        assert!(text.contains("left alone"), "{text}");
    }
    unreachable(client.about(&url, None).await);
    let content = bytes(10);
    let info = object(1, &content, "none", &content);
    unreachable(nar(&client, &url, None, &info).await);
    assert_eq!(server.connections(), before);
    // Another cache of that host is asked.
    unreachable(client.narinfo(&server.url("/other"), None, &path(1)).await);
    assert!(server.connections() > before);
}

#[tokio::test]
async fn nobody_listens() {
    let server = Server::start(|_| status(404)).await;
    let url = server.url("");
    drop(server);
    let text = unreachable(client().narinfo(&url, None, &path(1)).await);
    println!("{text}");
}

#[tokio::test]
async fn a_crowd_costs_little() {
    let server = Server::start(|_| status(503)).await;
    let (client, url) = (client(), server.url(""));
    let mut asks = tokio::task::JoinSet::new();
    for n in 0..=255 {
        let (client, url) = (client.clone(), url.clone());
        asks.spawn(async move { unreachable(client.narinfo(&url, None, &path(n)).await) });
    }
    while let Some(done) = asks.join_next().await {
        done.unwrap();
    }
    // Those that were under way, twice each.
    assert!(server.count() <= 128, "{}", server.count());
}

#[tokio::test]
async fn comes_back() {
    let content = bytes(10);
    let info = object(1, &content, "none", &content);
    let narinfo = info.to_string();
    let server = Server::start(move |seen| match seen.before {
        0..4 => status(500),
        _ => crate::server::ok(narinfo.as_bytes()),
    })
    .await;
    let options = Options {
        left_alone: Duration::from_millis(1),
        ..options()
    };
    let (client, url) = (CacheClient::new(options).unwrap(), server.url(""));
    while client.narinfo(&url, None, &path(1)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(server.count(), 5);
}

#[tokio::test]
async fn a_broken_download_counts() {
    let content = bytes(10_000);
    let info = object(1, &content, "none", &content);
    let narinfo = files(&info, &content)[1].1.clone();
    let server = Server::start(move |seen| match seen.target.ends_with(".nar") {
        true => vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\nx".to_vec()),
            Step::Close,
        ],
        false => crate::server::ok(&narinfo),
    })
    .await;
    let (client, url) = (client(), server.url(""));
    let entry = client.narinfo(&url, None, &path(1)).await.unwrap().unwrap();
    unreachable(nar(&client, &url, None, &entry).await);
    unreachable(client.narinfo(&url, None, &path(2)).await);
}
