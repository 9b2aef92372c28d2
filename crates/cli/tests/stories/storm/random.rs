//! Random decisions that can be repeated.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// From `FIRN_STORM_SEED`, else from the clock.
    pub fn from_environment() -> Self {
        let given = std::env::var("FIRN_STORM_SEED").ok();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
        Self::new(given.map_or(now, |text| text.parse().unwrap()))
    }

    fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// To print.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Another sequence, the same for the same number.
    pub fn child(&self, n: u64) -> Self {
        Self::new(Self::new(self.seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next())
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `from..to`
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// True in one of `n` cases.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.between(0, n) == 0
    }
}
