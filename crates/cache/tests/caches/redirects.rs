//! Where a cache may send us, and what it is shown there.

use firn_service::ports::AccountCaches as _;

use crate::fixtures::{bad, bytes, client, login, nar, object, path};
use crate::server::{Server, ok, redirect, status};

#[tokio::test]
async fn chains_and_loops() {
    let content = bytes(1000);
    let info = object(1, &content, "none", &content);
    for (hops, works) in [(1, true), (5, true), (6, false)] {
        let file = content.clone();
        let server = Server::start(move |seen| match seen.before {
            n if n < hops => redirect(&format!("/elsewhere/{n}?secret=1")),
            _ => ok(&file),
        })
        .await;
        let result = nar(&client(), &server.url(""), None, &info).await;
        match works {
            true => assert!(result.unwrap() == content),
            false => assert!(bad(result).contains("redirects")),
        }
    }
    let server = Server::start(|seen| redirect(&seen.target)).await;
    bad(client().narinfo(&server.url(""), None, &path(1)).await);
    assert_eq!(server.count(), 6);
}

#[tokio::test]
async fn to_nowhere() {
    for to in [
        "",
        "file:///etc/passwd",
        "ftp://x/",
        "http://",
        "http://u:p@127.0.0.1/",
        "data:,x",
    ] {
        let server = Server::start(move |seen| match (seen.before, to) {
            (0, "") => status(302),
            (0, to) => redirect(to),
            _ => status(404),
        })
        .await;
        bad(client().narinfo(&server.url(""), None, &path(1)).await);
    }
}

#[tokio::test]
async fn a_login_is_for_its_host() {
    let content = bytes(1000);
    let info = object(1, &content, "none", &content);
    let file = content.clone();
    let other = Server::start(move |_| ok(&file)).await;
    let to = format!("http://{}/file", other.address);
    let server = Server::start(move |seen| match seen.target.as_str() {
        "/nar/1.nar" => redirect("/same"),
        _ => redirect(&to),
    })
    .await;
    let secret = login("secret");
    let out = nar(&client(), &server.url(""), Some(&secret), &info).await;
    assert!(out.unwrap() == content);
    assert!(
        server
            .seen()
            .iter()
            .all(|s| s.headers.contains_key("authorization"))
    );
    assert_eq!(server.count(), 2);
    assert!(!other.seen()[0].headers.contains_key("authorization"));

    // An absolute address in the entry, of another host and of the same.
    let mut info = info;
    info.url = format!("http://{}/file", other.address);
    let out = nar(&client(), &server.url(""), Some(&secret), &info).await;
    assert!(out.unwrap() == content);
    assert!(!other.seen()[1].headers.contains_key("authorization"));
    let out = nar(&client(), &other.url("/cache"), Some(&secret), &info).await;
    assert!(out.unwrap() == content);
    assert!(other.seen()[2].headers.contains_key("authorization"));
}

#[tokio::test]
async fn addresses_that_leave_the_cache() {
    let content = bytes(10);
    let server = Server::start(|_| status(404)).await;
    for url in [
        "../x",
        "nar/../../x",
        "%2e%2e/x",
        "file:///etc/passwd",
        "..",
        "\\x",
    ] {
        let mut info = object(1, &content, "none", &content);
        info.url = url.into();
        bad(nar(&client(), &server.url("/team/cache"), None, &info).await);
    }
    assert_eq!(server.count(), 0);
}
