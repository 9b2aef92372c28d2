//! What a run will take, as far as earlier runs tell.

use super::Reservation;

/// What an earlier run of a package of the same name took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Whether it was run for the account that asks.
    pub own: bool,
    /// Milliseconds from start to end.
    pub wall_ms: u64,
    /// Microseconds of processor time.
    pub cpu_us: u64,
    /// Most bytes of memory at a time; `None` where nobody counted.
    pub memory_peak: Option<u64>,
}

/// What a run is expected to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Milliseconds; 0 when nothing is known.
    pub wall_ms: u64,
    /// Bytes; `None` when nothing is known.
    pub memory: Option<u64>,
    /// Thousandths of a processor; `None` when nothing is known.
    pub cpus: Option<u64>,
}

/// Every build has some processes.
const LEAST_MEMORY: u64 = 32 << 20;

/// Thousandths of a processor.
const LEAST_CPUS: u64 = 100;

impl Expected {
    /// By the account's own runs, or where it has none, by those of others: nobody changes by his runs what an account expects that has
    /// run the package itself.
    #[must_use]
    pub fn from(past: &[Past]) -> Self {
        let own = past.iter().any(|run| run.own);
        let runs: Vec<&Past> = past.iter().filter(|run| run.own == own).collect();
        let mut walls: Vec<u64> = runs.iter().map(|run| run.wall_ms).collect();
        walls.sort_unstable();
        let peak = runs.iter().filter_map(|run| run.memory_peak).max();
        let sum = |of: fn(&Past) -> u64| runs.iter().map(|run| u128::from(of(run))).sum::<u128>();
        // Microseconds in a millisecond are thousandths.
        let cpus = sum(|run| run.cpu_us).checked_div(sum(|run| run.wall_ms));
        Self {
            wall_ms: walls.get(walls.len() / 2).copied().unwrap_or(0),
            memory: peak.map(|peak| peak.saturating_add(peak / 4).max(LEAST_MEMORY)),
            cpus: cpus.map(|cpus| u64::try_from(cpus).unwrap_or(u64::MAX).max(LEAST_CPUS)),
        }
    }

    /// What to reserve, with `unknown` where nothing is known.
    #[must_use]
    pub fn reservation(self, unknown: Reservation) -> Reservation {
        Reservation {
            memory: self.memory.unwrap_or(unknown.memory),
            cpus: self.cpus.unwrap_or(unknown.cpus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: Reservation = Reservation {
        memory: 7,
        cpus: 1000,
    };

    fn run(own: bool, wall_ms: u64, cpu_us: u64, memory_peak: Option<u64>) -> Past {
        Past {
            own,
            wall_ms,
            cpu_us,
            memory_peak,
        }
    }

    #[test]
    fn nothing_is_expected_of_what_nobody_ran() {
        let nothing = Expected::from(&[]);
        assert_eq!(nothing, Expected::default());
        assert_eq!(nothing.reservation(UNKNOWN), UNKNOWN);
    }

    #[test]
    fn the_peak_with_a_margin_the_middle_time_and_the_average_use() {
        let runs = [
            run(true, 1000, 2_000_000, Some(1 << 30)),
            run(true, 9000, 9_000_000, None),
            run(true, 2000, 1_000_000, Some(4 << 30)),
        ];
        let expected = Expected::from(&runs);
        assert_eq!(expected.wall_ms, 2000);
        assert_eq!(expected.memory, Some(5 << 30));
        assert_eq!(expected.cpus, Some(1000));
        let small = Expected::from(&[run(true, 1000, 0, Some(1))]);
        assert_eq!((small.memory, small.cpus), (Some(LEAST_MEMORY), Some(LEAST_CPUS)));
        let uncounted = Expected::from(&[run(true, 0, 5, None)]);
        assert_eq!(uncounted.reservation(UNKNOWN), UNKNOWN);
    }

    #[test]
    fn what_others_ran_does_not_matter_to_who_has_run_it() {
        let (own, other) = (
            run(true, 10, 10_000, Some(1 << 30)),
            run(false, 99, 999_000, Some(1 << 40)),
        );
        assert_eq!(Expected::from(&[other, own, other]), Expected::from(&[own]));
        assert_eq!(Expected::from(&[other]).wall_ms, 99);
    }
}
