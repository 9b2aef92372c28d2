//! Whole sessions of the worker protocol over a pipe.

#![expect(clippy::unwrap_used, reason = "a test shows by panicking what is wrong")]

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use firn_nix::realisation::{DrvOutput, Realisation};
use firn_nix::rewrite::SelfReferences;
use firn_nix::signature::SecretKey;
use firn_nix::{CaMethod, HashAlgo};
use firn_protocol::codec::RealisationForm;
use firn_protocol::wire::{Decoder, Encoder, WireLimits};
use firn_protocol::worker::{self, AddToStore, Field, Op, Request, StderrMessage, Version};
use firn_protocol::{BuildMode, BuildOptions, BuildStatus, ClientOptions, DerivedPath, SessionError};
use support::memory::{MemoryStore, file_nar, info};
use support::{Client, build, derivation, options, path};
use tokio::io::AsyncReadExt;

mod support;

#[tokio::test]
async fn every_version_agrees_and_answers() {
    for minor in 18..=45 {
        let store = MemoryStore::default();
        store.insert_file(&path("a"), b"a");
        let mut client = Client::connect(&store, Version::new(minor)).await;
        assert!(client.is_valid(&path("a")).await, "1.{minor}");
        assert!(!client.is_valid(&path("b")).await, "1.{minor}");
        client.close().await.unwrap();
    }
}

/// Nix 2.17 to 2.34 and Lix compute other content addresses of what refers to itself than all others do.
#[tokio::test]
async fn the_version_tells_which_content_addresses_a_client_computes() {
    let placed = |minor| minor < 35;
    for minor in 18..=38 {
        let store = MemoryStore::default();
        let client = Client::connect(&store, Version::new(minor)).await;
        client.close().await.unwrap();
        let met = store.state().met.unwrap();
        assert_eq!(met.form == SelfReferences::Placed, placed(minor), "1.{minor}");
        assert_eq!(met.certain, minor != 35, "1.{minor}");
    }
    let store = MemoryStore::default();
    let version = Version::new(38).with_realisation_paths();
    Client::connect(&store, version).await.close().await.unwrap();
    let met = store.state().met.unwrap();
    assert!(met.certain && met.form == SelfReferences::Placed);
}

#[tokio::test]
async fn old_clients_are_told() {
    for minor in [10, 14, 17] {
        let (client, last) = Client::shake(&MemoryStore::default(), Version::new(minor), options()).await;
        let StderrMessage::Error(text) = last else {
            panic!("{last:?}")
        };
        assert!(String::from_utf8(text).unwrap().contains("too old"));
        assert!(matches!(client.close().await, Err(SessionError::Refused(_))));
    }
}

/// The very bytes, by version: gates are monotonic, features are an empty list, trust is 1 or 2.
#[tokio::test]
async fn the_handshake_says_what_each_version_wants_to_know() {
    for minor in 18..=38 {
        for trusted in [true, false] {
            let mut said = Encoder::default();
            said.u64(worker::CLIENT_MAGIC).u64(1 << 8 | minor);
            if minor >= 38 {
                // What 2.35 and later offer; nothing of it is agreed on unless Firn offers it, too.
                said.list(
                    ["realisation-with-path-not-hash", "delete-dead-specific-referrers"],
                    |e, f| {
                        e.text(f);
                    },
                );
            }
            said.u64(0).u64(0);
            let mut expected = Encoder::default();
            expected.u64(worker::SERVER_MAGIC).u64(0x126);
            let mut options = options();
            options.trusted = trusted;
            let mut answered = Vec::new();
            worker::serve(&MemoryStore::default(), said.as_bytes(), &mut answered, &options)
                .await
                .unwrap();
            let features = match minor {
                38.. => {
                    let mut rest = &answered[16..];
                    let limits = WireLimits::default();
                    let offered = Decoder::new(&mut rest, &limits).texts("").await.unwrap();
                    expected.list(&offered, |e, f| {
                        e.text(f);
                    });
                    offered.len()
                }
                _ => 0,
            };
            assert!(features <= 2);
            if minor >= 33 {
                expected.text("test");
            }
            if minor >= 35 {
                expected.u64(if trusted { 1 } else { 2 });
            }
            expected.u64(0x616c_7473);
            assert_eq!(answered, expected.as_bytes(), "1.{minor}");
        }
    }
}

#[tokio::test]
async fn a_session_can_be_refused_with_a_text() {
    for minor in [21, 25, 34, 38] {
        let mut options = options();
        options.refusal = Some("your account is over its quota".to_owned());
        let (client, last) = Client::shake(&MemoryStore::default(), Version::new(minor), options).await;
        assert_eq!(
            last,
            StderrMessage::Error(b"your account is over its quota".to_vec())
        );
        assert!(matches!(client.close().await, Err(SessionError::Refused(_))));
    }
}

#[tokio::test]
async fn an_upload_of_many_paths_becomes_valid_at_once() {
    for minor in [32, 38] {
        let store = MemoryStore::default();
        let mut client = Client::connect(&store, Version::new(minor)).await;
        client.request(&Request::AddMultipleToStore).await;
        let mut body = Encoder::default();
        body.u64(50);
        for n in 0..50 {
            let nar = file_nar(&vec![b'x'; n * 100]);
            body.path_info(&info(&path(&format!("p{n}")), &nar, BTreeSet::new()))
                .raw(&nar);
        }
        // Frames fall anywhere.
        for piece in body.as_bytes().chunks(777) {
            client.frame(piece).await;
        }
        assert!(!store.contains(&path("p0")));
        client.frame(b"").await;
        client.expect_last().await;
        assert_eq!(store.state().entries.len(), 50);
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_upload_is_drained_and_the_session_goes_on() {
    let store = MemoryStore::default();
    store.state().refuse = Some("bad".to_owned());
    let mut client = Client::connect(&store, Version::NEWEST).await;
    client.request(&Request::AddMultipleToStore).await;
    let (good, bad) = (file_nar(b"good"), file_nar(&[b'x'; 200_000]));
    let mut body = Encoder::default();
    body.u64(2)
        .path_info(&info(&path("good"), &good, BTreeSet::new()))
        .raw(&good);
    body.path_info(&info(&path("bad"), &bad, BTreeSet::new()));
    client.frame(body.as_bytes()).await;
    // The error comes while the client still sends.
    client.expect_error("bad' is refused").await;
    for piece in bad.chunks(30_000) {
        client.frame(piece).await;
    }
    client.frame(b"").await;
    assert!(!client.is_valid(&path("good")).await);

    let request = |name: &str| {
        Request::AddToStore(AddToStore {
            name: name.to_owned(),
            method: CaMethod::Flat,
            algo: HashAlgo::Sha256,
            references: BTreeSet::new(),
        })
    };
    client.request(&request("bad-too")).await;
    client.frame(b"some").await;
    client.expect_error("refused").await;
    client.frame(b"").await;
    client.request(&request("fine")).await;
    client.frame(b"some").await;
    client.frame(b" text").await;
    client.frame(b"").await;
    client.expect_last().await;
    let added = client.decoder().path_info().await.unwrap();
    assert_eq!(added.path.name(), "fine");
    assert!(client.is_valid(&added.path).await);
    client.close().await.unwrap();
}

#[tokio::test]
async fn an_archive_of_another_size_is_refused() {
    let store = MemoryStore::default();
    let mut client = Client::connect(&store, Version::NEWEST).await;
    let nar = file_nar(b"contents");
    let mut stated = info(&path("a"), &nar, BTreeSet::new());
    stated.nar_size += 8;
    for (stated, extra, error) in [
        (stated.clone(), &b""[..], "not what was said"),
        (
            info(&path("a"), &nar, BTreeSet::new()),
            b"12345678",
            "after the last archive",
        ),
    ] {
        client.request(&Request::AddToStoreNar(stated)).await;
        client.frame(&nar).await;
        if !extra.is_empty() {
            client.frame(extra).await;
        }
        client.frame(b"").await;
        client.expect_error(error).await;
        assert!(!client.is_valid(&path("a")).await);
    }
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    let store = MemoryStore::default();
    let mut client = Client::connect(&store, Version::NEWEST).await;
    client.request(&Request::AddMultipleToStore).await;
    let nar = file_nar(b"contents");
    let mut body = Encoder::default();
    body.u64(2)
        .path_info(&info(&path("a"), &nar, BTreeSet::new()))
        .raw(&nar);
    client.frame(body.as_bytes()).await;
    assert!(matches!(
        client.close().await,
        Err(SessionError::Closed {
            during: "AddMultipleToStore"
        })
    ));
    assert!(store.state().entries.is_empty());
}

#[tokio::test]
async fn of_a_long_body_that_breaks_off_whole_paths_stay() {
    for (bytes, time) in [(1, Duration::MAX), (u64::MAX, Duration::ZERO)] {
        let store = MemoryStore::default();
        let mut options = options();
        (options.checkpoint_bytes, options.checkpoint_time) = (bytes, time);
        let mut client = Client::connect_with(&store, Version::NEWEST, options).await;
        client.request(&Request::AddMultipleToStore).await;
        let nar = file_nar(b"contents");
        let mut body = Encoder::default();
        body.u64(3);
        for name in ["a", "b"] {
            body.path_info(&info(&path(name), &nar, BTreeSet::new()))
                .raw(&nar);
        }
        client.frame(body.as_bytes()).await;
        client.close().await.unwrap_err();
        let entries = store.state().entries.len();
        assert_eq!(entries, 2);
    }
}

#[tokio::test]
async fn a_frame_beyond_the_limit_ends_the_session() {
    let store = MemoryStore::default();
    let mut client = Client::connect(&store, Version::NEWEST).await;
    client.request(&Request::AddMultipleToStore).await;
    client
        .send(|e| {
            e.u64(1 << 63);
        })
        .await;
    client.expect_error("longer than accepted").await;
    assert!(matches!(
        client.close().await,
        Err(SessionError::Protocol { field: "body", .. })
    ));
}

#[tokio::test]
async fn a_client_that_does_not_stop_sending_is_cut_off() {
    let store = MemoryStore::default();
    store.state().refuse = Some("bad".to_owned());
    let mut options = options();
    options.limits.drain_bytes = 10_000;
    let mut client = Client::connect_with(&store, Version::NEWEST, options).await;
    client.request(&Request::AddBuildLog(path("a.drv"))).await;
    client.frame(b"log").await;
    client.frame(b"").await;
    client.expect_last().await;
    assert_eq!(client.decoder().u64("").await.unwrap(), 1);
    assert_eq!(store.state().logs[&path("a.drv")], b"log");

    let nar = file_nar(&[0; 30_000]);
    client
        .request(&Request::AddToStoreNar(info(&path("bad"), &nar, BTreeSet::new())))
        .await;
    client.frame(&nar[..9_000]).await;
    client.expect_error("refused").await;
    client.frame(&nar[9_000..16_000]).await;
    let session = client.session;
    assert!(session.await.unwrap().is_err());
}

#[tokio::test]
async fn build_events_come_before_the_result() {
    let store = MemoryStore::default();
    let mut client = Client::connect(&store, Version::new(34)).await;
    client.request(&build(&[("stubLines", "1000")])).await;
    let messages = client.messages().await;
    let activity = 0x5eed << 32;
    let drv = path("x.drv").to_string();
    assert_eq!(
        messages[0],
        StderrMessage::StartActivity {
            id: activity,
            level: 3,
            kind: 105,
            text: format!("building '{drv}'").into_bytes(),
            fields: vec![
                Field::Text(drv.into_bytes()),
                Field::Text(vec![]),
                Field::Int(1),
                Field::Int(1)
            ],
            parent: 0,
        }
    );
    let result = |kind, text: &str| StderrMessage::Result {
        id: activity,
        kind,
        fields: vec![Field::Text(text.as_bytes().to_vec())],
    };
    assert_eq!(messages[1], result(104, "stubPhase"));
    assert_eq!(messages[2], result(101, "stub line 0"));
    assert_eq!(messages[1001], result(101, "stub line 999"));
    assert_eq!(
        messages[1002..],
        [
            StderrMessage::Next(b"stub done\n".to_vec()),
            StderrMessage::StopActivity(activity),
            StderrMessage::Last
        ]
    );
    let format = client.version.result_format();
    let result = client.decoder().build_result(format).await.unwrap();
    assert_eq!(result.status, BuildStatus::Built);
    assert!(client.is_valid(&path("out")).await);
    client.close().await.unwrap();
}

#[tokio::test]
async fn what_a_build_waits_for_is_an_activity_within_it() {
    for (waits, texts) in [
        ("", &[][..]),
        ("a", &["a"]),
        ("a b", &["a", "b"]),
        ("a still", &["a", "still"]),
    ] {
        let store = MemoryStore::default();
        let mut client = Client::connect(&store, Version::NEWEST).await;
        let env: &[_] = if waits.is_empty() {
            &[]
        } else {
            &[("stubWait", waits)]
        };
        client.request(&build(env)).await;
        let messages = client.messages().await;
        let build = 0x5eed << 32;
        let waiting = |n: usize| build + 1 + n as u64;
        let mut expected = Vec::new();
        for (n, text) in texts.iter().enumerate() {
            if n > 0 {
                expected.push(StderrMessage::StopActivity(waiting(n - 1)));
            }
            expected.push(StderrMessage::StartActivity {
                id: waiting(n),
                level: 1,
                // The first one is no wait by its kind, so that it is shown without a terminal too.
                kind: if n == 0 { 0 } else { 111 },
                text: format!("waiting for {text}").into_bytes(),
                fields: vec![],
                parent: build,
            });
        }
        // One that nobody ended ends with the request.
        if let Some(last) = texts.len().checked_sub(1) {
            expected.push(StderrMessage::StopActivity(waiting(last)));
        }
        let is_wait = |m: &&StderrMessage| match m {
            StderrMessage::StartActivity { kind, .. } => [0, 111].contains(kind),
            StderrMessage::StopActivity(id) => *id != build,
            _ => false,
        };
        let seen: Vec<StderrMessage> = messages.iter().filter(is_wait).cloned().collect();
        assert_eq!(seen, expected);
        assert_eq!(messages[messages.len() - 2], StderrMessage::StopActivity(build));
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_log_line_does_not_wait_for_the_next() {
    let store = MemoryStore::default();
    let mut client = Client::connect(&store, Version::NEWEST).await;
    client
        .request(&build(&[("stubLines", "2"), ("stubHang", "1")]))
        .await;
    for _ in 0..4 {
        client.message().await;
    }
    // The build hangs; everything it said has come.
    assert_eq!(store.running.load(Ordering::SeqCst), 1);
    let session = client.close().await;
    assert!(matches!(
        session,
        Err(SessionError::Closed {
            during: "BuildDerivation"
        })
    ));
    assert_eq!(store.running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn failures_are_results_or_errors() {
    let store = MemoryStore::default();
    let mut client = Client::connect(&store, Version::NEWEST).await;
    client.request(&build(&[("stubFail", "it broke")])).await;
    client.messages().await;
    let format = client.version.result_format();
    let result = client.decoder().build_result(format).await.unwrap();
    assert_eq!(result.status, BuildStatus::PermanentFailure);
    assert_eq!(result.error_msg, b"it broke");

    let mut drv = derivation(&[]);
    drv.input_srcs.insert(path("missing"));
    client
        .request(&Request::BuildDerivation(path("x.drv"), drv, BuildMode::Normal))
        .await;
    client.expect_error("missing' is not valid").await;

    let targets = vec![DerivedPath::Opaque(path("a")), DerivedPath::Opaque(path("b"))];
    client
        .request(&Request::BuildPaths(targets.clone(), BuildMode::Normal))
        .await;
    client.expect_error("b' is not valid").await;
    store.insert_file(&path("a"), b"a");
    client
        .request(&Request::BuildPathsWithResults(targets, BuildMode::Normal))
        .await;
    client.expect_last().await;
    assert_eq!(client.decoder().u64("").await.unwrap(), 2);
    for status in [BuildStatus::AlreadyValid, BuildStatus::NoSubstituters] {
        client.decoder().bytes("").await.unwrap();
        assert_eq!(
            client.decoder().build_result(format).await.unwrap().status,
            status
        );
    }
    client.close().await.unwrap();
}

#[tokio::test]
async fn limits_of_set_options_reach_the_build() {
    let store = MemoryStore::default();
    let mut client = Client::connect(&store, Version::NEWEST).await;
    let limits = BuildOptions {
        max_silent_time: Some(60),
        timeout: Some(600),
        max_log_size: None,
    };
    let options = ClientOptions {
        builds: limits,
        negative_ttl: Some(0),
    };
    client.request(&Request::SetOptions(options)).await;
    client.expect_last().await;
    client.request(&build(&[])).await;
    client.messages().await;
    assert_eq!(store.state().options, Some(limits));
    assert_eq!(store.state().misses, Some(std::time::Duration::ZERO));
}

#[tokio::test]
async fn downloads_are_exact() {
    let store = MemoryStore::default();
    let contents = vec![b'z'; 1_000_000];
    store.insert_file(&path("big"), &contents);
    let mut client = Client::connect(&store, Version::NEWEST).await;
    client.request(&Request::NarFromPath(path("none"))).await;
    client.expect_error("not valid").await;
    client.request(&Request::NarFromPath(path("big"))).await;
    client.expect_last().await;
    let wanted = file_nar(&contents);
    let mut nar = vec![0; wanted.len()];
    client.decoder().source().read_exact(&mut nar).await.unwrap();
    assert!(nar == wanted);
    assert!(client.is_valid(&path("big")).await);
    client.close().await.unwrap();
}

#[tokio::test]
async fn garbage_is_named() {
    for (bytes, field) in [
        (Encoder::default().u64(999).as_bytes().to_vec(), "operation"),
        (
            Encoder::default().u64(1).text("/nix/store/x").as_bytes().to_vec(),
            "path",
        ),
        (Encoder::default().u64(1).u64(1 << 63).as_bytes().to_vec(), "path"),
        (
            Encoder::default()
                .u64(1)
                .u64(1)
                .raw(b"/1234567")
                .as_bytes()
                .to_vec(),
            "path",
        ),
        (
            Encoder::default().u64(31).u64(u64::MAX).as_bytes().to_vec(),
            "paths",
        ),
        (
            Encoder::default().u64(9).u64(0).u64(7).as_bytes().to_vec(),
            "buildMode",
        ),
        (
            Encoder::default().u64(0x1_0000_0001).as_bytes().to_vec(),
            "operation",
        ),
    ] {
        let mut client = Client::connect(&MemoryStore::default(), Version::NEWEST).await;
        client
            .send(|e| {
                e.raw(&bytes);
            })
            .await;
        client.expect_error(field).await;
        match client.close().await {
            Err(SessionError::Protocol { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_request_is_bounded_as_a_whole() {
    let mut options = options();
    options.limits = WireLimits {
        request_bytes: 1000,
        ..WireLimits::default()
    };
    let mut client = Client::connect_with(&MemoryStore::default(), Version::NEWEST, options).await;
    let paths = (0..100).map(|n| path(&format!("p{n}"))).collect();
    client.request(&Request::QuerySubstitutablePaths(paths)).await;
    client.expect_error("at most").await;
}

#[tokio::test(start_paused = true)]
async fn stalls_end_a_session_but_idleness_does_not() {
    let store = MemoryStore::default();
    let mut client = Client::connect(&store, Version::NEWEST).await;
    tokio::time::sleep(Duration::from_secs(100_000)).await;
    assert!(!client.is_valid(&path("a")).await);
    client
        .send(|e| {
            e.u64(Op::IsValidPath as u64).u64(50);
        })
        .await;
    let ended = client.session.await.unwrap();
    assert!(
        matches!(
            ended,
            Err(SessionError::Stalled {
                during: "IsValidPath"
            })
        ),
        "{ended:?}"
    );

    let (near, far) = tokio::io::duplex(1000);
    let (reader, writer) = tokio::io::split(far);
    let ended = firn_protocol::worker::serve(&store, reader, writer, &options()).await;
    assert!(matches!(ended, Err(SessionError::Stalled { .. })), "{ended:?}");
    drop(near);

    // A client that reads nothing of a long log.
    let mut client = Client::connect(&store, Version::NEWEST).await;
    client.request(&build(&[("stubLines", "1000000")])).await;
    let ended = (&mut client.session).await.unwrap();
    assert!(matches!(ended, Err(SessionError::Stalled { .. })), "{ended:?}");
    assert_eq!(store.running.load(Ordering::SeqCst), 0);
}

/// Every operation without a body, in every version, leaves the session in step.
#[tokio::test]
async fn every_plain_operation_is_answered() {
    let bodies = [
        Op::AddToStore,
        Op::AddToStoreNar,
        Op::AddMultipleToStore,
        Op::AddBuildLog,
    ];
    for version in (18..=38).map(Version::new) {
        let store = MemoryStore::default();
        store.insert_file(&path("a.drv"), b"a");
        let a = || path("a.drv");
        let requests = [
            Request::QueryReferrers(a()),
            Request::AddTextToStore {
                name: "text".to_owned(),
                text: b"text".to_vec(),
                references: BTreeSet::from([a()]),
            },
            Request::EnsurePath(a()),
            Request::AddTempRoot(a()),
            Request::AddIndirectRoot(b"/x".to_vec()),
            Request::SyncWithGC,
            Request::FindRoots,
            Request::QueryDeriver(a()),
            Request::CollectGarbage,
            Request::QuerySubstitutablePathInfo(a()),
            Request::QueryDerivationOutputs(a()),
            Request::QueryAllValidPaths,
            Request::QueryPathInfo(a()),
            Request::QueryPathInfo(path("none")),
            Request::QueryDerivationOutputNames(a()),
            Request::QueryPathFromHashPart(a().hash_part().to_owned()),
            Request::QuerySubstitutablePathInfos(BTreeSet::from([a()])),
            Request::QueryValidPaths {
                paths: BTreeSet::from([a()]),
                substitute: version >= Version::new(27),
            },
            Request::QuerySubstitutablePaths(BTreeSet::from([a()])),
            Request::QueryValidDerivers(a()),
            Request::OptimiseStore,
            Request::VerifyStore,
            Request::AddSignatures(a(), BTreeSet::from(["k:c2ln".to_owned()])),
            Request::QueryMissing(vec![DerivedPath::Opaque(path("none"))]),
            Request::QueryDerivationOutputMap(a()),
            Request::QueryRealisation(drv_output()),
            Request::RegisterDrvOutput(Realisation::unsigned(drv_output(), a())),
            Request::AddPermRoot,
        ];
        for request in requests {
            assert!(!bodies.contains(&request.op()));
            let mut client = Client::connect(&store, version).await;
            client.request(&request).await;
            let last = client.messages().await.pop().unwrap();
            let refused = matches!(request.op(), Op::CollectGarbage | Op::AddPermRoot);
            assert_eq!(
                matches!(last, StderrMessage::Error(_)),
                refused,
                "{:?}",
                request.op()
            );
            if !refused {
                skip_reply(&mut client, &request).await;
            }
            assert!(client.is_valid(&a()).await, "{:?}", request.op());
            client.close().await.unwrap();
        }
    }
}

async fn skip_reply(client: &mut Client, request: &Request) {
    let mut d = client.decoder();
    match request.op() {
        Op::QueryReferrers
        | Op::QueryAllValidPaths
        | Op::QueryDerivationOutputs
        | Op::QueryValidPaths
        | Op::QuerySubstitutablePaths
        | Op::QueryValidDerivers => {
            d.paths("").await.unwrap();
        }
        Op::AddTextToStore => {
            d.path("").await.unwrap();
        }
        Op::QueryDeriver | Op::QueryPathFromHashPart => {
            d.optional_path("").await.unwrap();
        }
        Op::QueryPathInfo => {
            if d.bool("").await.unwrap() {
                d.unkeyed_path_info(path("a")).await.unwrap();
            }
        }
        Op::QueryDerivationOutputNames => {
            assert_eq!(d.texts("").await.unwrap().len(), 1);
        }
        Op::QueryMissing => {
            for _ in 0..3 {
                d.paths("").await.unwrap();
            }
            d.u64("").await.unwrap();
            d.u64("").await.unwrap();
        }
        Op::QueryDerivationOutputMap => {
            assert_eq!(d.u64("").await.unwrap(), 1);
            d.text("").await.unwrap();
            d.optional_path("").await.unwrap();
        }
        Op::RegisterDrvOutput => {}
        _ => {
            d.u64("").await.unwrap();
        }
    }
}

fn drv_output() -> DrvOutput {
    format!("sha256:{}!out", "0".repeat(64)).parse().unwrap()
}

/// In every form: registered by a client, asked for by another one.
#[tokio::test]
async fn realisations() {
    let store = MemoryStore::default();
    store.insert_file(&path("a"), b"a");
    let by_path = DrvOutput::of_path(path("x.drv"), "out".to_owned()).unwrap();
    let key = SecretKey::from_seed("k", &[1; 32]).unwrap();
    let mut signed = Realisation::unsigned(drv_output(), path("a"));
    signed
        .signatures
        .insert(key.sign(signed.fingerprint().as_bytes()));
    let mut resolved = Realisation::unsigned(by_path.clone(), path("a"));
    resolved
        .signatures
        .insert(key.sign(resolved.fingerprint().as_bytes()));
    for (version, known) in [
        (Version::new(30), Realisation::unsigned(drv_output(), path("a"))),
        (Version::new(34), signed.clone()),
        (Version::NEWEST, signed),
        (Version::NEWEST.with_realisation_paths(), resolved),
    ] {
        let mut client = Client::connect(&store, version).await;
        for there in [false, true] {
            client.request(&Request::QueryRealisation(known.id.clone())).await;
            assert_eq!(client.messages().await, [StderrMessage::Last]);
            let mut d = client.decoder();
            assert_eq!(d.u64("").await.unwrap(), u64::from(there), "{version}");
            if there {
                match version.realisation_form() {
                    RealisationForm::Names => assert_eq!(d.path("").await.unwrap(), path("a")),
                    RealisationForm::Json => assert_eq!(d.text("").await.unwrap(), known.to_json()),
                    RealisationForm::Fields => {
                        assert_eq!(d.path("").await.unwrap(), path("a"));
                        let signature = known.signatures.first().unwrap().to_string();
                        assert_eq!(d.texts("").await.unwrap(), [signature].into());
                    }
                }
                continue;
            }
            client.request(&Request::RegisterDrvOutput(known.clone())).await;
            assert_eq!(client.messages().await, [StderrMessage::Last]);
        }
        store.state().realisations.clear();
        let nowhere = Realisation::unsigned(known.id.clone(), path("none"));
        client.request(&Request::RegisterDrvOutput(nowhere)).await;
        assert!(matches!(
            client.messages().await.pop(),
            Some(StderrMessage::Error(_))
        ));
        client.close().await.unwrap();
    }
}
