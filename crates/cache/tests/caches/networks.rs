//! Private networks are refused, whatever they are called.

use firn_cache::Options;
use firn_service::ports::AccountCaches as _;

use crate::fixtures::{bad, bytes, client_with, nar, object, options, path};
use crate::server::{Server, status};

#[tokio::test]
async fn loopback_by_address_and_by_name() {
    let server = Server::start(|_| status(404)).await;
    let port = server.address.port();
    let client = client_with(Options::default());
    let hosts = [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f000001",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "127.0.0.1.",
    ];
    for host in hosts {
        let cache = format!("http://{host}:{port}").parse().unwrap();
        let text = bad(client.narinfo(&cache, None, &path(1)).await);
        assert!(text.contains("caches.allow-private-networks"), "{host}: {text}");
        bad(client.about(&cache, None).await);
        let content = bytes(10);
        let mut info = object(1, &content, "none", &content);
        bad(nar(&client, &cache, None, &info).await);
        info.url = format!("http://{host}:{port}/x");
        bad(nar(&client, &cache, None, &info).await);
    }
    assert_eq!(server.connections(), 0);
    for host in [
        "10.0.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "[fd00::1]",
        "[fe80::1]",
    ] {
        let cache = format!("https://{host}/x").parse().unwrap();
        bad(client.narinfo(&cache, None, &path(1)).await);
    }
}

#[tokio::test]
async fn names_work_when_allowed() {
    let server = Server::start(|_| status(404)).await;
    let client = client_with(options());
    let cache = format!("http://localhost:{}", server.address.port())
        .parse()
        .unwrap();
    assert_eq!(client.narinfo(&cache, None, &path(1)).await.unwrap(), None);
    let unknown = "http://no-such-host.invalid".parse().unwrap();
    println!(
        "{}",
        crate::fixtures::unreachable(client.narinfo(&unknown, None, &path(1)).await)
    );
}
