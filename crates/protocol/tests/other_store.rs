//! Clients whose store directory is another one: told so, whatever they ask first.

#![expect(clippy::unwrap_used, reason = "a test shows by panicking what is wrong")]

use std::collections::BTreeSet;

use firn_nix::realisation::{DrvOutput, Realisation};
use firn_nix::{CaMethod, HashAlgo, StorePath};
use firn_protocol::wire::Encoder;
use firn_protocol::worker::{AddToStore, Request, Version};
use firn_protocol::{BuildMode, DerivedPath, OutputsSpec, SessionError, SessionOptions, serve};
use support::memory::{MemoryStore, file_nar, info};
use support::{Client, build, options, path};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

mod support;

const SENTENCE: &str = "only /nix/store is served here";

/// What was encoded, from a client with another store directory of the same length.
fn elsewhere(bytes: &[u8]) -> Vec<u8> {
    let (from, to) = (b"/nix/store/", b"/gnu/store/");
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = (0..bytes.len())
        .filter(|at| bytes.get(*at..).is_some_and(|rest| rest.starts_with(from)))
        .collect();
    assert!(!places.is_empty(), "it carries no path");
    for at in places {
        bytes.splice(at..at + from.len(), to.iter().copied());
    }
    bytes
}

fn realisation() -> Realisation {
    let id = DrvOutput::of_path(path("x.drv"), "out".to_owned()).unwrap();
    Realisation::unsigned(id, path("x"))
}

/// All requests of the worker protocol that carry a path before any body.
fn requests() -> Vec<Request> {
    let (p, set) = (|| path("a"), || BTreeSet::from([path("a")]));
    let targets = || {
        let outputs = OutputsSpec::All;
        let drv_path = path("x.drv");
        vec![
            DerivedPath::Opaque(path("a")),
            DerivedPath::Built { drv_path, outputs },
        ]
    };
    let nar = file_nar(b"a");
    vec![
        Request::IsValidPath(p()),
        Request::QueryReferrers(p()),
        Request::AddToStore(AddToStore {
            name: "a".into(),
            method: CaMethod::Nar,
            algo: HashAlgo::Sha256,
            references: set(),
        }),
        Request::AddTextToStore {
            name: "a".into(),
            text: Vec::new(),
            references: set(),
        },
        Request::BuildPaths(targets(), BuildMode::Normal),
        Request::BuildPaths(targets().split_off(1), BuildMode::Normal),
        Request::EnsurePath(p()),
        Request::AddTempRoot(p()),
        Request::QueryDeriver(p()),
        Request::QuerySubstitutablePathInfo(p()),
        Request::QueryDerivationOutputs(p()),
        Request::QueryPathInfo(p()),
        Request::QueryDerivationOutputNames(p()),
        Request::QuerySubstitutablePathInfos(set()),
        Request::QueryValidPaths {
            paths: set(),
            substitute: false,
        },
        Request::QuerySubstitutablePaths(set()),
        Request::QueryValidDerivers(p()),
        build(&[]),
        Request::AddSignatures(p(), BTreeSet::new()),
        Request::NarFromPath(p()),
        Request::AddToStoreNar(info(&p(), &nar, BTreeSet::new())),
        Request::QueryMissing(targets()),
        Request::QueryDerivationOutputMap(p()),
        Request::RegisterDrvOutput(realisation()),
        Request::QueryRealisation(realisation().id),
        Request::BuildPathsWithResults(targets(), BuildMode::Normal),
    ]
}

#[tokio::test]
async fn the_worker_protocol_says_so() {
    let version = Version::NEWEST.with_realisation_paths();
    for request in requests() {
        let mut e = Encoder::default();
        request.encode(version, &mut e);
        let bytes = elsewhere(e.as_bytes());
        let mut client = Client::connect(&MemoryStore::default(), version).await;
        client
            .send(|e| {
                e.raw(&bytes);
            })
            .await;
        client.expect_error(SENTENCE).await;
        let ended = client.close().await;
        assert!(
            matches!(&ended, Err(SessionError::OtherStore(text)) if text.contains("/gnu/store/")),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn so_it_does_of_paths_in_a_body() {
    let mut client = Client::connect(&MemoryStore::default(), Version::NEWEST).await;
    client.request(&Request::AddMultipleToStore).await;
    let nar = file_nar(b"a");
    let mut e = Encoder::default();
    e.u64(1).path_info(&info(&path("a"), &nar, BTreeSet::new()));
    client.frame(&elsewhere(e.as_bytes())).await;
    client.frame(&nar).await;
    client.frame(b"").await;
    client.expect_error(SENTENCE).await;
    assert!(!client.is_valid(&path("a")).await);
    client.close().await.unwrap();
}

async fn served(bytes: &[u8]) -> (Result<(), SessionError>, String) {
    let (near, far) = tokio::io::duplex(16 << 10);
    let (mut stderr, far_stderr) = tokio::io::duplex(16 << 10);
    let options: SessionOptions = options();
    let session = tokio::spawn(async move {
        let (reader, writer) = tokio::io::split(far);
        serve::serve(&MemoryStore::default(), reader, writer, far_stderr, &options).await
    });
    let (_reader, mut writer) = tokio::io::split(near);
    let mut e = Encoder::default();
    e.u64(serve::CLIENT_MAGIC).u64(serve::Version::new(7).to_wire());
    writer.write_all(e.as_bytes()).await.unwrap();
    writer.write_all(bytes).await.unwrap();
    let mut text = String::new();
    stderr.read_to_string(&mut text).await.unwrap();
    (session.await.unwrap(), text)
}

#[tokio::test]
async fn the_serve_protocol_says_so() {
    let version = serve::Version::new(7);
    let (p, set): (StorePath, _) = (path("a"), || BTreeSet::from([path("a")]));
    let nar = file_nar(b"a");
    let target = DerivedPath::Opaque(p.clone());
    let drv = match build(&[]) {
        Request::BuildDerivation(path, drv, _) => {
            serve::Request::BuildDerivation(path, drv, Default::default())
        }
        other => panic!("{other:?}"),
    };
    let mut all: Vec<Vec<u8>> = Vec::new();
    for request in [
        serve::Request::QueryValidPaths {
            paths: set(),
            substitute: false,
        },
        serve::Request::QueryPathInfos(set()),
        serve::Request::DumpStorePath(p.clone()),
        serve::Request::BuildPaths(vec![target], Default::default()),
        serve::Request::QueryClosure {
            include_outputs: false,
            paths: set(),
        },
        drv,
        serve::Request::AddToStoreNar(info(&p, &nar, BTreeSet::new())),
    ] {
        let mut e = Encoder::default();
        request.encode(version, &mut e);
        all.push(e.as_bytes().to_vec());
    }
    let mut e = Encoder::default();
    serve::Request::ImportPaths.encode(version, &mut e);
    e.u64(1)
        .raw(&nar)
        .u64(0x4558_494e)
        .path(&p)
        .paths(&set())
        .text("")
        .u64(0)
        .u64(0);
    all.push(e.as_bytes().to_vec());
    for bytes in all {
        let (ended, text) = served(&elsewhere(&bytes)).await;
        assert!(text.contains(SENTENCE), "{text:?}");
        assert!(matches!(ended, Err(SessionError::OtherStore(_))), "{ended:?}");
    }
}

/// What is no store path of any directory is garbage.
#[tokio::test]
async fn garbage_is_still_garbage() {
    for text in ["/etc/passwd", "relative", "/gnu/store", ""] {
        let mut client = Client::connect(&MemoryStore::default(), Version::NEWEST).await;
        client
            .send(|e| {
                e.u64(1).text(text);
            })
            .await;
        client.expect_error("is not in the Nix store").await;
        assert!(matches!(client.close().await, Err(SessionError::Protocol { .. })));
    }
}
