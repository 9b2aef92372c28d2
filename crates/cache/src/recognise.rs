//! What a file is, by its first bytes: caches and web servers call compressions by wrong names, and what comes out is checked by its hash
//! whatever they say.

use std::io;

use bytes::Bytes;

use crate::decoder::Decoder;

/// Bytes that tell all that can be told.
const ENOUGH: usize = 8;

/// Beginnings of files. Brotli has none of its own.
const BEGINNINGS: [(&[u8], &str); 4] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x1f\x8b\x08", "gzip"),
    // A NAR: the length of its first word.
    (b"\x0d\0\0\0\0\0\0\0", "none"),
];

/// Shorter beginnings than this can be brotli by chance.
const UNMISTAKABLE: usize = 4;

fn recognised(start: &[u8], said: &str) -> Option<&'static str> {
    // Between the two the level, a digit; then the beginning of a block.
    if start.starts_with(b"BZh") && start.get(4..8) == Some(b"1AY&") {
        return Some("bzip2");
    }
    let known = BEGINNINGS
        .iter()
        .find(|(beginning, _)| start.starts_with(beginning));
    let (_, name) = known.filter(|(beginning, _)| said != "br" || beginning.len() >= UNMISTAKABLE)?;
    Some(name)
}

/// A decoder that is chosen when the first bytes have come: by them, or else as was said.
pub(crate) struct Recognising {
    said: String,
    /// The name for what is not recognised.
    otherwise: &'static str,
    start: Vec<u8>,
    decoder: Option<io::Result<Decoder>>,
}

impl Recognising {
    /// For a file that a narinfo says to be so compressed; `None` when the compression is not known.
    pub(crate) fn compression(said: &str) -> Option<Self> {
        let otherwise = known(said)?;
        Some(Self::new(said, otherwise))
    }

    /// For an answer with that `Content-Encoding`. What does not look so is taken as it is.
    pub(crate) fn encoding(said: &str) -> Option<Self> {
        let otherwise = match known(said)? {
            "br" => "br",
            _ => "none",
        };
        Some(Self::new(said, otherwise))
    }

    fn new(said: &str, otherwise: &'static str) -> Self {
        Self {
            said: said.to_owned(),
            otherwise,
            start: Vec::new(),
            decoder: None,
        }
    }

    fn choose(&mut self) {
        let name = recognised(&self.start, &self.said).unwrap_or(self.otherwise);
        let decoder = Decoder::new(name).and_then(|decoder| {
            let mut decoder = decoder.ok_or(io::ErrorKind::Unsupported)?;
            decoder.feed().push(Bytes::from(std::mem::take(&mut self.start)));
            Ok(decoder)
        });
        self.decoder = Some(decoder);
    }

    /// The next chunk; the one before must be used up.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        match &mut self.decoder {
            Some(Ok(decoder)) => decoder.feed().push(chunk),
            Some(Err(_)) => {}
            None => {
                self.start.extend_from_slice(&chunk);
                if self.start.len() >= ENOUGH {
                    self.choose();
                }
            }
        }
    }

    /// There will be no more.
    pub(crate) fn end(&mut self) {
        if self.decoder.is_none() {
            self.choose();
        }
        if let Some(Ok(decoder)) = &mut self.decoder {
            decoder.feed().end();
        }
    }

    /// Nothing is left of the last chunk.
    pub(crate) fn is_used_up(&mut self) -> bool {
        match &mut self.decoder {
            Some(Ok(decoder)) => decoder.feed().is_empty(),
            _ => self.start.is_empty(),
        }
    }
}

impl io::Read for Recognising {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.decoder {
            Some(Ok(decoder)) => decoder.read(out),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// The name of a known compression.
fn known(name: &str) -> Option<&'static str> {
    ["none", "xz", "zstd", "bzip2", "gzip", "br"]
        .into_iter()
        .find(|known| *known == name)
        .or((name == "identity").then_some("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings() {
        for (start, said, found) in [
            (&b"\x28\xb5\x2f\xfd1234"[..], "xz", Some("zstd")),
            (b"\xfd7zXZ\0\0\x04", "br", Some("xz")),
            (b"\x1f\x8b\x08\0\0\0\0\0", "none", Some("gzip")),
            (b"\x1f\x8b\x08\0\0\0\0\0", "br", None),
            (b"\x0d\0\0\0\0\0\0\0", "xz", Some("none")),
            (b"BZh91AY&", "none", Some("bzip2")),
            (b"BZh11AY&", "br", Some("bzip2")),
            (b"BZh", "none", None),
            (b"", "xz", None),
        ] {
            assert_eq!(recognised(start, said), found, "{start:?} {said}");
        }
        assert!(Recognising::compression("lzip").is_none());
        assert!(Recognising::encoding("identity").is_some());
    }
}
