//! Sessions that do not keep to the protocol, or end in the middle of it.

use std::collections::BTreeSet;

use firn_nix::realisation::{DrvOutput, Realisation};
use firn_nix::{CaMethod, HashAlgo};
use firn_protocol::worker::{self, AddToStore, Op, Request, Version};
use firn_protocol::{BuildMode, ClientOptions, DerivedPath, OutputsSpec, serve};

use super::{is_well, says, server};
use crate::raw::{Raw, WORKER, file, object, path, shell};

const SERVE: &str = "nix-store --serve --write";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_nix_client_is_let_go() {
    let Some(server) = server("", &["mallory"]) else {
        return;
    };
    let mut raw = Raw::stdio(&server, "mallory", WORKER);
    raw.raw(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let end = raw.end().await;
    assert!(!end.ok && end.output.is_empty(), "{end:?}");

    let mut raw = Raw::stdio(&server, "mallory", WORKER);
    raw.send(|e| {
        e.u64(worker::CLIENT_MAGIC).u64(0x0226);
    })
    .await
    .unwrap();
    let end = raw.end().await;
    says(
        &end.output.escape_ascii().to_string(),
        &["worker protocol version 0x226 is not served"],
    );
    assert!(!end.ok);

    let mut raw = Raw::stdio(&server, "mallory", SERVE);
    raw.send(|e| {
        e.u64(worker::CLIENT_MAGIC);
    })
    .await
    .unwrap();
    let end = raw.end().await;
    says(
        &end.error,
        &["protocol violation during the handshake: magic: not a Nix client"],
    );
    assert!(!end.ok && end.output.is_empty(), "{end:?}");

    let mut raw = Raw::stdio(&server, "mallory", SERVE);
    raw.send(|e| {
        e.u64(serve::CLIENT_MAGIC).u64(0x0907);
    })
    .await
    .unwrap();
    says(
        &raw.end().await.error,
        &["serve protocol version 0x907 is not served"],
    );

    let end = Raw::stdio(&server, "mallory", "cat /etc/passwd").end().await;
    assert!(!end.ok && end.output.is_empty(), "{end:?}");
    is_well(&server, "mallory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_is_not_let_in() {
    let Some(server) = server("", &[]) else { return };
    let alice = server.client("alice").unwrap();
    let stranger = server.client("stranger").unwrap();
    server
        .firn(&["account", "remove", "stranger"])
        .unwrap()
        .success()
        .unwrap();
    let run = stranger.ssh(&[WORKER]).unwrap();
    assert!(!run.ok && run.stdout.is_empty());
    says(&run.stderr, &["Permission denied (publickey)"]);
    let run = alice.ssh(&["sh -c id"]).unwrap();
    assert!(!run.ok && run.stdout.is_empty());
    says(&run.stderr, &["firn: "]);
    is_well(&server, "alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_out_of_bounds_end_the_session_with_a_reason() {
    let Some(server) = server("", &["mallory"]) else {
        return;
    };
    const HUGE: u64 = 1 << 63;
    let some = path("some").to_string();
    type Case<'a> = (
        &'a str,
        Op,
        Box<dyn Fn(&mut firn_protocol::wire::Encoder)>,
        [&'a str; 2],
    );
    let some_too = some.clone();
    let cases: Vec<Case<'_>> = vec![
        (
            "a long path",
            Op::IsValidPath,
            Box::new(|e| _ = e.u64(HUGE)),
            ["IsValidPath: path", "9223372036854775808 bytes"],
        ),
        (
            "many paths",
            Op::QueryValidPaths,
            Box::new(|e| _ = e.u64(HUGE)),
            ["QueryValidPaths: paths", "9223372036854775808 items"],
        ),
        (
            "a path elsewhere",
            Op::IsValidPath,
            Box::new(|e| _ = e.text("/etc/passwd")),
            ["IsValidPath: path", "/etc/passwd"],
        ),
        (
            "a path above",
            Op::NarFromPath,
            Box::new(|e| _ = e.text("/nix/store/../../etc/passwd")),
            ["NarFromPath: path", "'../../etc/passwd'"],
        ),
        (
            "non-zero padding",
            Op::IsValidPath,
            Box::new(|e| _ = e.u64(3).raw(b"abc!!!!!")),
            ["IsValidPath: path", "non-zero padding"],
        ),
        (
            "many outputs",
            Op::BuildDerivation,
            Box::new(move |e| _ = e.text(&some_too).u64(HUGE)),
            ["BuildDerivation: outputs", "9223372036854775808 items"],
        ),
        (
            "many options",
            Op::SetOptions,
            Box::new(|e| {
                for _ in 0..12 {
                    e.u64(0);
                }
                e.u64(HUGE);
            }),
            ["SetOptions: overrides", "9223372036854775808 items"],
        ),
        (
            "a log of no derivation",
            Op::AddBuildLog,
            Box::new(|e| _ = e.text("../../../etc/passwd")),
            ["AddBuildLog: path", "../../../etc/passwd"],
        ),
        (
            "a mode that is none",
            Op::BuildPaths,
            Box::new(|e| _ = e.u64(0).u64(77)),
            ["BuildPaths: buildMode", "no build mode 77"],
        ),
        (
            "text that is none",
            Op::QueryPathFromHashPart,
            Box::new(|e| _ = e.bytes(b"\xff\xfe")),
            ["QueryPathFromHashPart: hashPart", "not UTF-8"],
        ),
    ];
    for (what, op, encode, parts) in cases {
        let mut raw = Raw::open(&server, "mallory").await;
        raw.send(|e| {
            e.u64(op as u64);
            encode(e);
        })
        .await
        .unwrap();
        says(&raw.refused().await, &parts);
        assert!(!raw.end().await.ok, "{what}");
    }
    for operation in [0, 2, 48, HUGE, u64::MAX] {
        let mut raw = Raw::open(&server, "mallory").await;
        raw.send(|e| _ = e.u64(operation)).await.unwrap();
        says(
            &raw.refused().await,
            &["unknown operation", &operation.to_string()],
        );
        assert!(!raw.end().await.ok);
    }
    // Frames and what is in them.
    for (frames, why) in [
        (vec![HUGE], "a frame is longer than accepted"),
        (vec![8, HUGE, 0], "number of paths: 9223372036854775808 items"),
    ] {
        let mut raw = Raw::open(&server, "mallory").await;
        raw.request(&Request::AddMultipleToStore).await.unwrap();
        raw.send(|e| frames.iter().for_each(|&n| _ = e.u64(n)))
            .await
            .unwrap();
        says(&raw.refused().await, &[why]);
        raw.end().await;
    }
    is_well(&server, "mallory").await;
}

/// Every operation with arguments that could be real.
fn requests() -> Vec<Request> {
    let some = || path("some");
    let drv = || path("some.drv");
    let paths = || BTreeSet::from([path("a"), path("b")]);
    let targets = || {
        vec![
            DerivedPath::Opaque(some()),
            DerivedPath::Built {
                drv_path: drv(),
                outputs: OutputsSpec::All,
            },
        ]
    };
    let (build, basic) = shell("some", some(), "echo x > $out");
    let realised = || -> DrvOutput { format!("sha256:{}!out", "0".repeat(64)).parse().unwrap() };
    vec![
        Request::IsValidPath(some()),
        Request::QueryReferrers(some()),
        Request::AddToStore(AddToStore {
            name: "some".into(),
            method: CaMethod::Nar,
            algo: HashAlgo::Sha256,
            references: paths(),
        }),
        Request::AddTextToStore {
            name: "some".into(),
            text: b"text".to_vec(),
            references: paths(),
        },
        Request::BuildPaths(targets(), BuildMode::Normal),
        Request::EnsurePath(some()),
        Request::AddTempRoot(some()),
        Request::AddIndirectRoot(b"/root".to_vec()),
        Request::SyncWithGC,
        Request::FindRoots,
        Request::QueryDeriver(some()),
        Request::SetOptions(ClientOptions::default()),
        Request::CollectGarbage,
        Request::QuerySubstitutablePathInfo(some()),
        Request::QueryDerivationOutputs(drv()),
        Request::QueryAllValidPaths,
        Request::QueryPathInfo(some()),
        Request::QueryDerivationOutputNames(drv()),
        Request::QueryPathFromHashPart(some().hash_part().to_owned()),
        Request::QuerySubstitutablePathInfos(paths()),
        Request::QueryValidPaths {
            paths: paths(),
            substitute: true,
        },
        Request::QuerySubstitutablePaths(paths()),
        Request::QueryValidDerivers(some()),
        Request::OptimiseStore,
        Request::VerifyStore,
        Request::BuildDerivation(build, basic, BuildMode::Normal),
        Request::AddSignatures(some(), BTreeSet::from(["key:c2ln".to_owned()])),
        Request::NarFromPath(some()),
        Request::AddToStoreNar(object("some", file(b"some")).info),
        Request::QueryMissing(targets()),
        Request::QueryDerivationOutputMap(drv()),
        Request::RegisterDrvOutput(Realisation::unsigned(realised(), some())),
        Request::QueryRealisation(realised()),
        Request::AddMultipleToStore,
        Request::AddBuildLog(drv()),
        Request::BuildPathsWithResults(targets(), BuildMode::Normal),
        Request::AddPermRoot,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_leave_in_the_middle_of_any_operation() {
    let Some(server) = server("", &["mallory"]) else {
        return;
    };
    let requests = requests();
    let mut named: Vec<Op> = requests.iter().map(Request::op).collect();
    named.sort();
    assert_eq!(named, Op::ALL, "every operation is tried");
    let mut body = firn_protocol::wire::Encoder::default();
    let bodied = object("some", file(&[b'x'; 50_000]));
    body.u64(1).path_info(&bodied.info).raw(&bodied.nar);

    for request in &requests {
        let mut e = firn_protocol::wire::Encoder::default();
        request.encode(Version::NEWEST, &mut e);
        let whole = e.as_bytes().len();
        // In the number, in the arguments, before the last of them, and before the answer is read.
        for cut in BTreeSet::from([4, 8 + (whole - 8) / 2, whole.saturating_sub(8), whole]) {
            let mut raw = Raw::open(&server, "mallory").await;
            raw.raw(&e.as_bytes()[..cut]).await.unwrap();
            if cut < whole && cut % 16 < 8 {
                raw.kill().await;
            } else {
                raw.end().await;
            }
        }
        // In the middle of the body.
        if matches!(
            request.op(),
            Op::AddToStore | Op::AddToStoreNar | Op::AddMultipleToStore | Op::AddBuildLog
        ) {
            for bytes in [body.as_bytes(), &bodied.nar] {
                let mut raw = Raw::open(&server, "mallory").await;
                raw.request(request).await.unwrap();
                raw.send(|e| _ = e.len(bytes.len()).raw(&bytes[..30_000]))
                    .await
                    .unwrap();
                raw.kill().await;
            }
        }
    }
    let mut raw = Raw::open(&server, "mallory").await;
    assert!(!raw.is_valid(&bodied.info.path).await);
    is_well(&server, "mallory").await;
    let status = server.firn(&["status", "--json"]).unwrap().success().unwrap();
    says(&status.stdout, &["\"running_builds\":0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_clients_hold_up_nobody() {
    let Some(server) = server("", &["mallory", "alice"]) else {
        return;
    };
    let big = object("big", file(&[b'x'; 2_000_000]));
    let mut stalled = Vec::new();
    for n in 0..20 {
        let mut raw = Raw::stdio(&server, "mallory", WORKER);
        if n % 4 > 0 {
            raw.shake().await.unwrap();
        }
        match n % 4 {
            // In the middle of an upload, of a request, and of a download that is never read.
            1 => {
                raw.request(&Request::AddToStoreNar(big.info.clone()))
                    .await
                    .unwrap();
                raw.send(|e| _ = e.len(big.nar.len()).raw(&big.nar[..1_000_000]))
                    .await
                    .unwrap();
            }
            2 => raw
                .send(|e| _ = e.u64(Op::QueryValidPaths as u64).u64(1000))
                .await
                .unwrap(),
            3 => {
                raw.upload(&big).await.unwrap();
                for _ in 0..20 {
                    raw.request(&Request::NarFromPath(big.info.path.clone()))
                        .await
                        .unwrap();
                }
            }
            _ => {}
        }
        stalled.push(raw);
    }
    let mut alice = Raw::open(&server, "alice").await;
    let good = object("good", file(b"good"));
    alice.upload(&good).await.unwrap();
    assert_eq!(alice.download(&good.info.path).await.unwrap(), good.nar);
    let (drv_path, drv) = shell("built", path("built"), "echo built > $out");
    assert_eq!(
        alice.build(&drv_path, &drv).await.unwrap().status,
        firn_protocol::BuildStatus::Built
    );
    for raw in stalled {
        raw.kill().await;
    }
    is_well(&server, "mallory").await;
}
