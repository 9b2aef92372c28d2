//! https: certificates, and no way back to http.

use std::sync::Arc;

use firn_cache::{CacheClient, Options};
use firn_core::CacheUrl;
use firn_service::ports::AccountCaches as _;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use crate::fixtures::{bad, bytes, client, client_with, login, nar, object, options, path, unreachable};
use crate::server::{Server, ok, redirect, status};

/// A certificate for `localhost`, as PEM, and what a server needs for it.
pub fn certificate(protocols: &[&[u8]]) -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    (made.cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

fn url(server: &Server) -> CacheUrl {
    format!("https://localhost:{}", server.address.port())
        .parse()
        .unwrap()
}

#[tokio::test]
async fn certificates() {
    let (pem, acceptor) = certificate(&[]);
    let server = Server::start_tls(|_| status(404), Some(acceptor)).await;
    let text = unreachable(client().narinfo(&url(&server), None, &path(1)).await);
    assert!(text.contains("certificate"), "{text}");
    assert_eq!(server.count(), 0);

    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("roots.pem");
    std::fs::write(&file, pem).unwrap();
    let trusting = |file| Options {
        extra_roots: Some(file),
        ..options()
    };
    let client = client_with(trusting(file));
    assert_eq!(client.narinfo(&url(&server), None, &path(1)).await.unwrap(), None);
    assert_eq!(server.count(), 1);
    // The name must be right, too.
    let by_address = format!("https://127.0.0.1:{}", server.address.port())
        .parse()
        .unwrap();
    unreachable(client.narinfo(&by_address, None, &path(1)).await);
    assert!(CacheClient::new(trusting(temporary.path().join("none.pem"))).is_err());
}

#[tokio::test]
async fn never_from_https_to_http() {
    let content = bytes(1000);
    let mut info = object(1, &content, "none", &content);
    let plain = Server::start(move |_| ok(&content)).await;
    let to = format!("http://{}/file", plain.address);
    info.url = to.clone();
    let (pem, acceptor) = certificate(&[]);
    let server = Server::start_tls(move |_| redirect(&to), Some(acceptor)).await;
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("roots.pem");
    std::fs::write(&file, pem).unwrap();
    let client = client_with(Options {
        extra_roots: Some(file),
        ..options()
    });
    let cache = url(&server);
    let text = bad(client.narinfo(&cache, Some(&login("x")), &path(1)).await);
    assert!(text.contains("https to http"), "{text}");
    bad(nar(&client, &cache, None, &info).await);
    info.url = "nar/1".into();
    bad(nar(&client, &cache, None, &info).await);
    assert_eq!(plain.connections(), 0);
}
