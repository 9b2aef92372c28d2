//! Hash parts of store paths, replaced in bytes that come in chunks.
//!
//! An output whose path is known only after the build is built under another path. What its files say of that path, and of the
//! other outputs' paths, is rewritten afterwards; hash parts are of one length, so nothing moves.

use crate::hash_parts::{HashPart, HashParts, Then, WINDOW};
use crate::{Hash, HashAlgo, Hasher, StorePath};

/// Most self-references that one content can have: their places are remembered until its end.
pub const MAX_SELF_REFERENCES: u64 = 1 << 24;

/// Replaces hash parts by others, also across the borders of chunks. Occurrences that overlap: the first is replaced.
///
/// ```
/// use firn_nix::{StorePath, rewrite::HashRewriter};
/// let path = |digit: char| StorePath::from_base_name(format!("{}-x", digit.to_string().repeat(32)).as_bytes());
/// let mut out = Vec::new();
/// let mut rewriter = HashRewriter::new([(&path('1')?, &path('2')?)]);
/// rewriter.push(b"/nix/store/11111111111", &mut out);
/// rewriter.push(b"111111111111111111111-x", &mut out);
/// rewriter.finish(&mut out);
/// assert_eq!(out, b"/nix/store/22222222222222222222222222222222-x");
/// # Ok::<(), firn_nix::PathError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HashRewriter {
    parts: HashParts<HashPart>,
    /// What is not out yet: up to `WINDOW - 1` bytes in which an occurrence may have begun.
    held: Vec<u8>,
    /// Bytes that are out.
    position: u64,
    places: Option<Places>,
}

impl HashRewriter {
    /// Replaces the hash part of the first path of each pair by that of the second.
    pub fn new<'a>(rewrites: impl IntoIterator<Item = (&'a StorePath, &'a StorePath)>) -> Self {
        let part = |path: &StorePath| HashPart::try_from(path.hash_part().as_bytes()).ok();
        Self::of_parts(
            rewrites
                .into_iter()
                .filter_map(|(from, to)| Some((part(from)?, part(to)?)))
                .filter(|(from, to)| from != to),
        )
    }

    fn of_parts(rewrites: impl Iterator<Item = (HashPart, HashPart)>) -> Self {
        let mut parts = HashParts::with_capacity(rewrites.size_hint().0);
        for (from, to) in rewrites {
            parts.entry(from).or_insert(to);
        }
        Self {
            parts,
            held: Vec::new(),
            position: 0,
            places: None,
        }
    }

    /// Takes the next bytes; appends to `out` those before which no occurrence can begin any more.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.parts.len() == 0 {
            out.extend_from_slice(chunk);
            return;
        }
        let start = out.len();
        out.append(&mut self.held);
        out.extend_from_slice(chunk);
        let Some(text) = out.get_mut(start..) else {
            return;
        };
        let mut hits: Vec<(usize, HashPart)> = Vec::new();
        self.parts.search(text, |at, to| {
            hits.push((at, *to));
            Then::Behind
        });
        let mut free = 0;
        for (at, to) in hits {
            if let Some(place) = text.get_mut(at..at + WINDOW) {
                place.copy_from_slice(&to);
            }
            free = at + WINDOW;
            if let Some(places) = &mut self.places {
                places.push(self.position.saturating_add(at as u64));
            }
        }
        let done = free.max(text.len().saturating_sub(WINDOW - 1));
        self.held = out.split_off(start + done);
        self.position = self.position.saturating_add(done as u64);
    }

    /// Appends what is still held; what is pushed next is another stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.position = 0;
    }

    /// The whole of a short stream.
    #[must_use]
    pub fn rewrite(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        self.push(bytes, &mut out);
        self.finish(&mut out);
        out
    }
}

/// More than [`MAX_SELF_REFERENCES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it refers to itself more than {MAX_SELF_REFERENCES} times")]
pub struct TooManySelfReferences;

/// How what an object says of its own path counts in the hash that its path follows from. Nix has computed both; a client believes only
/// the one that it computes itself.
///
/// <https://github.com/NixOS/nix/issues/15837>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SelfReferences {
    /// The path's hash part counts as NULs, and `|<offset>` is hashed behind the content for each place where it stood: Nix up to 2.16,
    /// and from 2.35 on. A path commits to its bytes.
    Placed,
    /// It counts as NULs, and nothing is hashed behind: Nix 2.17 to 2.34, and Lix. A path commits to its bytes but for which of their
    /// NULs are self-references, so that two contents can have one path.
    Unplaced,
}

impl SelfReferences {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Placed, Self::Unplaced];

    /// One word, as stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Unplaced => "unplaced",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.name() == name)
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Placed => Self::Unplaced,
            Self::Unplaced => Self::Placed,
        }
    }
}

/// Nix's hash of content that mentions its own store path, modulo these mentions: the hash does not depend on the path, and the path can
/// follow from the hash.
///
/// ```
/// use firn_nix::rewrite::{HashModuloSelf, SelfReferences};
/// use firn_nix::{Hash, HashAlgo, StorePath};
/// let path = StorePath::from_base_name(b"11111111111111111111111111111111-x")?;
/// let mut hash = HashModuloSelf::new(HashAlgo::Sha256, &path);
/// hash.push(b"see 11111111111111111111111111111111");
/// let hashes = hash.finish()?;
/// let zeroed = [b"see ".as_slice(), &[0; 32]].concat();
/// assert_eq!(hashes.of(SelfReferences::Unplaced), Hash::sha256(&zeroed));
/// assert_eq!(hashes.of(SelfReferences::Placed), Hash::sha256(&[&zeroed[..], b"|4"].concat()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HashModuloSelf {
    rewriter: HashRewriter,
    hasher: Hasher,
    buffer: Vec<u8>,
}

/// Both hashes of one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashesModuloSelf {
    placed: Hash,
    unplaced: Hash,
    mentions: u64,
}

impl HashesModuloSelf {
    /// The hash in that form.
    #[must_use]
    pub const fn of(&self, form: SelfReferences) -> Hash {
        match form {
            SelfReferences::Placed => self.placed,
            SelfReferences::Unplaced => self.unplaced,
        }
    }

    /// Whether the content mentions its path. Otherwise there is one hash.
    #[must_use]
    pub const fn mentions_itself(&self) -> bool {
        self.mentions > 0
    }
}

impl HashModuloSelf {
    /// For content that mentions `own_path`, if any, as its own.
    #[must_use]
    pub fn new(algo: HashAlgo, own_path: &StorePath) -> Self {
        let own = HashPart::try_from(own_path.hash_part().as_bytes()).ok();
        let mut rewriter = HashRewriter::of_parts(own.map(|own| (own, [0; WINDOW])).into_iter());
        rewriter.places = Some(Places::default());
        Self {
            rewriter,
            hasher: Hasher::new(algo),
            buffer: Vec::new(),
        }
    }

    /// Takes the next bytes, in pieces of any size.
    pub fn push(&mut self, chunk: &[u8]) {
        self.rewriter.push(chunk, &mut self.buffer);
        self.hasher.update(&self.buffer);
        self.buffer.clear();
    }

    /// The hashes of all that was taken.
    ///
    /// # Errors
    /// [`TooManySelfReferences`].
    pub fn finish(mut self) -> Result<HashesModuloSelf, TooManySelfReferences> {
        let places = self.rewriter.places.take().unwrap_or_default();
        self.rewriter.finish(&mut self.buffer);
        self.hasher.update(&self.buffer);
        if places.count > MAX_SELF_REFERENCES {
            return Err(TooManySelfReferences);
        }
        let unplaced = self.hasher.clone().finish();
        for place in places.iter() {
            self.hasher.update(format!("|{place}").as_bytes());
        }
        Ok(HashesModuloSelf {
            placed: self.hasher.finish(),
            unplaced,
            mentions: places.count,
        })
    }
}

/// Ascending numbers, packed: seven bits of each difference per byte, the lowest first, the high bit on all but the last.
#[derive(Clone, Debug, Default)]
struct Places {
    count: u64,
    last: u64,
    packed: Vec<u8>,
}

impl Places {
    fn push(&mut self, place: u64) {
        self.count += 1;
        if self.count > MAX_SELF_REFERENCES {
            return;
        }
        let mut rest = place.saturating_sub(self.last);
        self.last = place;
        while rest > 0x7f {
            self.packed.push(0x80 | (rest & 0x7f) as u8);
            rest >>= 7;
        }
        self.packed.push(rest as u8);
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        let (mut place, mut difference, mut shift) = (0u64, 0u64, 0u32);
        self.packed.iter().filter_map(move |byte| {
            difference |= u64::from(byte & 0x7f).unbounded_shl(shift);
            shift += 7;
            (byte & 0x80 == 0).then(|| {
                place = place.saturating_add(std::mem::take(&mut difference));
                shift = 0;
                place
            })
        })
    }
}
