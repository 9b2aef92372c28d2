//! From the compressed file to a stream of the unpacked bytes, neither too many nor too few.

use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use firn_service::ports::{CacheError, Trouble};
use futures_util::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use crate::recognise::Recognising;

/// Most bytes that are decoded before the task may be given up.
const STEP: usize = 64 << 10;

/// The unpacked bytes of a compressed file. Fails for ever after its first error.
pub(crate) struct Unpacked<S> {
    packed: S,
    decoder: Recognising,
    state: State,
    /// Bytes that may still come out.
    left: u64,
    /// Whether fewer are an error as well.
    exact: bool,
    what: What,
}

/// What is unpacked, for errors.
pub(crate) struct What {
    /// Address of the cache.
    pub cache: String,
    /// The middle of a sentence that begins with the cache and ends in what is wrong.
    pub file: String,
}

enum State {
    Unpacking,
    /// All is out; the compressed file must end here, too.
    Draining,
    Done,
    Failed(CacheError),
}

impl<S: Stream<Item = Result<Bytes, CacheError>> + Unpin> Unpacked<S> {
    pub(crate) fn new(packed: S, decoder: Recognising, size: u64, exact: bool, what: What) -> Self {
        Self {
            packed,
            decoder,
            state: State::Unpacking,
            left: size,
            exact,
            what,
        }
    }

    /// Puts the next chunk into the decoder. False at the end of the file.
    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, CacheError>> {
        loop {
            match ready!(Pin::new(&mut self.packed).poll_next(cx)) {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    self.decoder.push(chunk);
                    return Poll::Ready(Ok(true));
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => {
                    self.decoder.end();
                    return Poll::Ready(Ok(false));
                }
            }
        }
    }

    fn poll_unpack(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<Result<usize, CacheError>> {
        loop {
            match self.decoder.read(out) {
                Ok(n) => return Poll::Ready(Ok(n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_feed(cx))?;
                }
                Err(e) => return Poll::Ready(Err(self.bad(format_args!("cannot be unpacked: {e}")))),
            }
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<Result<(), CacheError>> {
        let mut one_more = [0];
        if matches!(self.state, State::Unpacking) {
            let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(STEP);
            if room == 0 {
                if ready!(self.poll_unpack(cx, &mut one_more))? > 0 {
                    return Poll::Ready(Err(
                        self.bad(format_args!("unpacks to more bytes than were announced"))
                    ));
                }
            } else {
                let n = ready!(self.poll_unpack(cx, out.initialize_unfilled_to(room.min(out.remaining()))))?;
                if n > 0 {
                    out.advance(n);
                    self.left = self.left.saturating_sub(n as u64);
                    return Poll::Ready(Ok(()));
                }
                if self.exact {
                    return Poll::Ready(Err(
                        self.bad(format_args!("unpacks to fewer bytes than were announced"))
                    ));
                }
            }
            self.state = State::Draining;
        }
        if !self.decoder.is_used_up() || ready!(self.poll_feed(cx))? {
            return Poll::Ready(Err(self.bad(format_args!("goes on after its end"))));
        }
        self.state = State::Done;
        Poll::Ready(Ok(()))
    }

    fn bad(&self, reason: std::fmt::Arguments<'_>) -> CacheError {
        CacheError {
            cache: self.what.cache.clone(),
            trouble: Trouble::Bad(format!("{} {reason}", self.what.file)),
        }
    }
}

impl<S: Stream<Item = Result<Bytes, CacheError>> + Unpin> AsyncRead for Unpacked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &self.state {
            State::Failed(error) => return Poll::Ready(Err(to_io(error.clone()))),
            State::Done => return Poll::Ready(Ok(())),
            _ if out.remaining() == 0 => return Poll::Ready(Ok(())),
            _ => {}
        }
        ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
        let result = ready!(self.poll_step(cx, out));
        Poll::Ready(result.map_err(|error| {
            self.state = State::Failed(error.clone());
            to_io(error)
        }))
    }
}

/// The inner error can be had back with [`from_io`].
fn to_io(error: CacheError) -> io::Error {
    let kind = match &error.trouble {
        Trouble::Login { .. } => io::ErrorKind::PermissionDenied,
        trouble if trouble.may_pass() => io::ErrorKind::ConnectionAborted,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}

/// The error of a stream of this module.
pub(crate) fn from_io(error: io::Error) -> CacheError {
    let text = error.to_string();
    match error.into_inner().map(|inner| inner.downcast::<CacheError>()) {
        Some(Ok(error)) => *error,
        _ => CacheError {
            cache: String::new(),
            trouble: Trouble::Bad(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const CONTENT: &[u8] = b"some words, some words, and some more words: 0123456789 0123456789";

    fn packed(compression: &str) -> Vec<u8> {
        let mut out = Vec::new();
        match compression {
            "xz" => drop(
                liblzma::bufread::XzEncoder::new(CONTENT, 1)
                    .read_to_end(&mut out)
                    .unwrap(),
            ),
            "zstd" => out = zstd::encode_all(CONTENT, 1).unwrap(),
            "bzip2" => drop(
                bzip2::bufread::BzEncoder::new(CONTENT, bzip2::Compression::fast())
                    .read_to_end(&mut out)
                    .unwrap(),
            ),
            "gzip" => drop(
                flate2::bufread::GzEncoder::new(CONTENT, flate2::Compression::fast())
                    .read_to_end(&mut out)
                    .unwrap(),
            ),
            // One meta-block that is not compressed, and the empty last one.
            "br" => {
                let header = ((CONTENT.len() as u32 - 1) << 3 | 1 << 19) << 1;
                out = [&header.to_le_bytes()[..3], CONTENT, &[3]].concat();
            }
            _ => out = CONTENT.to_vec(),
        }
        out
    }

    fn unpack(compression: &str, file: &[u8], chunk: usize, size: u64) -> Result<Vec<u8>, io::Error> {
        let chunks: Vec<_> = file
            .chunks(chunk)
            .map(|c| Ok(Bytes::copy_from_slice(c)))
            .collect();
        let decoder = Recognising::compression(compression).unwrap();
        let what = What {
            cache: "c".into(),
            file: "has a file that".into(),
        };
        let mut unpacked = Unpacked::new(stream::iter(chunks), decoder, size, true, what);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut out = Vec::new();
        runtime.block_on(unpacked.read_to_end(&mut out)).map(|_| out)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn changed_files(
            compression in prop::sample::select(vec!["none", "xz", "zstd", "bzip2", "gzip", "br"]),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut: prop::sample::Index,
            chunk in 1_usize..80,
        ) {
            let whole = packed(compression);
            let mut file = whole.clone();
            for (at, to) in changes {
                file[at.index(whole.len())] = to;
            }
            file.truncate(cut.index(whole.len() + 1));
            match unpack(compression, &file, chunk, CONTENT.len() as u64) {
                Ok(out) => prop_assert_eq!(out.len(), CONTENT.len()),
                Err(e) => {
                    prop_assert!(file != whole, "{}", e);
                    prop_assert_eq!(e.kind(), io::ErrorKind::InvalidData);
                }
            }
            prop_assert_eq!(unpack(compression, &whole, chunk, CONTENT.len() as u64).unwrap(), CONTENT);
        }

        #[test]
        fn any_bytes(
            compression in prop::sample::select(vec!["none", "xz", "zstd", "bzip2", "gzip", "br"]),
            start in 0_usize..12,
            file in prop::collection::vec(any::<u8>(), 0..300),
            chunk in 1_usize..80,
        ) {
            let mut whole = packed(compression);
            whole.truncate(start);
            whole.extend(file);
            let _ = unpack(compression, &whole, chunk, 100_000);
        }
    }
}
