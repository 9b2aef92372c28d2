//! From which amount on something counts as short.

use std::path::Path;
use std::time::Duration;

use firn_service::ports::Scarce;

use super::gauges::Gauges;

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(25);
/// Looks in a second.
const LOOKS: u64 = 40;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The marks of one kind, in its unit: bytes, pages, or how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Below this much that is free, the build that takes most is stopped, and none is started. 0: never.
    pub reserve: u64,
    /// Below this much, everything that runs was short.
    pub bottom: u64,
    /// The most that all builds together can take in a second. Where so much can have gone between two looks that the bottom was reached,
    /// everything that ran was short.
    pub rate: u64,
}

impl Mark {
    /// Of something of which there is `total` in all. However little that is, the bottom and what can go between two looks stay well below the reserve.
    fn new(total: u64, bottom: u64, rate: u64) -> Self {
        let bottom = bottom.min(total / 100);
        let rate = rate.min((total / 50).saturating_mul(LOOKS));
        Self {
            reserve: bottom.saturating_add(rate / 4).min(total / 10),
            bottom,
            rate,
        }
    }

    fn never_stopping(self) -> Self {
        Self { reserve: 0, ..self }
    }
}

/// The marks of every kind; none for what has no end on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub(super) [Option<Mark>; Scarce::ALL.len()]);

impl Marks {
    /// Those of this machine, with builds in `dir`.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let total = Gauges::new(dir).total();
        let of = |kind: Scarce| {
            let total = total.get(kind as usize).copied().flatten()?;
            Some(match kind {
                // What a processor writes into the page cache, and a machine into its memory.
                Scarce::DiskSpace => Mark::new(total, 64 * MIB, (2 * GIB * cpus).min(32 * GIB)),
                Scarce::DiskEntries => Mark::new(total, 1000, 500_000 * cpus),
                Scarce::Memory => {
                    let mark = Mark::new(total, 64 * MIB, (2 * GIB * cpus).min(32 * GIB));
                    Mark {
                        reserve: mark.reserve.min(total / 20),
                        ..mark
                    }
                }
                Scarce::Processes => Mark::new(total, 256, 20_000 * cpus).never_stopping(),
                Scarce::OpenFiles => Mark::new(total, 1024 + 64 * cpus, 1_000_000 * cpus).never_stopping(),
                Scarce::Terminals => Mark::new(total, 16, 100_000 * cpus).never_stopping(),
                // Pages.
                Scarce::Sockets => Mark::new(total, 4096, (500_000 * cpus).min(8_000_000)).never_stopping(),
            })
        };
        let mut marks = Self::default();
        for kind in Scarce::ALL {
            if let Some(place) = marks.0.get_mut(kind as usize) {
                *place = of(kind);
            }
        }
        marks
    }

    /// Those of one kind.
    #[must_use]
    pub fn get(&self, kind: Scarce) -> Option<Mark> {
        self.0.get(kind as usize).copied().flatten()
    }

    /// The same with others for one kind.
    #[must_use]
    pub fn with(mut self, kind: Scarce, mark: Mark) -> Self {
        if let Some(place) = self.0.get_mut(kind as usize) {
            *place = Some(mark);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_look_is_never_a_shortage_above_the_reserve() {
        for total in [0, 1, 99, 1000, 64 * MIB, GIB, 20 * GIB, 4096 * GIB, u64::MAX] {
            for cpus in [1, 2, 16, 256] {
                let mark = Mark::new(total, 64 * MIB, (2 * GIB * cpus).min(32 * GIB));
                let between = mark.rate / LOOKS;
                assert!(
                    mark.bottom + 2 * between <= mark.reserve.max(2),
                    "{total} {cpus}: {mark:?}"
                );
                assert!(mark.reserve <= total / 10, "{total} {cpus}: {mark:?}");
            }
        }
    }

    #[test]
    fn this_machine_has_marks() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::of(dir.path());
        for kind in [
            Scarce::DiskSpace,
            Scarce::Memory,
            Scarce::Processes,
            Scarce::OpenFiles,
        ] {
            assert!(
                marks.get(kind).is_some_and(|mark| mark.rate > 0),
                "{kind}: {marks:?}"
            );
        }
        let mark = Mark::default();
        assert_eq!(marks.with(Scarce::Memory, mark).get(Scarce::Memory), Some(mark));
    }
}
