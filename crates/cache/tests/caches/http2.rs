//! HTTP/2, where the cache offers it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firn_cache::Options;
use firn_service::ports::AccountCaches as _;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::fixtures::{bytes, client_with, nar, object, options, pack, path};
use crate::tls::certificate;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_share_a_connection() {
    let content = bytes(3_000_000);
    let packed = pack("zstd", &content);
    let info = object(1, &content, "zstd", &packed);
    let (text, hash) = (info.to_string(), path(1).hash_part().to_owned());
    let answer = move |target: &str| match target.strip_suffix(".narinfo") {
        Some(asked) => text.replace(&hash, asked.trim_start_matches('/')).into_bytes(),
        None => packed.clone(),
    };
    let (pem, acceptor) = certificate(&[b"h2", b"http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let server = tokio::spawn(async move {
        let (answer, mut sessions) = (Arc::new(answer), JoinSet::new());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            sessions.spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    assert_eq!(request.version(), Version::HTTP_2);
                    let body = Bytes::from(answer(request.uri().path()));
                    async move { Ok::<_, std::convert::Infallible>(Response::new(Full::new(body))) }
                });
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });

    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("roots.pem");
    std::fs::write(&file, pem).unwrap();
    let client = client_with(Options {
        extra_roots: Some(file),
        ..options()
    });
    let cache: firn_core::CacheUrl = format!("https://localhost:{port}").parse().unwrap();
    assert!(client.narinfo(&cache, None, &path(0)).await.unwrap().is_some());
    let mut asks = JoinSet::new();
    for n in 1..=255 {
        let (client, cache) = (client.clone(), cache.clone());
        asks.spawn(async move {
            let info = client.narinfo(&cache, None, &path(n)).await.unwrap().unwrap();
            // One of the references of the template is replaced as well.
            assert_eq!(info.path, path(n));
        });
    }
    while let Some(done) = asks.join_next().await {
        done.unwrap();
    }
    assert!(nar(&client, &cache, None, &info).await.unwrap() == content);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    server.abort();
}
