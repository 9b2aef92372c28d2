//! Uploads and logs as Nix 2.3 and older have them.

use std::collections::BTreeSet;

use firn_nix::{CaMethod, HashAlgo};
use firn_protocol::BuildStatus;
use firn_protocol::worker::{AddToStore, Request, StderrMessage, Version};
use support::memory::{MemoryStore, file_nar, info};
use support::{Client, build, path};

mod support;

/// Before 1.21 the bytes follow the request, and before 1.20 a log is lines.
#[tokio::test]
async fn the_oldest_uploads_and_logs_are_bare() {
    for minor in 18..=20 {
        let store = MemoryStore::default();
        store.state().refuse = Some("bad".to_owned());
        let mut client = Client::connect(&store, Version::new(minor)).await;
        let nar = file_nar(&vec![7; 150_000]);
        for (name, accepted) in [("good", true), ("bad", false), ("good2", true)] {
            client
                .request(&Request::AddToStoreNar(info(&path(name), &nar, BTreeSet::new())))
                .await;
            for piece in nar.chunks(10_000) {
                client
                    .send(|e| {
                        e.raw(piece);
                    })
                    .await;
            }
            match accepted {
                true => client.expect_last().await,
                false => client.expect_error("refused").await,
            }
            assert_eq!(client.is_valid(&path(name)).await, accepted);
        }
        client.request(&build(&[("stubLines", "1")])).await;
        let mut lines = Vec::new();
        loop {
            match client.message().await {
                StderrMessage::Next(line) => lines.push(String::from_utf8(line).unwrap()),
                StderrMessage::Last => break,
                other => assert!(minor >= 20, "{other:?}"),
            }
        }
        assert_eq!(
            minor < 20,
            lines.contains(&"stub line 0\n".to_owned()),
            "{lines:?}"
        );
        let format = Version::new(minor).result_format();
        let result = client.decoder().build_result(format).await.unwrap();
        assert_eq!(result.status, BuildStatus::Built);
        client.close().await.unwrap();

        let mut client = Client::connect(&store, Version::new(minor)).await;
        client
            .request(&Request::AddToStoreNar(info(&path("cut"), &nar, BTreeSet::new())))
            .await;
        client
            .send(|e| {
                e.raw(&nar[..100]);
            })
            .await;
        client.close().await.unwrap_err();
        assert!(!store.state().entries.contains_key(&path("cut")));
    }
}

#[tokio::test]
async fn nix_2_3_uploads_are_asked_for() {
    let store = MemoryStore::default();
    store.state().refuse = Some("bad".to_owned());
    for minor in [21, 22] {
        let mut client = Client::connect(&store, Version::new(minor)).await;
        for (name, accepted) in [("good", true), ("bad", false), ("good2", true)] {
            let nar = file_nar(&vec![7; 150_000]);
            client
                .request(&Request::AddToStoreNar(info(&path(name), &nar, BTreeSet::new())))
                .await;
            let mut rest = nar.as_slice();
            loop {
                match client.message().await {
                    StderrMessage::Read(most) => {
                        let (now, later) = rest.split_at(rest.len().min(most as usize).min(50_000));
                        rest = later;
                        client
                            .send(|e| {
                                e.bytes(now);
                            })
                            .await;
                    }
                    StderrMessage::Last => {
                        assert!(accepted && rest.is_empty());
                        break;
                    }
                    StderrMessage::Error(text) => {
                        assert!(!accepted, "{}", text.escape_ascii());
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(client.is_valid(&path(name)).await, accepted);
        }
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn nix_2_3_sources_come_as_bare_archives() {
    for method in [CaMethod::Nar, CaMethod::Flat] {
        let add = |version| async move {
            let store = MemoryStore::default();
            let mut client = Client::connect(&store, version).await;
            let name = "src".to_owned();
            let (algo, references) = (HashAlgo::Sha256, BTreeSet::new());
            client
                .request(&Request::AddToStore(AddToStore {
                    name,
                    method,
                    algo,
                    references,
                }))
                .await;
            client
        };
        let nar = file_nar(b"source text");
        let mut old = add(Version::new(21)).await;
        old.send(|e| {
            e.raw(&nar);
        })
        .await;
        old.expect_last().await;
        let old_path = old.decoder().path("").await.unwrap();
        assert!(old.is_valid(&old_path).await);
        let mut new = add(Version::NEWEST).await;
        new.frame(if method == CaMethod::Nar {
            &nar
        } else {
            b"source text"
        })
        .await;
        new.frame(b"").await;
        new.expect_last().await;
        assert_eq!(new.decoder().path_info().await.unwrap().path, old_path);
    }
}
