//! Compressions, told by the first bytes.

use std::io::{self, BufRead, Read};

/// What is in it. Several streams in a row are one.
pub(crate) fn decompress<'r>(mut from: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let head = from.fill_buf()?;
    Ok(if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(from))
    } else if head.starts_with(b"\xfd7zXZ\0") {
        Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(from))
    } else if head.starts_with(b"BZh") {
        Box::new(bzip2::bufread::MultiBzDecoder::new(from))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::stream::read::Decoder::with_buffer(from)?)
    } else {
        Box::new(from)
    })
}
