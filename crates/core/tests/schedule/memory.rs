//! Memory that is reserved fits, and who needs much of it is not starved by those who need little.

use firn_core::AccountId;
use firn_core::schedule::{Capacity, Number, Obstacle, Reservation, Schedule, Ticket};
use proptest::prelude::*;

use crate::{ticket, wants};

fn machine(slots: usize, memory: u64) -> Schedule {
    Schedule::new(Capacity {
        slots,
        memory,
        ..Capacity::default()
    })
}

fn start(queue: &mut Schedule, now: u64) -> Vec<Number> {
    std::iter::from_fn(|| queue.start_next(now)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// However many small runs come, and whoever has them end when: once the big one is next, it starts at the latest when what ran
    /// then has ended.
    #[test]
    fn the_big_one_starts_when_those_before_it_have_ended(
        slots in 2..6_usize,
        big in 30..=100_u64,
        small in prop::collection::vec(1..30_u64, 200),
        ends in prop::collection::vec(0..100_usize, 100),
        accounts in 1..3_i64,
    ) {
        let mut queue = machine(slots, 100);
        let mut small = small.iter().copied();
        for _ in 0..10 {
            queue.enter(wants(1, small.next().unwrap()), 0);
        }
        let mut running = start(&mut queue, 0);
        // Its account has had least, so it is next.
        let hungry = queue.enter(wants(9, big), 0);
        let mut before: Vec<Number> = running.clone();
        let started = start(&mut queue, 0);
        if started.contains(&hungry) {
            return Ok(());
        }
        running.extend(started);
        for (now, end) in (1..).zip(ends) {
            // Somebody always comes, and passes where there is room beside it.
            queue.enter(wants(1 + end as i64 % accounts, small.next().unwrap()), now);
            let number = running.remove(end % running.len());
            before.retain(|n| *n != number);
            queue.leave(number, now);
            let started = start(&mut queue, now);
            running.extend(&started);
            if running.contains(&hungry) {
                return Ok(());
            }
            prop_assert!(!before.is_empty(), "it was passed over");
        }
        prop_assert!(false, "it was starved");
    }
}

#[test]
fn small_ones_pass_beside_what_is_held() {
    let mut queue = machine(8, 100);
    let first = queue.enter(wants(1, 64), 0);
    assert_eq!(start(&mut queue, 0), [first]);
    let big = queue.enter(wants(1, 80), 0);
    let small: Vec<Number> = (0..3).map(|_| queue.enter(wants(1, 10), 0)).collect();
    // 36 are free, but only 20 are left beside the big one.
    assert_eq!(start(&mut queue, 0), small[..2]);
    let wait = queue.wait(big).unwrap();
    let obstacle = Obstacle::Memory {
        needed: 80,
        free: 16,
        all: 100,
    };
    assert_eq!((wait.obstacle, wait.before), (obstacle, 0));
    assert!(matches!(
        queue.wait(small[2]).unwrap().obstacle,
        Obstacle::Memory { free: 0, .. }
    ));
    queue.leave(first, 0);
    assert_eq!(start(&mut queue, 0), [big]);
    queue.leave(small[0], 0);
    assert_eq!(start(&mut queue, 0), [small[2]]);
}

#[test]
fn who_wants_more_than_there_is_gets_all_of_it() {
    let mut queue = machine(4, 100);
    let all = queue.enter(wants(1, 1 << 40), 0);
    let other = queue.enter(wants(1, 1), 0);
    assert_eq!(start(&mut queue, 0), [all]);
    queue.leave(all, 0);
    assert_eq!(start(&mut queue, 0), [other]);
    let cpus = Ticket {
        reservation: Reservation {
            memory: 0,
            cpus: 64_000,
        },
        ..ticket(1)
    };
    let mut queue = Schedule::new(Capacity {
        slots: 4,
        cpus: 2000,
        ..Capacity::default()
    });
    let runs = [1, 2].map(|account| {
        queue.enter(
            Ticket {
                account: AccountId(account),
                ..cpus
            },
            0,
        )
    });
    assert_eq!(start(&mut queue, 0), runs[..1]);
    let wait = queue.wait(runs[1]).unwrap();
    assert_eq!(wait.to_string(), "waiting for processors (2 of 2 reserved)");
}

#[test]
fn processors_are_shared_as_long_as_some_are_not_reserved() {
    let mut queue = Schedule::new(Capacity {
        slots: 9,
        cpus: 4000,
        ..Capacity::default()
    });
    let uses = |cpus| Ticket {
        reservation: Reservation { memory: 0, cpus },
        ..ticket(1)
    };
    let runs: Vec<Number> = [3500, 3500, 100].map(|cpus| queue.enter(uses(cpus), 0)).into();
    assert_eq!(start(&mut queue, 0), runs[..2]);
    queue.leave(runs[0], 0);
    assert_eq!(start(&mut queue, 0), runs[2..]);
}

#[test]
fn a_big_one_leaves_the_others_way_when_it_goes() {
    let mut queue = machine(4, 100);
    let first = queue.enter(wants(1, 60), 0);
    start(&mut queue, 0);
    let big = queue.enter(wants(1, 100), 0);
    let small = queue.enter(wants(1, 10), 0);
    assert_eq!(start(&mut queue, 0), []);
    queue.leave(big, 0);
    assert_eq!(start(&mut queue, 0), [small]);
    queue.leave(first, 0);
    assert_eq!((queue.running(), queue.waiting()), (1, 0));
}

/// A flood of runs that each want the whole machine delays no better claim.
#[test]
fn who_has_had_less_does_not_wait_for_what_is_held() {
    let mut queue = machine(4, 100);
    let small = queue.enter(wants(1, 10), 0);
    start(&mut queue, 0);
    let floods: Vec<Number> = (0..9).map(|_| queue.enter(wants(1, 100), 0)).collect();
    assert_eq!(start(&mut queue, 500), []);
    let single = queue.enter(wants(2, 10), 1000);
    assert_eq!(start(&mut queue, 1000), [single]);
    queue.leave(single, 2000);
    queue.leave(small, 2000);
    assert_eq!(start(&mut queue, 2000), floods[..1]);
}
