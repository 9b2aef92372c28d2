//! Memory and processors: what there is, what a run is expected to take, and what is taken.

/// What a machine has for runs. What is `MAX` is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Runs at a time.
    pub slots: usize,
    /// Bytes.
    pub memory: u64,
    /// Thousandths of a processor.
    pub cpus: u64,
}

/// One slot, and resources that are not counted.
impl Default for Capacity {
    fn default() -> Self {
        Self {
            slots: 1,
            memory: u64::MAX,
            cpus: u64::MAX,
        }
    }
}

impl Capacity {
    /// In which a run can start.
    pub(super) fn usable(self) -> Self {
        Self {
            slots: self.slots.max(1),
            memory: self.memory,
            cpus: self.cpus.max(1),
        }
    }
}

/// What a run is expected to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Bytes at the most. The queue rounds up by less than an eighth.
    pub memory: u64,
    /// Thousandths of a processor, on the average.
    pub cpus: u64,
}

/// Of one run, or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) memory: u64,
    pub(super) cpus: u64,
}

impl Taken {
    pub(super) fn take(&mut self, other: Self) {
        self.memory = self.memory.saturating_add(other.memory);
        self.cpus = self.cpus.saturating_add(other.cpus);
    }

    pub(super) fn give_back(&mut self, other: Self) {
        self.memory = self.memory.saturating_sub(other.memory);
        self.cpus = self.cpus.saturating_sub(other.cpus);
    }
}

/// Rounds up to one of eight steps between a power of two and the next, so that runs have few different amounts.
pub(super) fn graded(bytes: u64) -> u64 {
    let step = 1_u64 << bytes.checked_ilog2().unwrap_or(0).saturating_sub(3);
    bytes.checked_next_multiple_of(step).unwrap_or(u64::MAX)
}

/// Thousandths of a slot that a run counts as: what it keeps others out of.
pub(super) fn slots_of(taken: Taken, capacity: Capacity) -> u64 {
    let all = (capacity.slots as u64).saturating_mul(1000);
    let part = |amount: u64, of: u64| {
        if of == u64::MAX || of == 0 {
            return 0;
        }
        let slots = u128::from(all) * u128::from(amount) / u128::from(of);
        u64::try_from(slots).unwrap_or(all)
    };
    let most = part(taken.memory, capacity.memory).max(part(taken.cpus, capacity.cpus));
    most.clamp(1000, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_ninths_of_a_share_fit_into_it() {
        for share in (1..5000).chain((1 << 30..1 << 36).step_by(123_456_789)) {
            assert!(graded(share / 9 * 8) <= share, "{share}");
        }
    }

    #[test]
    fn amounts_are_rounded_up_by_less_than_an_eighth() {
        for bytes in [
            0,
            1,
            7,
            8,
            9,
            15,
            16,
            17,
            1000,
            (1 << 30) + 1,
            u64::MAX / 2 + 1,
            u64::MAX,
        ] {
            let up = graded(bytes);
            assert!(up >= bytes && up - bytes <= bytes / 8, "{bytes} {up}");
            assert_eq!(graded(up), up);
        }
    }

    #[test]
    fn a_run_counts_as_what_it_keeps_others_out_of() {
        let capacity = Capacity {
            slots: 4,
            memory: 100,
            cpus: 8000,
        };
        let counts = |memory, cpus| slots_of(Taken { memory, cpus }, capacity);
        assert_eq!(counts(0, 0), 1000);
        assert_eq!(counts(50, 1000), 2000);
        assert_eq!(counts(0, 6000), 3000);
        assert_eq!(counts(100, 8000), 4000);
        let uncounted = Capacity {
            slots: 4,
            ..Capacity::default()
        };
        assert_eq!(
            slots_of(
                Taken {
                    memory: 1 << 40,
                    cpus: 64_000
                },
                uncounted
            ),
            1000
        );
    }
}
