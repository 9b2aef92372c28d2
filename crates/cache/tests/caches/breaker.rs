//! Caches that cannot be reached are left alone.

use std::time::Duration;

use firn_cache::Options;
use firn_service::ports::AccountCaches as _;

use crate::fixtures::{bytes, client, client_with, nar, object, options, path, unreachable};
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
    // Those that were under way, and the tries of the first of them to be given up.
    assert!(server.count() <= 160, "{}", server.count());
}

#[tokio::test]
async fn comes_back() {
    let content = bytes(10);
    let info = object(1, &content, "none", &content);
    let narinfo = info.to_string();
    let server = Server::start(move |seen| match seen.before {
        0..7 => status(500),
        _ => crate::server::ok(narinfo.as_bytes()),
    })
    .await;
    let options = Options {
        left_alone: Duration::from_millis(1),
        ..options()
    };
    let (client, url) = (client_with(options), server.url(""));
    while client.narinfo(&url, None, &path(1)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Five tries, and then one each time to see.
    assert_eq!(server.count(), 8);
}

#[tokio::test]
async fn who_cannot_send_files_is_asked_for_none_but_what_it_has_is_still_known() {
    let content = bytes(10_000);
    let entry = |n| object(n, &content, "none", &content);
    let narinfos: Vec<(String, Vec<u8>)> = [1, 2]
        .map(|n| {
            let name = format!("/{}.narinfo", path(n).hash_part());
            (name, entry(n).to_string().into_bytes())
        })
        .into();
    let server = Server::start(
        move |seen| match narinfos.iter().find(|(name, _)| *name == seen.target) {
            Some((_, narinfo)) => crate::server::ok(narinfo),
            None => vec![
                Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\nx".to_vec()),
                Step::Close,
            ],
        },
    )
    .await;
    let (client, url) = (client(), server.url(""));
    let first = client.narinfo(&url, None, &path(1)).await.unwrap().unwrap();
    unreachable(nar(&client, &url, None, &first).await);
    let second = client.narinfo(&url, None, &path(2)).await.unwrap().unwrap();
    let text = unreachable(nar(&client, &url, None, &second).await);
    assert!(text.contains("left alone"), "{text}");
}

/// One answer in ten is 502, at random. Nix tries five times, and so fetches everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stumbles_is_asked_on() {
    let content = bytes(10);
    let text = object(1, &content, "none", &content).to_string();
    for count in [61_u32, 501] {
        let text = text.clone();
        let server = Server::start(move |seen| {
            // Any hash of the number spreads well enough.
            let random = (seen.before as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let hash = seen.target.trim_start_matches('/').trim_end_matches(".narinfo");
            match random % 10 {
                0 => status(502),
                _ => crate::server::ok(text.replace(path(1).hash_part(), hash).as_bytes()),
            }
        })
        .await;
        let (client, url) = (client(), server.url(""));
        let mut asks = tokio::task::JoinSet::new();
        for n in 0..count {
            let (client, url) = (client.clone(), url.clone());
            asks.spawn(async move {
                let mut hash = [0; 20];
                hash[..4].copy_from_slice(&n.to_le_bytes());
                let path = firn_nix::StorePath::new(&hash, "thing").unwrap();
                client.narinfo(&url, None, &path).await.unwrap().is_some()
            });
        }
        while let Some(found) = asks.join_next().await {
            assert!(found.unwrap());
        }
        let stumbled = server.count() - usize::try_from(count).unwrap();
        assert!(stumbled > 2, "{stumbled}");
    }
}
