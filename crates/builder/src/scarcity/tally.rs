//! What follows from the looks: which runs were short of something at any moment. Plain values, no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use firn_service::ports::Scarce;

use super::marks::Marks;

/// How much there is of each kind; nothing for what has no end, or is not to be learned here.
pub(super) type Amounts = [Option<u64>; Scarce::ALL.len()];

/// What was free at some moment between two times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    pub(super) began: Duration,
    pub(super) ended: Duration,
    pub(super) free: Amounts,
}

/// Memory is tight when less than so many reserves of it are free.
const TIGHT: u64 = 4;

/// What is known of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What it was short of first.
    pub(crate) shortage: Option<Scarce>,
    /// Another run was there at the same time.
    pub(crate) beside: bool,
    /// There was so little memory that the kernel may have killed somebody for it.
    pub(crate) tight: bool,
}

/// The runs that are there, and the last look.
#[derive(Debug, Default)]
pub(super) struct Tally {
    marks: Marks,
    last: Option<Look>,
    present: BTreeMap<u64, Seen>,
    numbers: u64,
}

impl Tally {
    pub(super) fn new(marks: Marks) -> Self {
        Self {
            marks,
            ..Self::default()
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.present.is_empty()
    }

    /// One more look, with all that may have happened since the last one.
    pub(super) fn look(&mut self, look: Look) {
        let short = Scarce::ALL
            .into_iter()
            .find(|kind| self.may_have_been_short(*kind, &look));
        if let Some(kind) = short {
            for seen in self.present.values_mut() {
                seen.shortage.get_or_insert(kind);
            }
        }
        self.last = Some(look);
        if self.is_below(Scarce::Memory, self.reserve(Scarce::Memory).saturating_mul(TIGHT)) {
            self.present.values_mut().for_each(|seen| seen.tight = true);
        }
    }

    fn may_have_been_short(&self, kind: Scarce, now: &Look) -> bool {
        let Some(mark) = self.marks.get(kind) else {
            return false;
        };
        let free = |look: &Look| look.free.get(kind as usize).copied().flatten();
        // What can be read no more may be gone.
        if free(now).unwrap_or(0) < mark.bottom {
            return true;
        }
        let Some(last) = &self.last else { return false };
        let time = now.ended.saturating_sub(last.began);
        let taken = u128::from(mark.rate) * time.as_nanos() / Duration::from_secs(1).as_nanos();
        let least = u128::from(mark.bottom) + taken;
        u128::from(free(last).unwrap_or(0)) < least
    }

    /// A run begins, right after this look.
    pub(super) fn enter(&mut self, look: Look) -> u64 {
        if self.is_idle() {
            // Nobody has looked meanwhile, and nobody was there.
            self.last = None;
        }
        self.look(look);
        let beside = !self.is_idle();
        self.present.values_mut().for_each(|seen| seen.beside = true);
        let shortage = Scarce::ALL
            .into_iter()
            .find(|kind| self.is_below(*kind, self.marks.get(*kind).map_or(0, |mark| mark.bottom)));
        self.numbers += 1;
        let seen = Seen {
            shortage,
            beside,
            tight: false,
        };
        self.present.insert(self.numbers, seen);
        self.numbers
    }

    /// A run has ended, right before this look.
    pub(super) fn leave(&mut self, number: u64, look: Look) -> Seen {
        self.look(look);
        self.present.remove(&number).unwrap_or_default()
    }

    pub(super) fn seen(&self, number: u64) -> Seen {
        self.present.get(&number).copied().unwrap_or_default()
    }

    /// Somebody is about to take that much in no time, if it is there beside the reserve.
    pub(super) fn take(&mut self, kind: Scarce, amount: u64) -> bool {
        let reserve = self.reserve(kind);
        let free = self
            .last
            .as_mut()
            .and_then(|look| look.free.get_mut(kind as usize));
        let Some(Some(free)) = free else { return true };
        match free.checked_sub(amount).filter(|left| *left >= reserve) {
            Some(left) => {
                *free = left;
                true
            }
            None => false,
        }
    }

    /// Below so much no build is started.
    pub(super) fn reserve(&self, kind: Scarce) -> u64 {
        self.marks
            .get(kind)
            .map_or(0, |mark| mark.reserve.max(mark.bottom))
    }

    /// What is free of a kind, at the last look.
    pub(super) fn free(&self, kind: Scarce) -> Option<u64> {
        self.last?.free.get(kind as usize).copied().flatten()
    }

    /// The first kind of which less than the reserve is free.
    pub(super) fn wanting(&self) -> Option<Scarce> {
        Scarce::ALL
            .into_iter()
            .find(|kind| self.is_below(*kind, self.reserve(*kind)))
    }

    /// The first kind for whose sake a build is to be stopped.
    pub(super) fn demanding(&self) -> Option<Scarce> {
        let reserve = |kind| self.marks.get(kind).map_or(0, |mark| mark.reserve);
        Scarce::ALL
            .into_iter()
            .find(|kind| self.is_below(*kind, reserve(*kind)))
    }

    fn is_below(&self, kind: Scarce, least: u64) -> bool {
        self.marks.get(kind).is_some() && self.free(kind).unwrap_or(0) < least
    }
}

#[cfg(test)]
mod tests {
    use super::super::marks::Mark;
    use super::*;

    const MARK: Mark = Mark {
        reserve: 400,
        bottom: 100,
        rate: 1000,
    };

    /// Every kind has 10,000 free, but for one.
    fn look(millis: u64, kind: Scarce, free: Option<u64>) -> Look {
        let mut look = Look {
            began: Duration::from_millis(millis),
            ended: Duration::from_millis(millis),
            free: [Some(10_000); Scarce::ALL.len()],
        };
        look.free[kind as usize] = free;
        look
    }

    fn tally() -> Tally {
        let marks = Scarce::ALL
            .into_iter()
            .fold(Marks::default(), |marks, kind| marks.with(kind, MARK));
        Tally::new(marks)
    }

    /// Looks ten times a second. The run is there from 1.0 s to 2.0 s.
    fn run(kind: Scarce, free: impl Fn(u64) -> u64) -> Option<Scarce> {
        let mut tally = tally();
        let at = |millis| look(millis, kind, Some(free(millis)));
        // Somebody else is there all the time, so that there are looks before the run.
        tally.enter(at(0));
        (100..1000).step_by(100).for_each(|millis| tally.look(at(millis)));
        let run = tally.enter(at(1000));
        (1100..2000)
            .step_by(100)
            .for_each(|millis| tally.look(at(millis)));
        tally.leave(run, at(2000)).shortage
    }

    #[test]
    fn every_kind_before_during_and_at_the_end() {
        for kind in Scarce::ALL {
            let within = |from, to| run(kind, move |at| if (from..=to).contains(&at) { 99 } else { 5000 });
            assert_eq!(within(3000, 3000), None, "{kind}: never");
            assert_eq!(within(0, 800), None, "{kind}: before");
            // It began where the last look before it had found none.
            assert_eq!(within(0, 900), None, "{kind}: until just before");
            assert_eq!(within(0, 1000), Some(kind), "{kind}: at the start");
            assert_eq!(within(1500, 1500), Some(kind), "{kind}: during");
            assert_eq!(within(2000, 2000), Some(kind), "{kind}: at the end");
            assert_eq!(within(1000, 2000), Some(kind), "{kind}: all the time");
            // Below the reserve, and above the bottom even if everything were taken that can be between two looks.
            let between = run(kind, |_| 250);
            assert_eq!(between, None, "{kind}: near");
            // What can be gone and back between two looks.
            assert_eq!(run(kind, |_| 199), Some(kind), "{kind}: unseen");
        }
    }

    #[test]
    fn a_long_time_without_a_look_is_a_shortage_unless_there_is_plenty() {
        for (free, expected) in [(10_000, None), (5_101, None), (5_099, Some(Scarce::Memory))] {
            let mut tally = tally();
            let run = tally.enter(look(0, Scarce::Memory, Some(free)));
            assert_eq!(
                tally.leave(run, look(5000, Scarce::Memory, Some(free))).shortage,
                expected
            );
        }
        // The look itself may have taken long.
        let mut tally = tally();
        let run = tally.enter(look(0, Scarce::Memory, Some(600)));
        let mut slow = look(100, Scarce::Memory, Some(600));
        slow.ended = Duration::from_millis(700);
        assert_eq!(tally.leave(run, slow).shortage, Some(Scarce::Memory));
    }

    #[test]
    fn what_cannot_be_read_counts_as_gone_and_what_has_no_mark_does_not_count() {
        let mut tally = tally();
        let run = tally.enter(look(0, Scarce::DiskSpace, Some(5000)));
        assert_eq!(
            tally.leave(run, look(1, Scarce::DiskSpace, None)).shortage,
            Some(Scarce::DiskSpace)
        );
        let mut tally = Tally::new(Marks::default().with(Scarce::Memory, MARK));
        let run = tally.enter(look(0, Scarce::DiskSpace, None));
        assert_eq!(
            tally.leave(run, look(1, Scarce::DiskSpace, Some(0))).shortage,
            None
        );
    }

    #[test]
    fn nobody_is_blamed_for_the_time_without_runs() {
        let mut tally = tally();
        let run = tally.enter(look(0, Scarce::Memory, Some(5000)));
        tally.leave(run, look(1, Scarce::Memory, Some(0)));
        let run = tally.enter(look(100_000, Scarce::Memory, Some(5000)));
        assert_eq!(
            tally.leave(run, look(100_010, Scarce::Memory, Some(5000))),
            Seen::default()
        );
    }

    #[test]
    fn who_ran_beside_whom() {
        let mut tally = tally();
        let at = |millis| look(millis, Scarce::Memory, Some(5000));
        let first = tally.enter(at(0));
        let second = tally.enter(at(10));
        assert!(tally.leave(first, at(20)).beside);
        let third = tally.enter(at(30));
        assert!(tally.leave(second, at(40)).beside && tally.leave(third, at(50)).beside);
        let alone = tally.enter(at(60));
        assert!(!tally.leave(alone, at(70)).beside);
    }

    #[test]
    fn what_is_taken_at_once_was_there() {
        let mut tally = tally();
        let run = tally.enter(look(0, Scarce::DiskSpace, Some(5000)));
        assert!(tally.take(Scarce::DiskSpace, 4000));
        assert_eq!(tally.wanting(), None);
        tally.look(look(10, Scarce::DiskSpace, Some(1000)));
        assert_eq!(tally.seen(run).shortage, None);
        assert!(!tally.take(Scarce::DiskSpace, 700));
        tally.look(look(11, Scarce::DiskSpace, Some(1000)));
        assert_eq!(tally.seen(run).shortage, None);
        assert!(tally.take(Scarce::DiskSpace, 600));
        tally.look(look(20, Scarce::DiskSpace, Some(99)));
        assert_eq!(tally.seen(run).shortage, Some(Scarce::DiskSpace));
    }
}
