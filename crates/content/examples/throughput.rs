//! How fast contents come in and go out, next to the installed Nix and plain hashing, in the same run:
//! `cargo run --release -p firn-content --example throughput [scratch directory]`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use firn_content::{ContentStore, IngestOptions};
use firn_nix::nar::{NarLimits, NarReader, NarVisitor as _, NarWriter, Skip};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BIG: usize = 500 << 20;
const SMALL: usize = 100 << 10;
const MANY: usize = 2000;

/// Bytes that do not compress, other ones for every seed.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn nar(contents: &[u8]) -> Result<Vec<u8>> {
    let mut writer = NarWriter::new(Vec::with_capacity(contents.len() + 200));
    writer.regular(false, contents.len() as u64)?;
    writer.data(contents)?;
    writer.end_regular()?;
    Ok(writer.into_inner())
}

/// Wall and processor time since a moment, the latter of this process and its children. On a busy machine only the
/// latter says anything.
struct Clock {
    wall: Instant,
    cpu: f64,
}

impl Clock {
    fn start() -> Self {
        Self {
            wall: Instant::now(),
            cpu: cpu_seconds(),
        }
    }

    fn report(&self, what: &str, bytes: usize) {
        let (wall, cpu) = (self.wall.elapsed().as_secs_f64(), cpu_seconds() - self.cpu);
        let rate = bytes as f64 / 1e6 / wall;
        println!("{what:<46} {wall:>7.3} s  cpu {cpu:>5.2} s {rate:>7.0} MB/s");
    }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}

fn options(size: usize) -> IngestOptions {
    IngestOptions {
        expected_size: Some(size as u64),
        expected_hash: None,
        max_size: 1 << 32,
    }
}

async fn discard(mut out: impl tokio::io::AsyncRead + Unpin) -> Result<u64> {
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        match out.read(&mut buffer).await? {
            0 => return Ok(total),
            read => total += read as u64,
        }
    }
}

/// The worst case for the parser: nothing but tokens, in the pieces of a network.
fn parse_small() -> Result<()> {
    let mut writer = NarWriter::new(Vec::new());
    writer.directory()?;
    for n in 0..1_000_000 {
        writer.entry(format!("{n:07}").as_bytes())?;
        writer.regular(false, 8)?;
        writer.data(b"contents")?;
        writer.end_regular()?;
    }
    writer.end_directory()?;
    let archive = writer.into_inner();
    let clock = Clock::start();
    let mut reader = NarReader::new(NarLimits::default());
    for piece in archive.chunks(32 * 1024) {
        reader.push(piece, &mut Skip)?;
    }
    clock.report("parse only: 1,000,000 files of 8 bytes", archive.len());
    Ok(())
}

async fn big(store: &ContentStore, dir: &Path) -> Result<()> {
    let mut archive = nar(&noise(1, BIG))?;
    let clock = Clock::start();
    NarReader::new(NarLimits::default()).push(&archive, &mut Skip)?;
    clock.report("parse only: 500 MiB", archive.len());

    for from in ["memory", "a pipe of 64 KiB"] {
        // Another content each time: the same would only be looked up.
        if let Some(byte) = archive.get_mut(500) {
            *byte ^= 1;
        }
        let clock = Clock::start();
        let staged = if from == "memory" {
            store
                .ingest(&mut &archive[..], options(archive.len()), None)
                .await?
        } else {
            let (mut sender, mut receiver) = duplex(64 * 1024);
            let bytes = archive.clone();
            let start_of_send = tokio::spawn(async move { sender.write_all(&bytes).await });
            let staged = store.ingest(&mut receiver, options(archive.len()), None).await?;
            start_of_send.await??;
            staged
        };
        clock.report(&format!("in: 500 MiB from {from}"), archive.len());
        let hash = staged.hash();
        let clock = Clock::start();
        store.publish([staged]).await?;
        store.sync([]).await?;
        clock.report("    publish and sync after it", archive.len());
        let clock = Clock::start();
        let total = discard(store.read_nar(&hash).await?).await?;
        clock.report("out: 500 MiB", usize::try_from(total)?);
        let clock = Clock::start();
        store.verify(&hash).await?;
        clock.report("verify: 500 MiB", archive.len());
        let tree = store.tree(&hash);
        let clock = Clock::start();
        nix_dump(&tree)?;
        clock.report("nix-store --dump > /dev/null", archive.len());
        let clock = Clock::start();
        Command::new("sha256sum")
            .arg(&tree)
            .stdout(Stdio::null())
            .status()?;
        clock.report("sha256sum", archive.len());
    }

    let file = dir.join("big.nar");
    std::fs::write(&file, &archive)?;
    drop(archive);
    let clock = Clock::start();
    nix_restore(&file, &dir.join("restored"))?;
    clock.report("nix-store --restore", BIG);
    let clock = Clock::start();
    Command::new("sync")
        .arg("-f")
        .arg(dir.join("restored"))
        .status()?;
    clock.report("    sync -f after it", BIG);
    std::fs::remove_file(&file)?;
    Ok(())
}

async fn many(store: &ContentStore, dir: &Path) -> Result<()> {
    for overlapped in [false, true] {
        let first = if overlapped { 2 } else { 2 + MANY };
        let archives = (first..first + MANY)
            .map(|n| nar(&noise(n as u64, SMALL)))
            .collect::<Result<Vec<_>>>()?;
        let bytes: usize = archives.iter().map(Vec::len).sum();
        let clock = Clock::start();
        let mut staged = Vec::new();
        let mut arriving = std::collections::VecDeque::new();
        for archive in &archives {
            let receiving = store
                .receive(&mut &archive[..], options(archive.len()), None)
                .await?;
            arriving.push_back(receiving);
            while arriving.len() > if overlapped { 8 } else { 0 } {
                if let Some(next) = arriving.pop_front() {
                    staged.push(next.staged().await?);
                }
            }
        }
        for next in arriving {
            staged.push(next.staged().await?);
        }
        let how = if overlapped { ", overlapped" } else { "" };
        clock.report(&format!("in: 2,000 × 100 KiB{how}"), bytes);
        let hashes: Vec<_> = staged.iter().map(firn_content::Staged::hash).collect();
        let clock = Clock::start();
        store.publish(staged).await?;
        clock.report("    publish", bytes);
        let clock = Clock::start();
        store.sync([]).await?;
        clock.report("    sync", bytes);
        let clock = Clock::start();
        let mut total = 0;
        for hash in &hashes {
            total += discard(store.read_nar(hash).await?).await?;
        }
        clock.report("out: 2,000 × 100 KiB", usize::try_from(total)?);
    }

    for round in 0..3 {
        tree(store, dir, round).await?;
    }
    Ok(())
}

async fn tree(store: &ContentStore, dir: &Path, round: usize) -> Result<()> {
    let mut tree = NarWriter::new(Vec::new());
    tree.directory()?;
    for n in 0..MANY {
        tree.entry(format!("{n:06}").as_bytes())?;
        let contents = noise((n + (round + 3) * MANY) as u64, SMALL);
        tree.regular(false, contents.len() as u64)?;
        tree.data(&contents)?;
        tree.end_regular()?;
    }
    tree.end_directory()?;
    let archive = tree.into_inner();
    let file = dir.join("tree.nar");
    std::fs::write(&file, &archive)?;
    let clock = Clock::start();
    nix_restore(&file, &dir.join(format!("tree{round}")))?;
    clock.report("nix-store --restore, a tree of 2,000 × 100 KiB", archive.len());
    let clock = Clock::start();
    let staged = store
        .ingest(&mut &archive[..], options(archive.len()), None)
        .await?;
    clock.report("in: that tree", archive.len());
    let hash = staged.hash();
    store.publish([staged]).await?;
    let clock = Clock::start();
    nix_dump(&store.tree(&hash))?;
    clock.report("nix-store --dump > /dev/null", archive.len());
    let clock = Clock::start();
    discard(store.read_nar(&hash).await?).await?;
    clock.report("out: that tree", archive.len());
    Ok(())
}

fn nix_restore(nar: &Path, to: &Path) -> Result<()> {
    Command::new("nix-store")
        .arg("--restore")
        .arg(to)
        .stdin(std::fs::File::open(nar)?)
        .stderr(Stdio::null())
        .status()?;
    Ok(())
}

fn nix_dump(path: &Path) -> Result<()> {
    Command::new("nix-store")
        .arg("--dump")
        .arg(path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let parent = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(parent)?;
    let store = ContentStore::open(&dir.path().join("store"))?;
    parse_small()?;
    big(&store, dir.path()).await?;
    many(&store, dir.path()).await?;
    drop(store);
    // An ordinary user can delete read-only directories only like this.
    firn_content::remove_tree(std::fs::File::open(dir.path())?, b"store")?;
    Ok(())
}
