//! Running a request while listening for its client: whoever goes away takes the request along.

use std::future::Future;
use std::io;
use std::pin::pin;

use bytes::BufMut as _;
use firn_nix::PathInfo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::mpsc;

use crate::wire::{Encoder, Lost, NarExtent, WireReader, WireWriter};
use crate::{ByteStream, LogEvent, LogSink, SessionError, StoreError, Upload};

/// Events that wait for a client before the request is slowed down.
const LOG_QUEUE: usize = 256;
/// Bytes of rendered events that wait for a client before no more are rendered.
const LOG_BACKLOG: usize = 64 << 10;
/// Bytes of a NAR that are read ahead of the client.
const NAR_CHUNK: usize = 128 << 10;

/// Why a driven request has no result.
#[derive(Debug)]
pub(crate) enum Interrupted {
    /// The client is gone.
    Lost(Lost),
    /// The client cannot be written to.
    Write(io::Error),
}

impl Interrupted {
    pub(crate) fn into_session(self, during: &'static str) -> SessionError {
        match self {
            Self::Lost(lost) => SessionError::from_loss(during, &lost),
            Self::Write(error) => SessionError::from_io(during, error),
        }
    }
}

/// Runs `work` unless the client goes away first, which drops it at once.
pub(crate) async fn watched<R, F>(reader: &mut WireReader<R>, work: F) -> Result<F::Output, Interrupted>
where
    R: AsyncRead + Unpin,
    F: Future,
{
    tokio::select! {
        biased;
        done = work => Ok(done),
        lost = reader.lost() => Err(Interrupted::Lost(lost)),
    }
}

/// Runs a request that reports events; each is rendered into `out` and sent without waiting for more. All events that were sent
/// before the request ended are in `out` when this returns.
pub(crate) async fn logged<R, W, F>(
    reader: &mut WireReader<R>,
    out: &mut WireWriter<W>,
    mut render: impl FnMut(LogEvent, &mut Encoder),
    start: impl FnOnce(LogSink) -> F,
) -> Result<F::Output, Interrupted>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    F: Future,
{
    let (sink, mut events) = mpsc::channel(LOG_QUEUE);
    let mut work = pin!(start(sink));
    let result = loop {
        tokio::select! {
            biased;
            done = &mut work => break done,
            Some(event) = events.recv(), if out.pending() < LOG_BACKLOG => {
                render(event, out.out());
                while out.pending() < LOG_BACKLOG && let Ok(event) = events.try_recv() {
                    render(event, out.out());
                }
            }
            sent = out.flush(), if out.pending() > 0 => sent.map_err(Interrupted::Write)?,
            lost = reader.lost() => return Err(Interrupted::Lost(lost)),
        }
    };
    // A sink that outlives its request cannot keep the client waiting.
    events.close();
    while let Ok(event) = events.try_recv() {
        render(event, out.out());
    }
    Ok(result)
}

/// Sends one NAR to its last byte. What the stream does wrong cannot be told to the client any more, only shown by closing.
pub(crate) async fn send_nar<R, W>(
    reader: &mut WireReader<R>,
    writer: &mut WireWriter<W>,
    mut nar: ByteStream,
    during: &'static str,
) -> Result<(), SessionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let archive = |source| SessionError::Archive { during, source };
    let mut extent = NarExtent::default();
    let mut chunk = Vec::with_capacity(NAR_CHUNK);
    loop {
        let both = async { tokio::join!(read_chunk(&mut nar, &mut chunk), writer.flush()) };
        let (read, sent) = watched(reader, both).await.map_err(|e| e.into_session(during))?;
        sent.map_err(|e| SessionError::from_io(during, e))?;
        read.map_err(archive)?;
        if chunk.is_empty() {
            break;
        }
        let used = extent
            .advance(&chunk)
            .map_err(|e| archive(io::Error::new(io::ErrorKind::InvalidData, e)))?;
        if used < chunk.len() {
            return Err(archive(io::Error::other("bytes after the end")));
        }
        writer.swap(&mut chunk);
    }
    if extent.is_done() {
        Ok(())
    } else {
        Err(archive(io::ErrorKind::UnexpectedEof.into()))
    }
}

/// Fills an empty chunk at least by half; leaves it empty at the end of the stream.
async fn read_chunk(nar: &mut ByteStream, chunk: &mut Vec<u8>) -> io::Result<()> {
    chunk.reserve(NAR_CHUNK);
    while chunk.len() < NAR_CHUNK / 2 {
        let room = NAR_CHUNK - chunk.len();
        if nar.read_buf(&mut chunk.limit(room)).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Hands one path to the upload, with exactly the bytes that are its NAR.
pub(crate) async fn receive_nar<U: Upload, B: AsyncRead + Unpin + Send>(
    upload: &mut U,
    body: &mut B,
    mut info: PathInfo,
) -> Result<(), StoreError> {
    // Whether a path was built here is not for clients to say.
    info.ultimate = false;
    let (path, size) = (info.path.clone(), info.nar_size);
    let mut nar = body.take(size);
    upload.add(info, &mut nar).await?;
    match nar.limit() {
        0 => Ok(()),
        _ => Err(StoreError::new(format!(
            "the archive of '{path}' is not {size} bytes long"
        ))),
    }
}
