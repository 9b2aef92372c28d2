//! How sessions of the worker protocol end before their client wants them to, and how they end when it goes.

use std::collections::BTreeSet;
use std::time::Duration;

use firn_protocol::wire::Encoder;
use firn_protocol::worker::{self, Request, Version};
use firn_protocol::{Memory, SessionError};
use support::memory::MemoryStore;
use support::{Client, options, path};
use tokio::io::AsyncReadExt;

mod support;

#[tokio::test]
async fn a_request_that_finds_no_memory_is_told_so() {
    let memory = Memory::with_patience(512 << 10, Duration::from_millis(1));
    let mut options = options();
    (options.memory, options.account) = (memory.clone(), 7);
    let request = |bytes| Request::AddTextToStore {
        name: "text".to_owned(),
        text: vec![b'x'; bytes],
        references: BTreeSet::new(),
    };
    let mut held = memory.hold(7);
    held.use_more(200 << 10).await.unwrap();
    let store = MemoryStore::default();
    let mut client = Client::connect_with(&store, Version::NEWEST, options.clone()).await;
    client.request(&request(50 << 10)).await;
    client.expect_last().await;
    client.decoder().path("path").await.unwrap();
    client.request(&request(70 << 10)).await;
    client.expect_error("the service is busy").await;
    let ended = client.close().await.unwrap_err();
    assert!(matches!(ended, SessionError::Refused(_)), "{ended:?}");
    // What is given back is there for the next.
    drop(held);
    let mut client = Client::connect_with(&store, Version::NEWEST, options).await;
    client.request(&request(70 << 10)).await;
    client.expect_last().await;
    client.decoder().path("path").await.unwrap();
    assert!(!client.is_valid(&path("nothing")).await);
    assert_eq!(memory.taken(), 0);
}

/// What a transport says when its client is killed: no end of file, but an error.
fn killed(before: &[u8]) -> impl tokio::io::AsyncRead + Unpin {
    struct Killed;
    impl tokio::io::AsyncRead for Killed {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Err(std::io::ErrorKind::ConnectionAborted.into()))
        }
    }
    std::io::Cursor::new(before.to_vec()).chain(Killed)
}

#[tokio::test]
async fn a_client_that_goes_away_between_requests_has_ended_well() {
    let mut said = Encoder::default();
    said.u64(worker::CLIENT_MAGIC).u64(Version::new(37).to_wire());
    said.u64(0).u64(0);
    let shaken = said.as_bytes().to_vec();
    let serve = async |said: &[u8]| {
        worker::serve(
            &MemoryStore::default(),
            killed(said),
            tokio::io::sink(),
            &options(),
        )
        .await
    };
    serve(&shaken).await.unwrap();
    // In the middle of something is said.
    let broken = [&shaken[..], &[1, 0, 0]].concat();
    for early in [&shaken[..10], &broken] {
        let ended = serve(early).await.unwrap_err();
        assert!(matches!(ended, SessionError::Closed { .. }), "{ended}");
    }
}
