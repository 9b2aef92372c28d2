//! Numbers that follow from the seed: every choice of the model is a hash of what it is about.

use std::hash::{BuildHasherDefault, Hasher};

/// Mixes all bits of one number.
pub(crate) const fn scramble(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Continues a hash by one number; order counts.
pub(crate) const fn mix(hash: u64, next: u64) -> u64 {
    scramble(hash.rotate_left(23) ^ next)
}

/// What a hash is about, so that no two choices hang together.
#[derive(Clone, Copy)]
pub(crate) enum About {
    Reproducible = 1,
    Absorbs,
    Cached,
    Retained,
    Local,
    LocalRun,
    CacheRun,
    Run,
    Key,
    Output,
    Class,
    Popularity,
    Targets,
    Graph,
    Store,
}

/// Hash of a subject and up to two numbers.
pub(crate) const fn of(seed: u64, about: About, a: u64, b: u64) -> u64 {
    mix(mix(mix(scramble(seed), about as u64), a), b)
}

/// A number in `0..1`.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
pub(crate) const fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// For keys that are hashes already.
#[derive(Default)]
pub(crate) struct Scrambled(u64);

impl Hasher for Scrambled {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0, u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

pub(crate) type ByHash = BuildHasherDefault<Scrambled>;
