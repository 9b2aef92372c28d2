//! What caches say, and that it is remembered.

use std::sync::Arc;
use std::time::Duration;

use firn_cache::Options;
use firn_service::ports::{AccountCaches as _, CacheInfo};
use tokio::sync::Semaphore;

use crate::fixtures::{
    bad, bytes, client, client_with, files, is_denied, login, nar, object, options, pack, path, unreachable,
};
use crate::server::{Server, Step, ok, status, with};

#[tokio::test]
async fn about_a_cache() {
    let file = b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n".to_vec();
    let server = Server::files([("/a/b/nix-cache-info".into(), file)]).await;
    let client = client();
    let mut info = CacheInfo {
        priority: 30,
        want_mass_query: true,
    };
    assert_eq!(client.about(&server.url("/a/b"), None).await.unwrap(), info);
    info.priority = 7;
    assert_eq!(
        client.about(&server.url("/a/b?priority=7"), None).await.unwrap(),
        info
    );
    assert_eq!(server.count(), 1);
    assert!(server.seen()[0].headers["user-agent"].starts_with("firn/"));
    assert!(bad(client.about(&server.url("/a"), None).await).contains("not a binary cache"));

    let server = Server::start(|_| ok(b"StoreDir: /gnu/store\n")).await;
    for _ in 0..2 {
        assert!(bad(client.about(&server.url(""), None).await).contains("/gnu/store"));
    }
    assert_eq!(server.count(), 1);
    let server = Server::start(|_| ok(&[b'x'; 70_000])).await;
    assert!(bad(client.about(&server.url(""), None).await).contains("more than"));
}

#[tokio::test]
async fn an_entry_is_asked_for_once() {
    let content = bytes(100);
    let info = object(1, &content, "none", &content);
    let server = Server::files(files(&info, &content)).await;
    let (client, url) = (client(), server.url("/"));
    for _ in 0..3 {
        assert_eq!(
            client.narinfo(&url, None, &path(1)).await.unwrap(),
            Some(info.clone())
        );
        assert_eq!(client.narinfo(&url, None, &path(2)).await.unwrap(), None);
    }
    assert_eq!(server.count(), 2);
    // Keep-alive, after a 404 as well.
    assert_eq!(server.connections(), 1);
    // Every login sees for itself.
    for _ in 0..2 {
        client.narinfo(&url, Some(&login("a")), &path(1)).await.unwrap();
        client.narinfo(&url, Some(&login("b")), &path(1)).await.unwrap();
    }
    assert_eq!(server.count(), 4);
    assert_eq!(server.seen()[2].headers["authorization"], "Basic Zmlybjph");
}

#[tokio::test]
async fn answers_are_forgotten_in_time() {
    let content = bytes(100);
    let info = object(1, &content, "none", &content);
    let server = Server::files(files(&info, &content)).await;
    let (url, hour) = (server.url(""), Duration::from_secs(3600));
    for (positive_ttl, negative_ttl, count) in [(Duration::ZERO, hour, 3), (hour, Duration::ZERO, 3)] {
        let before = server.count();
        let options = Options {
            positive_ttl,
            negative_ttl,
            ..options()
        };
        let client = client_with(options);
        for _ in 0..2 {
            assert!(client.narinfo(&url, None, &path(1)).await.unwrap().is_some());
            assert!(client.narinfo(&url, None, &path(2)).await.unwrap().is_none());
        }
        assert_eq!(server.count() - before, count);
    }
}

#[tokio::test]
async fn statuses() {
    for (code, with_login, absent, denied) in [
        (404, false, true, false),
        (404, true, true, false),
        (410, false, true, false),
        (403, false, true, false),
        (403, true, false, true),
        (401, false, false, true),
        (401, true, false, true),
        (407, false, false, true),
        (400, false, false, false),
        (204, false, false, false),
        (206, false, false, false),
    ] {
        let server = Server::start(move |_| status(code)).await;
        let login = with_login.then(|| login("secret"));
        match client().narinfo(&server.url(""), login.as_ref(), &path(1)).await {
            Ok(None) => assert!(absent, "{code}"),
            Err(error) if is_denied(&error) => {
                let text = error.to_string();
                assert!(denied && !text.contains("secret"), "{code} {text}");
            }
            Err(error) if !error.trouble.may_pass() => assert!(!absent && !denied, "{code}"),
            other => panic!("{code}: {other:?}"),
        }
        assert_eq!(server.count(), 1);
    }
    for code in [429, 500, 502, 503, 504] {
        let server = Server::start(move |_| status(code)).await;
        unreachable(client().narinfo(&server.url(""), None, &path(1)).await);
        assert_eq!(server.count(), 5);
        // It may pass.
        let content = bytes(10);
        let info = object(1, &content, "none", &content);
        let text = info.to_string();
        let server = Server::start(move |seen| match seen.before {
            0..4 => status(code),
            _ => ok(text.as_bytes()),
        })
        .await;
        let answer = client().narinfo(&server.url(""), None, &path(1)).await;
        assert_eq!(answer.unwrap(), Some(info));
    }
}

#[tokio::test]
async fn concurrent_questions_are_one() {
    let content = bytes(100);
    let info = object(1, &content, "none", &content);
    for code in [200, 404, 401] {
        let gate = Arc::new(Semaphore::new(0));
        let (held, text) = (gate.clone(), info.to_string());
        let server = Server::start(move |_| {
            let mut steps = vec![Step::Hold(held.clone())];
            steps.extend(if code == 200 {
                ok(text.as_bytes())
            } else {
                status(code)
            });
            steps
        })
        .await;
        let (client, url) = (client(), server.url(""));
        let asks: Vec<_> = (0..50)
            .map(|_| {
                let (client, url) = (client.clone(), url.clone());
                tokio::spawn(async move { client.narinfo(&url, None, &path(1)).await })
            })
            .collect();
        while server.count() == 0 {
            tokio::task::yield_now().await;
        }
        // Who asked first goes away.
        asks[0].abort();
        gate.add_permits(1000);
        for (i, ask) in asks.into_iter().enumerate() {
            match ask.await {
                Err(e) => assert!(i == 0 && e.is_cancelled()),
                Ok(Ok(Some(found))) => assert!(code == 200 && found == info),
                Ok(Ok(None)) => assert_eq!(code, 404),
                Ok(Err(error)) if is_denied(&error) => assert_eq!(code, 401),
                Ok(Err(other)) => panic!("{other:?}"),
            }
        }
        assert_eq!(server.count(), 1);
    }
}

#[tokio::test]
async fn bad_entries() {
    let content = bytes(10);
    let info = object(1, &content, "none", &content).to_string();
    let huge = format!("{info}X: {}\n", "y".repeat(9 << 20));
    for (file, text) in [
        ("", "StorePath"),
        ("<html>", "web page"),
        ("x", "line 1"),
        (info.as_str(), "in the place of"),
        (huge.as_str(), "more than"),
    ] {
        let file = file.as_bytes().to_vec();
        let server = Server::start(move |_| ok(&file)).await;
        let error = bad(client().narinfo(&server.url(""), None, &path(2)).await);
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn encoded_entries() {
    let content = bytes(10);
    let info = object(1, &content, "none", &content);
    for (name, coding) in [
        ("br", "br"),
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("none", "Identity"),
    ] {
        let file = pack(name, info.to_string().as_bytes());
        let headers = format!("Content-Encoding: {coding}\r\n");
        let server = Server::start(move |_| with("200 OK", &headers, &file)).await;
        let answer = client().narinfo(&server.url(""), None, &path(1)).await;
        assert_eq!(answer.unwrap(), Some(info.clone()), "{name}");
    }
    let bomb = pack("gzip", &vec![b'x'; 9 << 20]);
    let server = Server::start(move |_| with("200 OK", "Content-Encoding: gzip\r\n", &bomb)).await;
    bad(client().narinfo(&server.url(""), None, &path(1)).await);
    let server = Server::start(move |_| with("200 OK", "Content-Encoding: rot13\r\n", b"x")).await;
    bad(client().narinfo(&server.url(""), None, &path(1)).await);
}

#[tokio::test]
async fn an_entry_whose_file_is_gone_or_wrong_is_forgotten() {
    let content = bytes(10);
    let info = object(1, &content, "none", &content);
    for file in [None, Some(b"0123456789".to_vec())] {
        let text = info.to_string();
        let server = Server::start(move |seen| match (&file, seen.target.as_str()) {
            (None, "/nar/1.nar") => status(404),
            (Some(file), "/nar/1.nar") => ok(file),
            _ => ok(text.as_bytes()),
        })
        .await;
        let (client, url) = (client(), server.url(""));
        let entry = client.narinfo(&url, None, &path(1)).await.unwrap().unwrap();
        bad(nar(&client, &url, None, &entry).await);
        client.narinfo(&url, None, &path(1)).await.unwrap();
        assert_eq!(server.count(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_entries() {
    let content = bytes(10);
    let text = object(1, &content, "none", &content).to_string();
    let server = Server::start(move |seen| {
        let hash = seen.target.trim_start_matches('/').trim_end_matches(".narinfo");
        ok(text.replace(path(1).hash_part(), hash).as_bytes())
    })
    .await;
    let (client, url) = (client(), server.url(""));
    let since = std::time::Instant::now();
    let mut asks = tokio::task::JoinSet::new();
    for n in 0..2000_u32 {
        let (client, url) = (client.clone(), url.clone());
        asks.spawn(async move {
            let mut hash = [0; 20];
            hash[..4].copy_from_slice(&n.to_le_bytes());
            let path = firn_nix::StorePath::new(&hash, "thing").unwrap();
            assert!(client.narinfo(&url, None, &path).await.unwrap().is_some());
        });
    }
    while let Some(done) = asks.join_next().await {
        done.unwrap();
    }
    println!("2,000 entries took {:?}", since.elapsed());
    assert_eq!(server.count(), 2000);
    assert!(server.connections() < 500, "{}", server.connections());
}
