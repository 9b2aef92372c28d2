//! What accounts and the world do, and random histories of it.

use firn_core::Trust;

use crate::universe::{ACCOUNTS, CACHES, CHANCE, DERIVATIONS, KEYS, PATHS, SOURCES, VARIANTS};

/// One path of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brought {
    pub path: usize,
    pub variant: usize,
    /// Keys that have signed it, as bits.
    pub signers: u8,
    pub lie: Lie,
}

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    None,
    /// Other bytes than the hash says.
    Bytes,
    /// A signature that is none.
    Malformed,
    /// The first key's signature, over something else.
    Signature,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Upload(Vec<Brought>),
    /// Adds a key's signature to what the account has for a path; or one over something else.
    Sign {
        path: usize,
        key: usize,
        wrong: bool,
    },
    /// Trusts these keys from now on, in this order.
    Keys(Vec<usize>),
    Trust {
        other: usize,
        level: Option<Trust>,
    },
    LetRead {
        other: usize,
        level: Option<Trust>,
    },
    Private(bool),
    Share(bool),
    /// Asks these caches from now on.
    Caches(Vec<usize>),
    Login(bool),
    Fetch {
        path: usize,
    },
    Build {
        derivation: usize,
    },
    Forget(Vec<usize>),
    /// The account goes, and one of the same name comes.
    Remove,
}

/// What becomes of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weather {
    Down(bool),
    /// It has this from now on; without bytes, or with others than it says.
    Has {
        what: Brought,
        bytes: bool,
    },
    Lost {
        path: usize,
    },
    Priority(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Account(usize, Deed),
    Cache(usize, Weather),
}

/// Sebastiano Vigna's splitmix64.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn brought(&mut self) -> Brought {
        // Sources most often, and of these the first variant: accounts agree often.
        let path = if self.one_in(3) {
            self.below(PATHS)
        } else {
            self.below(SOURCES)
        };
        Brought {
            path,
            variant: if self.one_in(3) { self.below(VARIANTS) } else { 0 },
            signers: if self.one_in(3) {
                self.below(1 << KEYS) as u8
            } else {
                0
            },
            lie: match self.below(60) {
                0 => Lie::Bytes,
                1 => Lie::Malformed,
                2 | 3 => Lie::Signature,
                _ => Lie::None,
            },
        }
    }

    fn batch(&mut self) -> Vec<Brought> {
        let mut all: Vec<Brought> = Vec::new();
        let first = self.brought();
        if first.path < SOURCES && !self.one_in(3) {
            // With what it refers to, down to the first or once around.
            for n in 0..SOURCES {
                let path = (first.path + SOURCES - n) % SOURCES;
                let other = if n == 0 {
                    first
                } else {
                    Brought {
                        path,
                        ..self.brought()
                    }
                };
                all.push(Brought {
                    variant: first.variant,
                    ..other
                });
                if path == 0 && first.variant == 0 {
                    break;
                }
            }
        } else {
            all.push(first);
            if self.one_in(4) {
                all.push(self.brought());
            }
        }
        all
    }

    /// Not what chance has made: whether two accounts have one content for it, and so who can sign it, is chance, too.
    fn signable(&mut self) -> usize {
        loop {
            let path = self.below(PATHS);
            if !CHANCE.contains(&path) {
                return path;
            }
        }
    }

    fn level(&mut self) -> Option<Trust> {
        match self.below(5) {
            0 => None,
            1 | 2 => Some(Trust::Builds),
            _ => Some(Trust::Uploads),
        }
    }

    fn some<const N: usize>(&mut self, most: usize) -> Vec<usize> {
        let mut all: Vec<usize> = Vec::new();
        for _ in 0..self.below(most + 1) {
            let one = self.below(N);
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }

    /// Whom an account trusts: one of two others, so that strangers remain.
    fn other(&mut self, account: usize) -> usize {
        (account + 1 + self.below(2)) % ACCOUNTS
    }

    fn deed(&mut self, account: usize) -> Deed {
        match self.below(100) {
            0..26 => Deed::Upload(self.batch()),
            26..33 => Deed::Sign {
                path: self.signable(),
                key: self.below(KEYS),
                wrong: self.one_in(8),
            },
            33..39 => {
                let mut keys = self.some::<KEYS>(3);
                // Only one key of a name can be trusted.
                if keys.contains(&1) {
                    keys.retain(|key| *key != 2);
                }
                Deed::Keys(keys)
            }
            39..43 => Deed::Trust {
                other: self.other(account),
                level: self.level(),
            },
            43..47 => Deed::LetRead {
                // Those who may trust it.
                other: (account + ACCOUNTS - 1 - self.below(2)) % ACCOUNTS,
                level: self.level(),
            },
            47..49 => Deed::Private(self.one_in(3)),
            49..51 => Deed::Share(!self.one_in(3)),
            51..54 => Deed::Caches(self.some::<{ CACHES.len() }>(3)),
            54 => Deed::Login(!self.one_in(3)),
            55..65 => Deed::Fetch {
                path: self.below(PATHS),
            },
            65..90 => Deed::Build {
                derivation: self.below(DERIVATIONS),
            },
            90..98 => Deed::Forget(self.some::<PATHS>(4)),
            _ => match self.one_in(3) {
                true => Deed::Remove,
                false => Deed::Forget((0..PATHS).collect()),
            },
        }
    }

    fn weather(&mut self) -> Weather {
        match self.below(12) {
            0 => Weather::Down(self.one_in(3)),
            1 => Weather::Lost {
                path: self.below(PATHS),
            },
            2 => Weather::Priority(self.below(3) as u32),
            _ => {
                let mut what = self.brought();
                what.path = self.below(PATHS);
                what.signers = self.below(1 << KEYS) as u8;
                // A cache's entry is read before anybody sees it: it has no malformed signature.
                if what.lie == Lie::Malformed {
                    what.lie = Lie::None;
                }
                Weather::Has {
                    what,
                    bytes: !self.one_in(8),
                }
            }
        }
    }
}

/// A random history.
pub fn history(seed: u64, steps: usize) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let mut all = Vec::with_capacity(steps);
    // Every account begins with a policy, so that short histories say something.
    for account in 0..ACCOUNTS {
        for deed in [
            Deed::Keys(if dice.one_in(2) { vec![0] } else { vec![1, 0] }),
            Deed::Caches(vec![dice.below(CACHES.len()), dice.below(2)]),
        ] {
            all.push(Step::Account(account, deed));
        }
        let other = dice.other(account);
        for (one, deed) in [
            (
                account,
                Deed::Trust {
                    other,
                    level: dice.level(),
                },
            ),
            (
                other,
                Deed::LetRead {
                    other: account,
                    level: dice.level(),
                },
            ),
        ] {
            if account % 2 == 0 {
                all.push(Step::Account(one, deed));
            }
        }
    }
    while all.len() < steps {
        all.push(match dice.below(8) {
            0 => Step::Cache(dice.below(CACHES.len()), dice.weather()),
            _ => {
                let account = dice.below(ACCOUNTS);
                Step::Account(account, dice.deed(account))
            }
        });
    }
    all
}
