//! A store for real Nix clients on standard input and output, for tests and for trying the protocols out:
//! `nix store ping --store 'ssh-ng://localhost?remote-program=<this>'`, and `ssh://…` likewise.
//!
//! `STDIO_MEMORY_DIR` keeps paths between processes, `STDIO_MEMORY_RECORD` is how files begin that keep what was said.

#![expect(clippy::unwrap_used, reason = "a test shows by panicking what is wrong")]

use std::fs::File;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use firn_protocol::{SessionOptions, serve, worker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[path = "../tests/support/memory.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod memory;

/// A stream that writes down what goes through, at once: real clients kill this process when they are done.
struct Tap<T> {
    inner: T,
    copy: Option<File>,
}

impl<T> Tap<T> {
    fn keep(&mut self, bytes: &[u8]) {
        if let Some(copy) = &mut self.copy {
            copy.write_all(bytes).unwrap();
        }
    }
}

/// The first unused pair of files for a session of that kind.
fn record(kind: &str) -> Option<(File, File)> {
    let prefix = std::env::var("STDIO_MEMORY_RECORD").ok()?;
    (0..100).find_map(|n| {
        let said = File::create_new(format!("{prefix}-{n}.{kind}.said.bin")).ok()?;
        let answered = File::create_new(format!("{prefix}-{n}.{kind}.answered.bin")).unwrap();
        Some((said, answered))
    })
}

impl<T: AsyncRead + Unpin> AsyncRead for Tap<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, out))?;
        self.keep(out.filled().get(before..).unwrap_or(&[]));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tap<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.keep(bytes.get(..n).unwrap_or(&[]));
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let store = match std::env::var_os("STDIO_MEMORY_DIR") {
        Some(dir) => memory::MemoryStore::open(dir.into()).await,
        None => memory::MemoryStore::default(),
    };
    store.state().refuse = std::env::var("STDIO_MEMORY_REFUSE_UPLOAD").ok();
    let is_serve = std::env::args().any(|a| a == "--serve");
    let (said, answered) = record(if is_serve { "serve" } else { "worker" }).unzip();
    let reader = Tap {
        inner: tokio::io::stdin(),
        copy: said,
    };
    let writer = Tap {
        inner: tokio::io::stdout(),
        copy: answered,
    };
    let mut options = SessionOptions::new("stdio-memory");
    options.activity_base = Some(0x5eed << 32);
    options.refusal = std::env::var("STDIO_MEMORY_REFUSE").ok();
    let result = if is_serve {
        serve::serve(&store, reader, writer, tokio::io::stderr(), &options).await
    } else {
        worker::serve(&store, reader, writer, &options).await
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stdio-memory: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
