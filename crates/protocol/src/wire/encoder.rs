//! Values to bytes.

use firn_nix::{STORE_DIR, StorePath};

/// Buffers larger than this are given back once their bytes are sent.
const KEEP: usize = 256 << 10;

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// What was encoded so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties the buffer.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP);
    }

    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// 0 or 1.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u64(value.into())
    }

    /// A number of items or bytes.
    pub fn len(&mut self, value: usize) -> &mut Self {
        self.u64(value as u64)
    }

    /// Length, bytes, zeros up to a multiple of eight.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.len(value.len()).raw(value).pad(value.len())
    }

    /// A string.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// A full store path.
    pub fn path(&mut self, path: &StorePath) -> &mut Self {
        let base = path.base_name();
        let len = STORE_DIR.len() + 1 + base.len();
        self.len(len)
            .raw(STORE_DIR.as_bytes())
            .raw(b"/")
            .raw(base.as_bytes())
            .pad(len)
    }

    /// A full store path, or the empty string.
    pub fn optional_path(&mut self, path: Option<&StorePath>) -> &mut Self {
        match path {
            Some(path) => self.path(path),
            None => self.bytes(b""),
        }
    }

    /// Count and items.
    pub fn list<I>(&mut self, items: I, mut each: impl FnMut(&mut Self, I::Item)) -> &mut Self
    where
        I: IntoIterator<IntoIter: ExactSizeIterator>,
    {
        let items = items.into_iter();
        self.len(items.len());
        for item in items {
            each(self, item);
        }
        self
    }

    /// A list or set of store paths.
    pub fn paths<'p, I>(&mut self, paths: I) -> &mut Self
    where
        I: IntoIterator<Item = &'p StorePath, IntoIter: ExactSizeIterator>,
    {
        self.list(paths, |e, path| {
            e.path(path);
        })
    }

    /// A list or set of strings.
    pub fn texts<'t, I>(&mut self, texts: I) -> &mut Self
    where
        I: IntoIterator<Item = &'t String, IntoIter: ExactSizeIterator>,
    {
        self.list(texts, |e, text| {
            e.text(text);
        })
    }

    fn pad(&mut self, len: usize) -> &mut Self {
        let zeros = [0; 8];
        let n = len.next_multiple_of(8) - len;
        self.raw(zeros.get(..n).unwrap_or(&[]))
    }
}
