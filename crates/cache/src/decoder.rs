//! The compressions of NARs that caches use, each with bounded memory.

use std::io::{self, BufRead as _, Read};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;

use crate::feed::Feed;

/// Most memory of one xz decoder, in bytes: twice what `xz -9` needs.
const XZ_MEMORY: u64 = 128 << 20;
/// Largest window of a zstd frame, as a power of two: what decoders accept without being asked for more.
const ZSTD_WINDOW: u32 = 27;
/// liblzma's `LZMA_CONCATENATED`: streams one after the other, and the padding between them.
const XZ_CONCATENATED: u32 = 0x08;

/// Reads what is unpacked; answers `WouldBlock` when its feed is empty. Concatenated members are one file, as in Nix, but not for
/// brotli, whose format has none.
pub(crate) enum Decoder {
    Plain(Feed),
    Xz(XzDecoder<Feed>),
    Zstd(zstd::stream::read::Decoder<'static, Feed>),
    Bzip2(MultiBzDecoder<Feed>),
    Gzip(MultiGzDecoder<Feed>),
    Brotli(Box<Brotli>),
}

impl Decoder {
    /// For the name that a narinfo or a `Content-Encoding` has; `None` when it is not known.
    pub(crate) fn new(name: &str) -> io::Result<Option<Self>> {
        let feed = Feed::default();
        Ok(Some(match name {
            "none" | "identity" => Self::Plain(feed),
            "xz" => {
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, XZ_CONCATENATED)?;
                Self::Xz(XzDecoder::new_stream(feed, stream))
            }
            "zstd" => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(feed)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Self::Zstd(decoder)
            }
            "bzip2" => Self::Bzip2(MultiBzDecoder::new(feed)),
            "gzip" => Self::Gzip(MultiGzDecoder::new(feed)),
            "br" => Self::Brotli(Box::new(Brotli::new(feed))),
            _ => return Ok(None),
        }))
    }

    pub(crate) fn feed(&mut self) -> &mut Feed {
        match self {
            Self::Plain(feed) => feed,
            Self::Xz(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
            Self::Bzip2(decoder) => decoder.get_mut(),
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => &mut decoder.feed,
        }
    }
}

impl Read for Decoder {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(decoder) => decoder.read(out),
            Self::Xz(decoder) => decoder.read(out),
            Self::Zstd(decoder) => decoder.read(out),
            Self::Bzip2(decoder) => decoder.read(out),
            Self::Gzip(decoder) => decoder.read(out),
            Self::Brotli(decoder) => decoder.read(out),
        }
    }
}

/// Windows of up to 16 MiB, as in RFC 7932; not the "large window" extension.
pub(crate) struct Brotli {
    feed: Feed,
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    finished: bool,
}

impl Brotli {
    fn new(feed: Feed) -> Self {
        let memory = StandardAlloc::default;
        Self {
            feed,
            state: BrotliState::new_strict(memory(), memory(), memory()),
            finished: false,
        }
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        // What is inside comes out before more goes in.
        let (mut feeding, mut written) = (false, 0);
        while !self.finished {
            let input = if feeding { self.feed.fill_buf()? } else { &[] };
            if feeding && input.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (mut available, mut used, mut room, mut total) = (input.len(), 0, out.len(), 0);
            let result = BrotliDecompressStream(
                &mut available,
                &mut used,
                input,
                &mut room,
                &mut written,
                out,
                &mut total,
                &mut self.state,
            );
            self.feed.consume(used);
            match result {
                BrotliResult::ResultSuccess => self.finished = true,
                BrotliResult::ResultFailure => return Err(invalid("is not brotli")),
                _ if written > 0 => break,
                BrotliResult::NeedsMoreOutput => return Err(invalid("makes no progress")),
                BrotliResult::NeedsMoreInput => feeding = true,
            }
        }
        Ok(written)
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
