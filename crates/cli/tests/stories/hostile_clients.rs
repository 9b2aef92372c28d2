//! Clients that break the protocol, lie or go away: each is told what is wrong, nobody else notices, nothing stays behind.

mod archives;
mod claims;
mod derivations;
mod removed;
mod sessions;

use firn_testkit::Server;

use crate::raw::{Raw, file, object, settled};

/// A server with accounts, or `None` with the reason printed.
fn server(toml: &str, accounts: &[&str]) -> Option<Server> {
    let mut server = crate::server()?;
    if !toml.is_empty() {
        server.configure(toml).unwrap();
        server.kill();
        server.launch().unwrap();
    }
    for account in accounts {
        server
            .firn(&["account", "add", account])
            .unwrap()
            .success()
            .unwrap();
    }
    Some(server)
}

/// The server is none the worse: it takes the next upload of a new connection, nothing half-written is left, and it did not panic.
async fn is_well(server: &Server, account: &str) {
    let mut raw = Raw::open(server, account).await;
    let name = format!("well-{}", std::process::id());
    let good = object(&name, file(b"well"));
    raw.upload(&good).await.unwrap();
    assert_eq!(raw.download(&good.info.path).await.unwrap(), good.nar);
    assert!(raw.end().await.ok);
    settled(server).await;
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// That a text says all of that.
#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}
