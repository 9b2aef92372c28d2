//! Reading one file's bytes out of its NAR.

/// The NAR of a non-executable regular file up to the length of its contents.
const HEAD: &[u8] =
    b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0\x01\0\0\0\0\0\0\0(\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0type\0\0\0\0\
\x07\0\0\0\0\0\0\0regular\0\x08\0\0\0\0\0\0\0contents";

/// Passes on the contents of a non-executable regular file while its NAR comes by in chunks.
#[derive(Debug, Default)]
pub(crate) struct FlatContents {
    /// Up to and including the length.
    head: Vec<u8>,
    /// Bytes of contents still to come.
    left: u64,
}

impl FlatContents {
    /// The part of `chunk` that is contents.
    pub(crate) fn push<'a>(&mut self, mut chunk: &'a [u8]) -> &'a [u8] {
        let missing = (HEAD.len() + 8).saturating_sub(self.head.len());
        if missing > 0 {
            let (head, rest) = chunk.split_at(missing.min(chunk.len()));
            self.head.extend_from_slice(head);
            chunk = rest;
            if let Some(length) = self.head.strip_prefix(HEAD).and_then(<[u8]>::first_chunk::<8>) {
                self.left = u64::from_le_bytes(*length);
            }
        }
        let taken = chunk.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= taken as u64;
        chunk.get(..taken).unwrap_or_default()
    }

    /// Whether it was the NAR of a non-executable regular file.
    pub(crate) fn is_flat(&self) -> bool {
        self.head.starts_with(HEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nar(contents: &[u8], executable: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |token: &[u8]| {
            out.extend((token.len() as u64).to_le_bytes());
            out.extend(token);
            out.resize(out.len().next_multiple_of(8), 0);
        };
        ["nix-archive-1", "(", "type", "regular"]
            .iter()
            .for_each(|t| put(t.as_bytes()));
        if executable {
            put(b"executable");
            put(b"");
        }
        put(b"contents");
        put(contents);
        put(b")");
        out
    }

    fn read(nar: &[u8], chunk: usize) -> (Vec<u8>, bool) {
        let mut flat = FlatContents::default();
        let contents = nar.chunks(chunk).flat_map(|c| flat.push(c).to_vec()).collect();
        (contents, flat.is_flat())
    }

    #[test]
    fn contents_come_out_whatever_the_chunks() {
        for contents in [&b""[..], b"x", b"12345678", b"hello world, hello world"] {
            for chunk in 1..130 {
                assert_eq!(read(&nar(contents, false), chunk), (contents.to_vec(), true));
            }
        }
    }

    #[test]
    fn an_executable_is_not_flat() {
        assert_eq!(read(&nar(b"x", true), 7), (vec![], false));
    }
}
