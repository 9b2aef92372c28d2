//! What the tests share.
#![expect(dead_code, reason = "each test uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test shows by panicking what is wrong")]

use std::path::PathBuf;

use firn_nix::{BasicDerivation, DerivationOutput, StorePath};
use firn_protocol::codec::RealisationForm;
use firn_protocol::wire::{Decoder, Encoder, WireLimits, WireReader};
use firn_protocol::worker::{self, Request, StderrMessage, Version};
use firn_protocol::{BuildMode, SessionError, SessionOptions};
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;

pub mod memory;

/// The folder of recorded data that is not part of the project; `None`, with a printed reason, where it is missing.
pub fn shared_vectors() -> Option<PathBuf> {
    // Beside the project; a worktree lies one folder deeper.
    let beside = |up: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(up).join("shared");
    let roots = match std::env::var_os("FIRN_SHARED") {
        Some(root) => vec![PathBuf::from(root)],
        None => vec![beside("../../.."), beside("../../../..")],
    };
    let vectors = roots
        .iter()
        .map(|root| root.join("vectors/nix"))
        .find(|dir| dir.is_dir());
    if vectors.is_none() {
        eprintln!("skipped: no recorded vectors below {roots:?}");
    }
    vectors
}

pub fn path(name: &str) -> StorePath {
    StorePath::from_base_name(format!("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-{name}").as_bytes()).unwrap()
}

pub fn options() -> SessionOptions {
    let mut options = SessionOptions::new("test");
    options.activity_base = Some(0x5eed << 32);
    options
}

/// A derivation with one output; its environment tells [`memory::MemoryStore`] how its build goes.
pub fn derivation(env: &[(&str, &str)]) -> BasicDerivation {
    let mut drv = BasicDerivation::default();
    drv.outputs
        .insert("out".to_owned(), DerivationOutput::InputAddressed(path("out")));
    drv.platform = b"x86_64-linux".to_vec();
    drv.builder = b"/bin/sh".to_vec();
    for (name, value) in env {
        drv.env
            .insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
    }
    drv
}

/// A request of the worker protocol to build [`derivation`].
pub fn build(env: &[(&str, &str)]) -> Request {
    Request::BuildDerivation(path("x.drv"), derivation(env), BuildMode::Normal)
}

/// A worker client over a pipe.
pub struct Client {
    reader: WireReader<ReadHalf<DuplexStream>>,
    writer: WriteHalf<DuplexStream>,
    pub version: Version,
    limits: WireLimits,
    pub session: JoinHandle<Result<(), SessionError>>,
}

impl Client {
    /// Connects, with the handshake of that version.
    pub async fn connect(store: &memory::MemoryStore, version: Version) -> Self {
        Self::connect_with(store, version, options()).await
    }

    pub async fn connect_with(
        store: &memory::MemoryStore,
        version: Version,
        options: SessionOptions,
    ) -> Self {
        let (mut client, last) = Self::shake(store, version, options).await;
        assert_eq!(last, StderrMessage::Last, "handshake");
        client.version = version.min(Version::NEWEST);
        if version.realisation_form() == RealisationForm::Fields {
            client.version = client.version.with_realisation_paths();
        }
        client
    }

    /// The handshake up to its last message.
    pub async fn shake(
        store: &memory::MemoryStore,
        version: Version,
        options: SessionOptions,
    ) -> (Self, StderrMessage) {
        let (near, far) = tokio::io::duplex(16 << 10);
        let (store, limits) = (store.clone(), WireLimits::default());
        let session = tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(far);
            worker::serve(&store, reader, writer, &options).await
        });
        let (reader, writer) = tokio::io::split(near);
        let mut client = Self {
            reader: WireReader::new(reader, None),
            writer,
            version,
            limits,
            session,
        };
        client
            .send(|e| {
                e.u64(worker::CLIENT_MAGIC);
            })
            .await;
        assert_eq!(client.decoder().u64("").await.unwrap(), worker::SERVER_MAGIC);
        let server = Version::from_wire(client.decoder().u64("").await.unwrap()).unwrap();
        let v = version.min(server);
        client
            .send(|e| {
                e.u64(version.to_wire());
                if v >= Version::new(38) {
                    let known = version.realisation_form() == RealisationForm::Fields;
                    let known = known.then_some(worker::REALISATION_WITH_PATH);
                    e.list(
                        ["some-feature"].into_iter().chain(known).collect::<Vec<_>>(),
                        |e, f| {
                            e.text(f);
                        },
                    );
                }
                if v >= Version::new(14) {
                    e.u64(0);
                }
                e.u64(0);
            })
            .await;
        if v >= Version::new(38) {
            let offered = client.decoder().texts("").await.unwrap();
            assert_eq!(offered, [worker::REALISATION_WITH_PATH.to_owned()].into());
        }
        if v >= Version::new(33) {
            assert_eq!(client.decoder().text("").await.unwrap(), "test");
        }
        if v >= Version::new(35) {
            assert_eq!(client.decoder().u64("").await.unwrap(), 1);
        }
        let last = StderrMessage::decode(&mut client.decoder(), v).await.unwrap();
        (client, last)
    }

    pub async fn send(&mut self, encode: impl FnOnce(&mut Encoder)) {
        let mut e = Encoder::default();
        encode(&mut e);
        self.writer.write_all(e.as_bytes()).await.unwrap();
    }

    pub async fn request(&mut self, request: &Request) {
        let version = self.version;
        self.send(|e| request.encode(version, e)).await;
    }

    pub async fn frame(&mut self, bytes: &[u8]) {
        self.send(|e| {
            e.len(bytes.len()).raw(bytes);
        })
        .await;
    }

    pub fn decoder(&mut self) -> Decoder<'_, WireReader<ReadHalf<DuplexStream>>> {
        Decoder::new(&mut self.reader, &self.limits)
    }

    pub async fn message(&mut self) -> StderrMessage {
        let version = self.version;
        StderrMessage::decode(&mut self.decoder(), version).await.unwrap()
    }

    /// Messages up to the last or an error.
    pub async fn messages(&mut self) -> Vec<StderrMessage> {
        let mut all = Vec::new();
        loop {
            all.push(self.message().await);
            if let Some(StderrMessage::Last | StderrMessage::Error(_)) = all.last() {
                return all;
            }
        }
    }

    pub async fn expect_last(&mut self) {
        assert_eq!(self.messages().await, [StderrMessage::Last]);
    }

    pub async fn expect_error(&mut self, part: &str) {
        match self.messages().await.pop() {
            Some(StderrMessage::Error(text)) => {
                let text = String::from_utf8(text).unwrap();
                assert!(text.contains(part), "{text:?} lacks {part:?}");
            }
            other => panic!("{other:?} instead of an error about {part:?}"),
        }
    }

    /// Asks whether a path is valid: shows that the session is in step.
    pub async fn is_valid(&mut self, path: &StorePath) -> bool {
        self.request(&Request::IsValidPath(path.clone())).await;
        self.expect_last().await;
        self.decoder().bool("").await.unwrap()
    }

    /// Hangs up; what the session says to it.
    pub async fn close(self) -> Result<(), SessionError> {
        drop(self.reader);
        drop(self.writer);
        self.session.await.unwrap()
    }
}
