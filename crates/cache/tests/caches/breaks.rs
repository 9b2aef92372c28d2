//! Connections that break, stall, trickle or never end.

use std::time::Duration;

use firn_cache::Options;
use firn_service::ports::AccountCaches as _;
use tokio::io::AsyncReadExt as _;

use crate::fixtures::{bad, bytes, client, client_with, files, nar, object, options, pack, unreachable};
use crate::server::{Seen, Server, Step, status, with};

/// The head and the beginning of a file; then the connection ends.
fn cut(file: &[u8], at: usize, headers: &str) -> Vec<Step> {
    let Some(Step::Send(mut bytes)) = with("200 OK", headers, file).pop() else {
        panic!("no answer");
    };
    bytes.truncate(bytes.len() - file.len() + at);
    vec![Step::Send(bytes), Step::Close]
}

fn part(file: &[u8], seen: &Seen, headers: &str) -> Vec<Step> {
    let range = seen.headers["range"].strip_prefix("bytes=").unwrap();
    let from: usize = range.strip_suffix('-').unwrap().parse().unwrap();
    let (last, size) = (file.len() - 1, file.len());
    with(
        "206 Partial",
        &format!("Content-Range: bytes {from}-{last}/{size}\r\n{headers}"),
        &file[from..],
    )
}

#[tokio::test]
async fn goes_on_where_it_broke() {
    let content = bytes(200_000);
    for compression in ["none", "xz", "zstd"] {
        let packed = pack(compression, &content);
        let info = object(1, &content, compression, &packed);
        let tag = "ETag: \"one\"\r\n";
        let server = Server::start(move |seen| match seen.before {
            0 => vec![Step::Close],
            1 => cut(&packed, 0, tag),
            2 => cut(&packed, 70_000, tag),
            3 => status(503),
            _ => part(&packed, seen, tag),
        })
        .await;
        assert!(nar(&client(), &server.url(""), None, &info).await.unwrap() == content);
        let seen = server.seen();
        assert!(!seen[2].headers.contains_key("range"));
        assert_eq!(seen[4].headers["range"], "bytes=70000-");
        assert_eq!(seen[4].headers["if-range"], "\"one\"");
    }
}

#[tokio::test]
async fn begins_again_when_ranges_are_ignored() {
    let content = bytes(200_000);
    let info = object(1, &content, "none", &content);
    let file = content.clone();
    let server = Server::start(move |seen| match seen.before {
        0 => cut(&file, 150_000, "ETag: W/\"weak\"\r\n"),
        1 => cut(&file, 100_000, ""),
        2 => cut(&file, 170_000, ""),
        _ => with("200 OK", "", &file),
    })
    .await;
    assert!(nar(&client(), &server.url(""), None, &info).await.unwrap() == content);
    assert!(server.seen().iter().all(|s| !s.headers.contains_key("if-range")));
}

#[tokio::test]
async fn a_file_that_changes_meanwhile() {
    let content = bytes(200_000);
    let info = object(1, &content, "none", &content);
    let other = bytes(200_001)[1..].to_vec();
    for (headers, text) in [("ETag: \"two\"\r\n", "changed"), ("", "hash")] {
        let (file, other) = (content.clone(), other.clone());
        let server = Server::start(move |seen| match seen.before {
            0 => cut(&file, 100_000, "ETag: \"one\"\r\n"),
            _ => with("200 OK", headers, &other),
        })
        .await;
        let error = bad(nar(&client(), &server.url(""), None, &info).await);
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn wrong_parts() {
    let content = bytes(200_000);
    let info = object(1, &content, "none", &content);
    for headers in [
        "",
        "Content-Range: nonsense\r\n",
        "Content-Range: bytes 5-199999/200000\r\n",
        "Content-Range: bytes 100000-199999/200001\r\n",
    ] {
        let file = content.clone();
        let server = Server::start(move |seen| match seen.before {
            0 => cut(&file, 100_000, ""),
            _ => with("206 Partial", headers, &file[100_000..]),
        })
        .await;
        bad(nar(&client(), &server.url(""), None, &info).await);
    }
    // A part that nobody asked for.
    let server = Server::start(move |_| {
        let headers = "Content-Range: bytes 0-199999/200000\r\n";
        with("206 Partial", headers, &content)
    })
    .await;
    bad(nar(&client(), &server.url(""), None, &info).await);
}

#[tokio::test]
async fn gives_up_after_some_attempts() {
    let content = bytes(200_000);
    let info = object(1, &content, "none", &content);
    let file = content.clone();
    let server = Server::start(move |seen| match seen.before {
        0 => cut(&file, 100_000, ""),
        _ => vec![Step::Close],
    })
    .await;
    unreachable(nar(&client(), &server.url(""), None, &info).await);
    assert!((5..=8).contains(&server.count()), "{}", server.count());

    let server = Server::start(|_| status(503)).await;
    unreachable(nar(&client(), &server.url(""), None, &info).await);
    assert_eq!(server.count(), 5);
}

#[tokio::test]
async fn silence() {
    let content = bytes(200_000);
    let info = object(1, &content, "none", &content);
    let options = Options {
        stall_timeout: Duration::from_millis(200),
        small_timeout: Duration::from_millis(200),
        attempts: 2,
        ..options()
    };
    for at in [None, Some(0), Some(100_000)] {
        let file = content.clone();
        let server = Server::start(move |_| match at {
            None => vec![Step::Stall],
            Some(at) => {
                let mut steps = cut(&file, at, "");
                steps[1] = Step::Stall;
                steps
            }
        })
        .await;
        let client = client_with(options.clone());
        let text = unreachable(nar(&client, &server.url(""), None, &info).await);
        assert!(text.contains("silent"), "{text}");
        let client = client_with(options.clone());
        if at.is_none_or(|at| at == 0) {
            unreachable(client.narinfo(&server.url(""), None, &info.path).await);
        }
        if at.is_none() {
            unreachable(client.about(&server.url("/other"), None).await);
        }
    }
}

#[tokio::test]
async fn bodies_without_end() {
    let content = bytes(1000);
    let mut info = object(1, &content, "none", &content);
    let endless = || {
        let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        vec![Step::Send(head), Step::Endless(bytes(100_000))]
    };
    let server = Server::start(move |_| endless()).await;
    bad(nar(&client(), &server.url(""), None, &info).await);
    // What the entry says is not believed.
    info.file_size = Some(1 << 50);
    bad(nar(&client(), &server.url(""), None, &info).await);
    (info.file_size, info.file_hash) = (None, None);
    bad(nar(&client(), &server.url(""), None, &info).await);
    let text = bad(client().narinfo(&server.url(""), None, &info.path).await);
    assert!(text.contains("more than"), "{text}");
    bad(client().about(&server.url(""), None).await);
    // Headers, too.
    let server = Server::start(move |_| {
        let head = b"HTTP/1.1 200 OK\r\n".to_vec();
        vec![Step::Send(head), Step::Endless(b"X: y\r\n".repeat(100))]
    })
    .await;
    unreachable(client().narinfo(&server.url(""), None, &info.path).await);
}

#[tokio::test]
async fn trickles() {
    let content = bytes(200_000);
    let info = object(1, &content, "none", &content);
    let options = Options {
        small_timeout: Duration::from_millis(300),
        grace: Duration::from_millis(300),
        slowest: 1 << 30,
        ..options()
    };
    let server = Server::start(|_| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n".to_vec();
        vec![Step::Send(head), Step::Trickle(Duration::from_millis(10))]
    })
    .await;
    let client = client_with(options);
    let text = unreachable(nar(&client, &server.url(""), None, &info).await);
    assert!(text.contains("slow"), "{text}");
    unreachable(client.narinfo(&server.url("/other"), None, &info.path).await);
}

#[tokio::test]
async fn a_dropped_stream_ends_the_download() {
    let content = bytes(64 << 20);
    let info = object(1, &content, "none", &content);
    let server = Server::files(files(&info, &content)).await;
    let mut stream = client().nar(&server.url(""), None, &info).await.unwrap();
    stream.read_exact(&mut [0; 1000]).await.unwrap();
    assert_eq!(server.open(), 1);
    drop(stream);
    while server.open() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
