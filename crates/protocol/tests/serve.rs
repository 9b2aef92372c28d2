//! Whole sessions of the serve protocol over a pipe.

#![expect(clippy::unwrap_used, reason = "a test shows by panicking what is wrong")]

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use firn_nix::rewrite::SelfReferences;
use firn_protocol::serve::{self, Request, ServeBuildOptions, Version};
use firn_protocol::wire::{Decoder, Encoder, WireLimits, WireReader};
use firn_protocol::{BuildStatus, DerivedPath, OutputsSpec, SessionError, SessionOptions};
use support::memory::{MemoryStore, file_nar, info};
use support::{derivation, options, path};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;

mod support;

struct Client {
    reader: WireReader<ReadHalf<DuplexStream>>,
    writer: WriteHalf<DuplexStream>,
    stderr: DuplexStream,
    version: Version,
    limits: WireLimits,
    session: JoinHandle<Result<(), SessionError>>,
}

impl Client {
    async fn connect(store: &MemoryStore, version: Version) -> Self {
        let mut client = Self::open(store, version, options()).await;
        assert_eq!(client.decoder().u64("").await.unwrap(), serve::SERVER_MAGIC);
        let server = client.decoder().u64("").await.unwrap();
        client.version = version.min(Version::from_wire(server).unwrap());
        client
    }

    async fn open(store: &MemoryStore, version: Version, options: SessionOptions) -> Self {
        let (near, far) = tokio::io::duplex(16 << 10);
        let (stderr, far_stderr) = tokio::io::duplex(16 << 10);
        let (store, limits) = (store.clone(), WireLimits::default());
        let session = tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(far);
            serve::serve(&store, reader, writer, far_stderr, &options).await
        });
        let (reader, mut writer) = tokio::io::split(near);
        let mut e = Encoder::default();
        e.u64(serve::CLIENT_MAGIC).u64(version.to_wire());
        writer.write_all(e.as_bytes()).await.unwrap();
        Self {
            reader: WireReader::new(reader, None),
            writer,
            stderr,
            version,
            limits,
            session,
        }
    }

    async fn request(&mut self, request: &Request, body: &[u8]) {
        let mut e = Encoder::default();
        request.encode(self.version, &mut e);
        e.raw(body);
        self.writer.write_all(e.as_bytes()).await.unwrap();
    }

    fn decoder(&mut self) -> Decoder<'_, WireReader<ReadHalf<DuplexStream>>> {
        Decoder::new(&mut self.reader, &self.limits)
    }

    /// Hangs up; how the session ended and all that stands on its other stream.
    async fn close(mut self) -> (Result<(), SessionError>, String) {
        drop((self.reader, self.writer));
        let mut text = String::new();
        self.stderr.read_to_string(&mut text).await.unwrap();
        (self.session.await.unwrap(), text)
    }
}

fn build(env: &[(&str, &str)], options: ServeBuildOptions) -> Request {
    Request::BuildDerivation(path("x.drv"), derivation(env), options)
}

/// Most versions of Nix speak 2.7, and compute either kind of content addresses. Up to 2.12 they show it when they ask for a build.
#[tokio::test]
async fn a_build_may_tell_which_content_addresses_a_client_computes() {
    let met = async |version, enforce_determinism| {
        let store = MemoryStore::default();
        let mut client = Client::connect(&store, version).await;
        let options = ServeBuildOptions {
            enforce_determinism,
            ..ServeBuildOptions::default()
        };
        client.request(&build(&[], options), b"").await;
        let format = client.version.result_format();
        client.decoder().build_result(format).await.unwrap();
        client.close().await.0.unwrap();
        let met = store.state().met.unwrap();
        (met.form, met.certain)
    };
    use SelfReferences::{Placed, Unplaced};
    assert_eq!(met(Version::new(5), true).await, (Placed, true));
    assert_eq!(met(Version::new(7), true).await, (Placed, true));
    assert_eq!(met(Version::new(7), false).await, (Unplaced, false));
    assert_eq!(met(Version::new(8), false).await, (Placed, true));
}

#[tokio::test]
async fn paths_go_in_and_out_in_every_version() {
    for version in (1..=9).map(Version::new) {
        let store = MemoryStore::default();
        let mut client = Client::connect(&store, version).await;
        let nar = file_nar(b"contents");
        let stated = info(&path("a"), &nar, BTreeSet::new());
        client
            .request(&Request::AddToStoreNar(stated.clone()), &nar)
            .await;
        assert_eq!(client.decoder().u64("").await.unwrap(), 1);

        let paths = BTreeSet::from([path("a"), path("b")]);
        let substitute = false;
        let query = Request::QueryValidPaths {
            paths: paths.clone(),
            substitute,
        };
        client.request(&query, b"").await;
        assert_eq!(
            client.decoder().paths("").await.unwrap(),
            BTreeSet::from([path("a")])
        );

        client.request(&Request::QueryPathInfos(paths.clone()), b"").await;
        let version = client.version;
        let mut d = client.decoder();
        let found = d.path("").await.unwrap();
        let found = d.serve_path_info(found, version).await.unwrap();
        assert_eq!(found.nar_size, stated.nar_size);
        assert_eq!(found.nar_hash == stated.nar_hash, version >= Version::new(4));
        assert_eq!(d.text("").await.unwrap(), "");

        let closure = Request::QueryClosure {
            include_outputs: false,
            paths,
        };
        client.request(&closure, b"").await;
        assert_eq!(
            client.decoder().paths("").await.unwrap(),
            BTreeSet::from([path("a")])
        );

        client.request(&Request::DumpStorePath(path("a")), b"").await;
        let mut back = vec![0; nar.len()];
        client.decoder().source().read_exact(&mut back).await.unwrap();
        assert!(back == nar);
        let (ended, text) = client.close().await;
        ended.unwrap();
        assert_eq!(text, "");
    }
}

#[tokio::test]
async fn builds_log_to_the_other_stream() {
    for version in (1..=9).map(Version::new) {
        let store = MemoryStore::default();
        let mut client = Client::connect(&store, version).await;
        let version = client.version;
        let options = ServeBuildOptions::default();
        client.request(&build(&[("stubLines", "3")], options), b"").await;
        let format = version.result_format();
        let result = client.decoder().build_result(format).await.unwrap();
        assert_eq!(result.status, BuildStatus::Built);
        assert_eq!(result.stop_time, if format.times { 50 } else { 0 });
        client
            .request(&build(&[("stubFail", "it broke")], options), b"")
            .await;
        let result = client.decoder().build_result(format).await.unwrap();
        assert_eq!(result.status, BuildStatus::PermanentFailure);
        assert_eq!(result.error_msg, b"it broke");
        let (ended, text) = client.close().await;
        ended.unwrap();
        assert_eq!(
            text,
            "stub line 0\nstub line 1\nstub line 2\nstub done\nstub line 0\n"
        );
    }
}

#[tokio::test]
async fn what_a_build_waits_for_is_said_once() {
    let store = MemoryStore::default();
    let mut client = Client::connect(&store, Version::NEWEST).await;
    client
        .request(&build(&[("stubWait", "a b")], ServeBuildOptions::default()), b"")
        .await;
    let format = client.version.result_format();
    client.decoder().build_result(format).await.unwrap();
    let (ended, text) = client.close().await;
    ended.unwrap();
    assert_eq!(text, "waiting for a\nstub line 0\nstub done\n");
}

#[tokio::test]
async fn failed_paths_are_a_status_that_newer_clients_know() {
    let store = MemoryStore::default();
    let mut client = Client::connect(&store, Version::NEWEST).await;
    let drv_path = path("x.drv");
    let outputs = OutputsSpec::All;
    let targets = vec![DerivedPath::Built { drv_path, outputs }];
    let options = ServeBuildOptions::default();
    client
        .request(&Request::BuildPaths(targets.clone(), options), b"")
        .await;
    assert_eq!(
        client.decoder().u64("").await.unwrap(),
        BuildStatus::MiscFailure as u64
    );
    assert!(client.decoder().text("").await.unwrap().contains("x.drv"));
    let repeats = ServeBuildOptions {
        repeats: 1,
        ..options
    };
    client.request(&Request::BuildPaths(targets, repeats), b"").await;
    assert_eq!(
        client.decoder().u64("").await.unwrap(),
        BuildStatus::MiscFailure as u64
    );
    assert!(client.decoder().text("").await.unwrap().contains("repeat"));
    client
        .request(&Request::BuildPaths(Vec::new(), options), b"")
        .await;
    assert_eq!(client.decoder().u64("").await.unwrap(), 0);
    client.close().await.0.unwrap();
}

#[tokio::test]
async fn errors_are_text_and_the_end() {
    let store = MemoryStore::default();
    store.state().refuse = Some("bad".to_owned());
    let nar = file_nar(b"contents");
    let refused = Request::AddToStoreNar(info(&path("bad"), &nar, BTreeSet::new()));
    for (request, body, error) in [
        (
            Request::DumpStorePath(path("none")),
            &b""[..],
            "none' is not valid",
        ),
        (refused, &nar, "bad' is refused"),
        (Request::ImportPaths, &[7; 8], "next path"),
    ] {
        let mut client = Client::connect(&store, Version::NEWEST).await;
        client.request(&request, body).await;
        let mut text = String::new();
        client.stderr.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("error: ") && text.contains(error), "{text:?}");
        assert!(client.session.await.unwrap().is_err());
    }
    let mut refusing = options();
    refusing.refusal = Some("no such account".to_owned());
    for (version, options, error) in [
        (Version::NEWEST, refusing, "no such account"),
        (Version::new(0), options(), "not served"),
    ] {
        let mut client = Client::open(&store, version, options).await;
        let mut text = String::new();
        client.stderr.read_to_string(&mut text).await.unwrap();
        let ended = client.session.await.unwrap();
        assert!(matches!(ended, Err(SessionError::Refused(_))));
        assert!(text.contains(error), "{text:?}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_build_along() {
    let store = MemoryStore::default();
    let mut client = Client::connect(&store, Version::NEWEST).await;
    let hang = build(
        &[("stubHang", "1"), ("stubLines", "1")],
        ServeBuildOptions::default(),
    );
    client.request(&hang, b"").await;
    let mut line = [0; 12];
    client.stderr.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"stub line 0\n");
    assert_eq!(store.running.load(Ordering::SeqCst), 1);
    let (ended, _) = client.close().await;
    assert!(
        matches!(
            ended,
            Err(SessionError::Closed {
                during: "BuildDerivation"
            })
        ),
        "{ended:?}"
    );
    assert_eq!(store.running.load(Ordering::SeqCst), 0);
}

fn export(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut e = Encoder::default();
    for (n, (name, nar)) in entries.iter().enumerate() {
        e.u64(1).raw(nar).u64(0x4558_494e).path(&path(name));
        e.paths(&BTreeSet::from([path(name)])).text("");
        if n == 0 {
            e.u64(0);
        } else {
            e.u64(1).text("an old signature");
        }
    }
    e.u64(0);
    e.as_bytes().to_vec()
}

#[tokio::test]
async fn export_streams_are_imported() {
    let spool = tempfile::tempdir().unwrap();
    let store = MemoryStore::default();
    let mut options = options();
    options.spool_dir = spool.path().to_owned();
    let mut client = Client::open(&store, Version::NEWEST, options).await;
    for _ in 0..2 {
        client.decoder().u64("").await.unwrap();
    }
    // One archive waits in memory, one in a file.
    let (small, large) = (file_nar(b"( name contents )"), file_nar(&vec![b')'; 3 << 20]));
    let stream = export(&[("small", &small), ("large", &large)]);
    client.request(&Request::ImportPaths, &stream).await;
    assert_eq!(client.decoder().u64("").await.unwrap(), 1);
    assert!(*store.state().entries[&path("small")].nar == small);
    assert!(*store.state().entries[&path("large")].nar == large);
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);

    let cut = &stream[..stream.len() - 100];
    client.request(&Request::ImportPaths, cut).await;
    let (ended, _) = client.close().await;
    assert!(
        matches!(
            ended,
            Err(SessionError::Closed {
                during: "ImportPaths"
            })
        ),
        "{ended:?}"
    );
}
