use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use firn_nix::NarHash;
use firn_nix::nar::NarWriter;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::blocking::finished;
use crate::error::{ContentError, tree_path};
use crate::store::ContentStore;
use crate::walk::{Stopped, WalkLimits, WalkPolicy, WalkProblem, Walker};

/// Bytes at which a buffer is full enough to be handed on; one chunk of a file may come on top.
const FULL: usize = 256 * 1024;

impl ContentStore {
    /// The NAR of a content. One buffer is read ahead of the caller.
    ///
    /// # Errors
    /// [`ContentError::Missing`], or what the file system said.
    pub async fn read_nar(&self, hash: &NarHash) -> Result<NarStream, ContentError> {
        if !self.contains(hash) {
            return Err(ContentError::Missing(*hash));
        }
        let walker = Walker::new(&self.tree(hash), WalkPolicy::Own, WalkLimits::default());
        let source = Source {
            walker,
            writer: NarWriter::new(Vec::new()),
        };
        let runtime = Handle::current();
        let job = runtime.spawn_blocking(move || source.fill(Vec::new()));
        let filled = finished(job.await)?.map_err(|stopped| match stopped {
            Stopped::Walk(error) => match error.problem {
                WalkProblem::Io(rustix::io::Errno::NOENT) if error.path.is_empty() => {
                    ContentError::Missing(*hash)
                }
                WalkProblem::Io(errno) => ContentError::at(tree_path(&error.path))(errno),
                _ => ContentError::Io {
                    path: self.tree(hash),
                    source: io::Error::other(error),
                },
            },
            Stopped::Visitor(source) => ContentError::Io {
                path: self.tree(hash),
                source,
            },
        })?;
        Ok(NarStream {
            runtime,
            buffer: filled.buffer,
            at: 0,
            spare: Vec::new(),
            source: filled.rest,
            ahead: None,
        })
    }
}

/// The rest of a NAR that is being read from disk.
#[derive(Debug)]
struct Source {
    walker: Walker,
    writer: NarWriter<Vec<u8>>,
}

#[derive(Debug)]
struct Filled {
    buffer: Vec<u8>,
    /// `None` at the end of the NAR.
    rest: Option<Source>,
}

impl Source {
    /// The next piece of the NAR, in a buffer that takes over the memory of `buffer`.
    fn fill(mut self, mut buffer: Vec<u8>) -> Result<Filled, Stopped<io::Error>> {
        buffer.clear();
        // What the writer holds is the few bytes at the start of the archive, or nothing.
        buffer.append(self.writer.get_mut());
        *self.writer.get_mut() = buffer;
        let mut more = true;
        while more && self.writer.get_mut().len() < FULL {
            more = self.walker.step(&mut self.writer)?;
        }
        Ok(Filled {
            buffer: std::mem::take(self.writer.get_mut()),
            rest: more.then_some(self),
        })
    }
}

/// The bytes of a NAR. Dropping it ends the reading.
#[derive(Debug)]
pub struct NarStream {
    runtime: Handle,
    buffer: Vec<u8>,
    at: usize,
    spare: Vec<u8>,
    /// What is to be read and not being read.
    source: Option<Source>,
    ahead: Option<JoinHandle<Result<Filled, Stopped<io::Error>>>>,
}

impl AsyncBufRead for NarStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        loop {
            if let Some(source) = this.source.take() {
                let buffer = std::mem::take(&mut this.spare);
                this.ahead = Some(this.runtime.spawn_blocking(move || source.fill(buffer)));
            }
            if this.at < this.buffer.len() {
                break;
            }
            let Some(ahead) = &mut this.ahead else { break };
            let result = ready!(Pin::new(ahead).poll(cx));
            this.ahead = None;
            let filled = finished(result)
                .map_err(io::Error::other)?
                .map_err(io::Error::other)?;
            this.spare = std::mem::replace(&mut this.buffer, filled.buffer);
            this.at = 0;
            this.source = filled.rest;
        }
        Poll::Ready(Ok(this.buffer.get(this.at..).unwrap_or_default()))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let this = self.get_mut();
        this.at = this.at.saturating_add(amount).min(this.buffer.len());
    }
}

impl AsyncRead for NarStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let available = ready!(self.as_mut().poll_fill_buf(cx))?;
        let count = available.len().min(into.remaining());
        into.put_slice(available.get(..count).unwrap_or_default());
        self.consume(count);
        Poll::Ready(Ok(()))
    }
}
