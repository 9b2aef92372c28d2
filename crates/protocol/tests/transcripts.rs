//! What real clients said, recorded by `real_nix.rs`, said again: the same requests are understood and the same bytes answered.
//!
//! One folder per version of Nix, its sessions in order: a session finds what those before it left. `requests.txt` in it holds the
//! requests as understood; with `FIRN_UPDATE_TRANSCRIPTS=1` it and the answers are written anew.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test shows by panicking what is wrong"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use firn_nix::BasicDerivation;
use firn_protocol::wire::{Decoder, NarExtent, WireLimits};
use firn_protocol::worker::{self, Op, Version};
use firn_protocol::{SessionError, serve};
use support::memory::MemoryStore;
use support::options;
use tokio::io::{AsyncReadExt, sink};

mod support;

struct Transcript {
    name: String,
    said: Vec<u8>,
    answered: Vec<u8>,
}

impl Transcript {
    fn is_serve(&self) -> bool {
        self.name.ends_with(".serve")
    }

    async fn replay(&self, store: &MemoryStore, said: &[u8]) -> (Result<(), SessionError>, Vec<u8>) {
        let mut answered = Vec::new();
        let mut options = options();
        options.daemon_version = "stdio-memory".to_owned();
        let ended = if self.is_serve() {
            serve::serve(store, said, &mut answered, sink(), &options).await
        } else {
            worker::serve(store, said, &mut answered, &options).await
        };
        (ended, answered)
    }
}

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut found: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn transcripts(folder: &Path) -> Vec<Transcript> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|e| {
            Some(
                e.unwrap()
                    .file_name()
                    .to_str()?
                    .strip_suffix(".said.bin")?
                    .to_owned(),
            )
        })
        .collect();
    names.sort();
    let read = |name: &str, what| std::fs::read(folder.join(format!("{name}.{what}.bin"))).unwrap();
    names
        .into_iter()
        .map(|name| Transcript {
            said: read(&name, "said"),
            answered: read(&name, "answered"),
            name,
        })
        .collect()
}

#[tokio::test]
async fn recorded_clients_are_understood_and_answered_the_same() {
    for folder in folders() {
        let store = MemoryStore::default();
        let mut requests = String::new();
        for transcript in transcripts(&folder) {
            let name = &transcript.name;
            let (ended, answered) = transcript.replay(&store, &transcript.said).await;
            ended.unwrap_or_else(|e| panic!("{} {name}: {e}", folder.display()));
            let update = std::env::var_os("FIRN_UPDATE_TRANSCRIPTS").is_some();
            if update {
                std::fs::write(folder.join(format!("{name}.answered.bin")), &answered).unwrap();
            }
            assert!(
                update || answered == transcript.answered,
                "{} {name}: another answer",
                folder.display()
            );
            writeln!(requests, "# {name}").unwrap();
            if transcript.is_serve() {
                serve_requests(&transcript.said, &mut requests).await;
            } else {
                worker_requests(&transcript.said, &mut requests).await;
            }
        }
        let file = folder.join("requests.txt");
        if std::env::var_os("FIRN_UPDATE_TRANSCRIPTS").is_some() {
            std::fs::write(&file, &requests).unwrap();
        }
        assert_eq!(
            requests,
            std::fs::read_to_string(&file).unwrap(),
            "{}",
            file.display()
        );
    }
}

/// A client may be cut off after any byte: the session ends, and says so unless it was between two requests.
#[tokio::test]
async fn recorded_clients_may_break_off_anywhere() {
    for folder in folders() {
        for transcript in transcripts(&folder) {
            let mut clean = 0;
            for cut in 0..transcript.said.len() {
                let store = MemoryStore::default();
                let (ended, _) = transcript.replay(&store, &transcript.said[..cut]).await;
                clean += usize::from(ended.is_ok());
            }
            assert!(clean < 20, "{}", transcript.name);
        }
    }
}

/// Recordings with a few bytes changed: the session may answer or end, but it ends, and without a panic.
#[tokio::test]
async fn recorded_clients_may_lie() {
    let mut seed = 1u64;
    let mut random = |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for folder in folders() {
        for transcript in transcripts(&folder) {
            for _ in 0..100 {
                let mut said = transcript.said.clone();
                for _ in 0..=random(3) {
                    let at = random(said.len());
                    said[at] = [0, 1, 0xff, random(256) as u8][random(4)];
                }
                let _ = transcript.replay(&MemoryStore::default(), &said).await;
            }
        }
    }
}

async fn worker_requests(mut said: &[u8], out: &mut String) {
    let limits = WireLimits::default();
    let mut d = Decoder::new(&mut said, &limits);
    assert_eq!(d.u64("").await.unwrap(), worker::CLIENT_MAGIC);
    let version = Version::from_wire(d.u64("").await.unwrap()).unwrap();
    let features = if version >= Version::NEWEST {
        d.texts("").await.unwrap()
    } else {
        Default::default()
    };
    writeln!(out, "version {version} {features:?}").unwrap();
    assert_eq!(d.u64("").await.unwrap(), 0);
    assert_eq!(d.u64("").await.unwrap(), 0);
    while !said.is_empty() {
        let mut d = Decoder::new(&mut said, &limits);
        let op = Op::from_number(d.u64("").await.unwrap()).unwrap();
        let request = worker::Request::decode(op, &mut d, version).await.unwrap();
        match &request {
            worker::Request::BuildDerivation(path, drv, mode) => {
                writeln!(out, "BuildDerivation {path} {mode:?} {}", shown(drv)).unwrap();
            }
            other => writeln!(out, "{other:?}").unwrap(),
        }
        let framed = matches!(
            op,
            Op::AddToStore | Op::AddToStoreNar | Op::AddMultipleToStore | Op::AddBuildLog
        );
        if framed {
            body(op, &frames(&mut said).await, out).await;
        }
    }
}

async fn frames(said: &mut &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let len = said.read_u64_le().await.unwrap() as usize;
        if len == 0 {
            return body;
        }
        let (frame, rest) = said.split_at(len);
        body.extend_from_slice(frame);
        *said = rest;
    }
}

async fn body(op: Op, mut body: &[u8], out: &mut String) {
    if op != Op::AddMultipleToStore {
        writeln!(out, "  {} bytes", body.len()).unwrap();
        return;
    }
    let limits = WireLimits::default();
    let count = body.read_u64_le().await.unwrap();
    writeln!(out, "  {count} paths").unwrap();
    for _ in 0..count {
        let info = Decoder::new(&mut body, &limits).path_info().await.unwrap();
        writeln!(out, "  {info:?}").unwrap();
        body = &body[info.nar_size as usize..];
    }
    assert!(body.is_empty());
}

async fn serve_requests(mut said: &[u8], out: &mut String) {
    let limits = WireLimits::default();
    let mut d = Decoder::new(&mut said, &limits);
    assert_eq!(d.u64("").await.unwrap(), serve::CLIENT_MAGIC);
    let version = serve::Version::from_wire(d.u64("").await.unwrap()).unwrap();
    writeln!(out, "version {version}").unwrap();
    while !said.is_empty() {
        let mut d = Decoder::new(&mut said, &limits);
        let command = serve::Command::from_number(d.u64("").await.unwrap()).unwrap();
        match serve::Request::decode(command, &mut d, version).await.unwrap() {
            serve::Request::BuildDerivation(path, drv, options) => {
                writeln!(out, "BuildDerivation {path} {options:?} {}", shown(&drv)).unwrap();
            }
            serve::Request::AddToStoreNar(info) => {
                writeln!(out, "AddToStoreNar {info:?}").unwrap();
                let len = NarExtent::default().advance(said).unwrap();
                assert_eq!(len as u64, info.nar_size);
                said = &said[len..];
            }
            other => writeln!(out, "{other:?}").unwrap(),
        }
    }
}

fn shown(drv: &BasicDerivation) -> String {
    let mut out = format!("{:?} {:?}", drv.outputs, drv.input_srcs);
    let texts = [&drv.platform, &drv.builder].into_iter().chain(&drv.args);
    for text in texts {
        write!(out, " {}", text.escape_ascii()).unwrap();
    }
    for (name, value) in &drv.env {
        write!(out, " {}={}", name.escape_ascii(), value.escape_ascii()).unwrap();
    }
    out
}
