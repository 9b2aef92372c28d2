//! What a run waits for.

use std::fmt;

use super::amounts::{Capacity, Taken};
use super::{Number, Schedule};

/// Runs before one are counted up to here.
const MOST: usize = 1000;

/// What is in a run's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// All slots are in use.
    Slots {
        /// How many there are.
        all: usize,
    },
    /// All processors are reserved.
    Processors {
        /// How many there are, in thousandths.
        all: u64,
    },
    /// It needs more memory than is free, or than is left beside a run that is before it.
    Memory {
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that are free for it.
        free: u64,
        /// Bytes in all.
        all: u64,
    },
    /// Its account has as many runs as it may have.
    Account {
        /// How many.
        limit: usize,
    },
}

/// What a run waits for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What is in its way.
    pub obstacle: Obstacle,
    /// About how many runs start before it, if none comes and all last equally long; counted up to 1000.
    pub before: usize,
}

impl Schedule {
    /// What a run waits for; `None` when it does not.
    #[must_use]
    pub fn wait(&self, number: Number) -> Option<Wait> {
        let run = self.runs.get(&number).filter(|run| run.started.is_none())?;
        let account = self.order.account(run.account)?;
        let own = account.line.before(run.place, MOST);
        let before = match account.limit() {
            // Its own runs are what it waits for.
            Some(limit) if account.is_at_its_limit() => {
                return Some(Wait {
                    obstacle: Obstacle::Account { limit },
                    before: own,
                });
            }
            _ => own.saturating_add(self.of_others(run.account, own)).min(MOST),
        };
        let Capacity { slots, memory, cpus } = self.capacity;
        let Taken { memory: taken, .. } = self.taken;
        let free = match self.hold {
            Some(hold) if hold.number != number => {
                let held = self.runs.get(&hold.number).map_or(0, |run| run.taken.memory);
                let beside = held.saturating_add(hold.beside.memory);
                memory.saturating_sub(beside).min(memory.saturating_sub(taken))
            }
            _ => memory.saturating_sub(taken),
        };
        let obstacle = if self.running >= slots {
            Obstacle::Slots { all: slots }
        } else if self.taken.cpus >= cpus {
            Obstacle::Processors { all: cpus }
        } else if run.taken.memory > free {
            Obstacle::Memory {
                needed: run.taken.memory,
                free,
                all: memory,
            }
        } else {
            Obstacle::Slots { all: slots }
        };
        Some(Wait { obstacle, before })
    }

    /// Runs of other accounts whose turn is before that of a run that has so many of its own account before it.
    fn of_others(&self, account: crate::AccountId, own: usize) -> usize {
        let mut turns_before = own.saturating_add(1);
        let mut before = 0_usize;
        for (id, other) in self.order.accounts().take(MOST) {
            if id == account {
                turns_before = own;
            } else {
                before = before.saturating_add(other.line.len().min(turns_before));
            }
        }
        before
    }
}

/// As told: "waiting for a free slot (3 of 3 in use, 12 before it)".
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.obstacle {
            Obstacle::Slots { all } => write!(f, "waiting for a free slot ({all} of {all} in use")?,
            Obstacle::Processors { all } => {
                let all = all.div_ceil(1000);
                write!(f, "waiting for processors ({all} of {all} reserved")?;
            }
            // What it needs may be known from other accounts' runs, and is not told.
            Obstacle::Memory { free, all, .. } => {
                write!(f, "waiting for memory ({} of {} free", Bytes(free), Bytes(all))?;
            }
            Obstacle::Account { limit } => {
                let builds = if limit == 1 { "build" } else { "builds" };
                write!(
                    f,
                    "waiting for the account's other builds (at most {limit} {builds} at a time"
                )?;
            }
        }
        match self.before {
            0 => f.write_str(")"),
            MOST => write!(f, ", {MOST} or more before it)"),
            before => write!(f, ", {before} before it)"),
        }
    }
}

/// An amount as a person reads it.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        const GIB: u64 = 1 << 30;
        let Self(bytes) = *self;
        if bytes < GIB {
            return write!(f, "{} MiB", bytes.div_ceil(MIB));
        }
        write!(f, "{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
    }
}
