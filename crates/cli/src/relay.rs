//! A session over the local socket: the client's bytes go in as they are, the server's come back as frames that tell standard output
//! from standard error.
//!
//! A frame is one byte (1 output, 2 error, 0 the end with the exit status), a length of four bytes, little-endian, and that many bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use firn_ssh::Command;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::door::{Door, Environment, Identity};

const OUTPUT: u8 = 1;
const ERROR: u8 = 2;
const END: u8 = 0;

/// Bytes of the largest frame.
const MAX_FRAME: usize = 256 * 1024;

/// How long a client may take to read a frame.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Frames that may wait for the socket.
const QUEUE: usize = 4;

/// Runs a session whose client is on the other end of the socket.
pub async fn server(
    door: &Door,
    identity: Identity,
    command: Command,
    environment: Environment,
    read: impl AsyncRead + Send + Unpin + 'static,
    mut write: impl AsyncWrite + Send + Unpin + 'static,
) {
    let (send, mut receive) = mpsc::channel::<BytesMut>(QUEUE);
    let output = Box::new(FrameWriter::new(OUTPUT, send.clone()));
    let error = Box::new(FrameWriter::new(ERROR, send.clone()));
    let session = async move {
        let status = door.run(identity, command, environment, Box::new(read), output, error);
        let status = status.await;
        let _ = send.send(frame(END, &status.to_le_bytes())).await;
    };
    let forward = async move {
        while let Some(frame) = receive.recv().await {
            let sent = async {
                write.write_all(&frame).await?;
                write.flush().await
            };
            // The session's own deadlines end at the queue: without this one, its last frame could wait for ever.
            if !matches!(tokio::time::timeout(DEADLINE, sent).await, Ok(Ok(()))) {
                break;
            }
        }
    };
    tokio::join!(session, forward);
}

/// Sends standard input to the socket, and the frames that come back to standard output and error. The exit status of the session.
pub async fn client(
    mut read: impl AsyncRead + Send + Unpin,
    mut write: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<u32> {
    tokio::spawn(async move {
        let _ = tokio::io::copy_buf(
            &mut tokio::io::BufReader::with_capacity(MAX_FRAME, tokio::io::stdin()),
            &mut write,
        )
        .await;
        let _ = write.shutdown().await;
    });
    let (mut output, mut error) = (tokio::io::stdout(), tokio::io::stderr());
    let mut payload = Vec::new();
    loop {
        let kind = read.read_u8().await?;
        let len = usize::try_from(read.read_u32_le().await?).unwrap_or(usize::MAX);
        if len > MAX_FRAME {
            return Err(io::Error::other("the service sent an oversized frame"));
        }
        payload.resize(len, 0);
        read.read_exact(&mut payload).await?;
        match kind {
            OUTPUT => {
                output.write_all(&payload).await?;
                output.flush().await?;
            }
            ERROR => {
                error.write_all(&payload).await?;
                error.flush().await?;
            }
            END => {
                let status = payload.as_slice().try_into().map(u32::from_le_bytes);
                return status.map_err(|_| io::Error::other("the service sent a bad exit status"));
            }
            other => {
                return Err(io::Error::other(format!(
                    "the service sent an unknown frame {other}"
                )));
            }
        }
    }
}

fn frame(kind: u8, payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::with_capacity(payload.len() + 5);
    frame.put_u8(kind);
    frame.put_u32_le(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    frame.put_slice(payload);
    frame
}

/// Turns writes into frames, no more of them than the queue holds.
struct FrameWriter {
    kind: u8,
    queue: PollSender<BytesMut>,
}

impl FrameWriter {
    fn new(kind: u8, queue: mpsc::Sender<BytesMut>) -> Self {
        Self {
            kind,
            queue: PollSender::new(queue),
        }
    }
}

impl AsyncWrite for FrameWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        if std::task::ready!(self.queue.poll_reserve(cx)).is_err() {
            return Poll::Ready(Err(gone()));
        }
        let part = bytes.get(..bytes.len().min(MAX_FRAME)).unwrap_or(bytes);
        let frame = frame(self.kind, part);
        Poll::Ready(
            self.queue
                .send_item(frame)
                .map(|()| part.len())
                .map_err(|_| gone()),
        )
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
