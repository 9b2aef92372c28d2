//! How fast contents come in and go out, next to the installed Nix and plain hashing, in the same run:
//! `cargo run --release -p firn-content --example throughput [scratch directory]`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

fn report(what: &str, bytes: usize, time: Duration) {
    let rate = bytes as f64 / 1e6 / time.as_secs_f64();
    println!("{what:<48} {:>8.3} s {rate:>8.0} MB/s", time.as_secs_f64());
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

async fn big(store: &ContentStore, dir: &Path) -> Result<()> {
    let archive = nar(&noise(1, BIG))?;
    let start = Instant::now();
    NarReader::new(NarLimits::default()).push(&archive, &mut Skip)?;
    for piece in archive.chunks(64 * 1024) {
        std::hint::black_box(piece);
    }
    report("parse only, 500 MiB", archive.len(), start.elapsed());

    for from in ["memory", "a pipe of 64 KiB"] {
        let start = Instant::now();
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
        report(
            &format!("in: 500 MiB from {from}"),
            archive.len(),
            start.elapsed(),
        );
        let hash = staged.hash();
        let start = Instant::now();
        store.publish([staged]).await?;
        store.sync().await?;
        report("    publish and sync after it", archive.len(), start.elapsed());
        let start = Instant::now();
        let total = discard(store.read_nar(&hash).await?).await?;
        report("out: 500 MiB", usize::try_from(total)?, start.elapsed());
        let start = Instant::now();
        store.verify(&hash).await?;
        report("verify: 500 MiB", archive.len(), start.elapsed());
        let tree = store.tree(&hash);
        let runtime = store.clone();
        let start = Instant::now();
        nix_dump(&tree)?;
        report("nix-store --dump > /dev/null", archive.len(), start.elapsed());
        let start = Instant::now();
        Command::new("sha256sum")
            .arg(&tree)
            .stdout(Stdio::null())
            .status()?;
        report("sha256sum", archive.len(), start.elapsed());
        tokio::task::spawn_blocking(move || runtime.remove(&hash)).await??;
    }

    let file = dir.join("big.nar");
    std::fs::write(&file, &archive)?;
    drop(archive);
    let start = Instant::now();
    nix_restore(&file, &dir.join("restored"))?;
    report("nix-store --restore", BIG, start.elapsed());
    let start = Instant::now();
    Command::new("sync")
        .arg("-f")
        .arg(dir.join("restored"))
        .status()?;
    report("    sync -f after it", BIG, start.elapsed());
    std::fs::remove_file(&file)?;
    Ok(())
}

async fn many(store: &ContentStore, dir: &Path) -> Result<()> {
    let archives = (0..MANY)
        .map(|n| nar(&noise(n as u64 + 2, SMALL)))
        .collect::<Result<Vec<_>>>()?;
    let bytes: usize = archives.iter().map(Vec::len).sum();

    for overlapped in [false, true] {
        let start = Instant::now();
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
        report(&format!("in: 2,000 × 100 KiB{how}"), bytes, start.elapsed());
        let hashes: Vec<_> = staged.iter().map(firn_content::Staged::hash).collect();
        let start = Instant::now();
        store.publish(staged).await?;
        report("    publish", bytes, start.elapsed());
        let start = Instant::now();
        store.sync().await?;
        report("    sync", bytes, start.elapsed());
        let start = Instant::now();
        let mut total = 0;
        for hash in &hashes {
            total += discard(store.read_nar(hash).await?).await?;
        }
        report("out: 2,000 × 100 KiB", usize::try_from(total)?, start.elapsed());
        let runtime = store.clone();
        tokio::task::spawn_blocking(move || hashes.iter().try_for_each(|hash| runtime.remove(hash)))
            .await??;
    }

    let mut tree = NarWriter::new(Vec::new());
    tree.directory()?;
    for n in 0..MANY {
        tree.entry(format!("{n:06}").as_bytes())?;
        let contents = noise(n as u64 + 2, SMALL);
        tree.regular(false, contents.len() as u64)?;
        tree.data(&contents)?;
        tree.end_regular()?;
    }
    tree.end_directory()?;
    let archive = tree.into_inner();
    let start = Instant::now();
    let staged = store
        .ingest(&mut &archive[..], options(archive.len()), None)
        .await?;
    report(
        "in: one tree of 2,000 files of 100 KiB",
        archive.len(),
        start.elapsed(),
    );
    let file = dir.join("tree.nar");
    std::fs::write(&file, &archive)?;
    let start = Instant::now();
    nix_restore(&file, &dir.join("tree"))?;
    report("nix-store --restore of that tree", archive.len(), start.elapsed());
    let hash = staged.hash();
    store.publish([staged]).await?;
    let start = Instant::now();
    discard(store.read_nar(&hash).await?).await?;
    report("out: that tree", archive.len(), start.elapsed());
    let start = Instant::now();
    nix_dump(&store.tree(&hash))?;
    report(
        "nix-store --dump of that tree > /dev/null",
        archive.len(),
        start.elapsed(),
    );
    let runtime = store.clone();
    tokio::task::spawn_blocking(move || runtime.remove(&hash)).await??;
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
    big(&store, dir.path()).await?;
    many(&store, dir.path()).await
}
