//! From a sender to the disk.
//!
//! Two buffers per content: while one is filled from the sender, the other is parsed, hashed and written on a thread
//! that may block. No thread waits for a sender, and a content that fits one buffer costs one hand-over.

use tokio::io::AsyncRead;

use crate::blocking::{Background, blocking, finished};
use crate::error::{ContentError, IngestError};
use crate::extent::Extent;

/// Bytes of each of the two buffers.
pub(crate) const BUFFER: usize = 512 * 1024;

/// What takes the bytes, on a thread that may block.
pub(crate) trait Sink: Send + 'static {
    fn take(&mut self, bytes: &[u8]) -> Result<(), IngestError>;
}

/// Reads `extent` from `input` and gives it to `sink`, all but the last buffer, whose first size is `first`. Returns
/// sink and last buffer for [`give`]. On an error the sink has been dropped when this returns.
pub(crate) async fn pump<R, S>(
    input: &mut R,
    mut extent: Extent,
    sink: S,
    first: usize,
) -> Result<(Background<S>, Vec<u8>), IngestError>
where
    R: AsyncRead + Unpin + Send,
    S: Sink,
{
    let mut sink = Background::new(sink);
    let mut full = Vec::with_capacity(first.clamp(1, BUFFER));
    let mut next = Vec::new();
    let mut received = 0;
    let mut ended = extent.fill(input, &mut full, &mut received).await?;
    while !ended {
        if next.capacity() < BUFFER {
            next = Vec::with_capacity(BUFFER);
        }
        let job = tokio::task::spawn_blocking(move || {
            let sink = give(sink, &full)?;
            full.clear();
            Ok::<_, IngestError>((Background::new(sink), full))
        });
        let filled = extent.fill(input, &mut next, &mut received).await;
        let (busy, emptied) = finished(job.await)??;
        ended = match filled {
            Ok(ended) => ended,
            Err(error) => {
                blocking(move || drop(busy.into_inner())).await?;
                return Err(error);
            }
        };
        sink = busy;
        full = std::mem::replace(&mut next, emptied);
    }
    Ok((sink, full))
}

/// Gives one buffer to `sink`; blocks. When the sink refuses, it is dropped here and now.
pub(crate) fn give<S: Sink>(sink: Background<S>, bytes: &[u8]) -> Result<S, IngestError> {
    let mut sink = sink.into_inner().ok_or(ContentError::Interrupted)?;
    sink.take(bytes)?;
    Ok(sink)
}
