//! What an account has does not depend on how much another one asks for.

use std::collections::BTreeMap;

use firn_core::AccountId;
use firn_core::schedule::{Capacity, Number, Obstacle, Schedule, Share, Ticket};
use proptest::prelude::*;

use crate::ticket;

/// A machine on which every run of an account takes its time.
struct Machine {
    queue: Schedule,
    now: u64,
    tickets: BTreeMap<Number, Ticket>,
    /// By their ends.
    ends: BTreeMap<(u64, Number), ()>,
    lasts: fn(AccountId) -> u64,
    /// Time of slots by account.
    had: BTreeMap<AccountId, u64>,
}

impl Machine {
    fn new(slots: usize, lasts: fn(AccountId) -> u64) -> Self {
        Self {
            queue: Schedule::new(Capacity {
                slots,
                ..Capacity::default()
            }),
            now: 0,
            tickets: BTreeMap::new(),
            ends: BTreeMap::new(),
            lasts,
            had: BTreeMap::new(),
        }
    }

    fn enter(&mut self, ticket: Ticket) -> Number {
        let number = self.queue.enter(ticket, self.now);
        self.tickets.insert(number, ticket);
        number
    }

    /// What starts now.
    fn start(&mut self) -> Vec<Number> {
        let mut started = Vec::new();
        while let Some(number) = self.queue.start_next(self.now) {
            let account = self.tickets[&number].account;
            self.ends.insert((self.now + (self.lasts)(account), number), ());
            started.push(number);
        }
        started
    }

    /// Until the next run ends.
    fn step(&mut self) {
        let ((now, number), ()) = self.ends.pop_first().unwrap();
        self.now = now;
        let account = self.tickets[&number].account;
        *self.had.entry(account).or_default() += (self.lasts)(account);
        self.queue.leave(number, now);
    }

    fn run_until(&mut self, now: u64) {
        self.start();
        while self
            .ends
            .first_key_value()
            .is_some_and(|((end, _), ())| *end <= now)
        {
            self.step();
            self.start();
        }
        self.now = now;
    }

    fn had(&self, account: i64) -> f64 {
        self.had.get(&AccountId(account)).copied().unwrap_or(0) as f64
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn floods_delay_a_single_run_by_one_of_each_at_the_most(
        slots in 1..5_usize, flood in 1..400_usize, floods in 1..4_i64, later in 0..2_000_000_u64,
    ) {
        let mut machine = Machine::new(slots, |account| 1000 + 77_000 * account.0.unsigned_abs());
        for n in 0..flood {
            machine.enter(ticket(1 + n as i64 % floods));
        }
        machine.run_until(later);
        let single = machine.enter(ticket(9));
        // Others may have had as little, and wait for longer: each of them once.
        let mut slots = 0;
        while !machine.start().contains(&single) {
            slots += 1;
            prop_assert!(slots <= floods.unsigned_abs() as usize);
            machine.step();
        }
    }

    #[test]
    fn a_flood_delays_nobody_beyond_the_next_free_slot(
        slots in 1..5_usize, flood in 1..400_usize, later in 0..2_000_000_u64,
    ) {
        let mut machine = Machine::new(slots, |_| 78_000);
        for _ in 0..flood {
            machine.enter(ticket(1));
        }
        machine.run_until(later);
        let single = machine.enter(ticket(9));
        if machine.start().contains(&single) {
            return Ok(());
        }
        machine.step();
        prop_assert_eq!(machine.start(), vec![single]);
    }

    #[test]
    fn slot_time_is_shared_by_weight(slots in 1..6_usize, weights in (1..5_u32, 1..5_u32)) {
        // Short runs and long ones.
        let mut machine = Machine::new(slots, |account| if account.0 == 1 { 400 } else { 9_000 });
        let weighs = |account, weight| Ticket {
            share: Share { weight, max_runs: None },
            ..ticket(account)
        };
        let time = 1_200_000;
        for _ in 0..time as usize * slots / 400 {
            machine.enter(weighs(1, weights.0));
        }
        for _ in 0..time as usize * slots / 9_000 {
            machine.enter(weighs(2, weights.1));
        }
        machine.run_until(time);
        let (is, should) = (machine.had(1) / machine.had(2), f64::from(weights.0) / f64::from(weights.1));
        prop_assert!((is / should - 1.0).abs() < 0.12, "{is} {should}");
    }
}

#[test]
fn what_nobody_else_wanted_is_not_held_against_anybody() {
    let mut machine = Machine::new(4, |_| 1000);
    for _ in 0..4000 {
        machine.enter(ticket(1));
    }
    machine.run_until(1_000_000);
    // Alone for long; from now on both want all of it.
    let before = machine.had(1);
    assert!(before > 3_900_000.0);
    for account in [1, 2] {
        for _ in 0..2000 {
            machine.enter(ticket(account));
        }
    }
    machine.run_until(1_500_000);
    let (first, second) = (machine.had(1) - before, machine.had(2));
    assert!((first / second - 1.0).abs() < 0.05, "{first} {second}");
}

#[test]
fn waiting_for_nothing_is_no_credit() {
    let mut machine = Machine::new(2, |_| 1000);
    machine.enter(ticket(3));
    for _ in 0..4000 {
        machine.enter(ticket(1));
        machine.enter(ticket(2));
    }
    // 3 asked for one run at the start, and comes back after the others have used much.
    machine.run_until(1_000_000);
    for _ in 0..4000 {
        machine.enter(ticket(3));
    }
    let before = machine.had(1);
    machine.run_until(1_300_000);
    let (others, back) = (machine.had(1) - before, machine.had(3));
    assert!((others / back - 1.0).abs() < 0.1, "{others} {back}");
}

#[test]
fn an_accounts_limit_holds_its_own_runs_only() {
    let mut machine = Machine::new(4, |_| 1000);
    let limited = Ticket {
        share: Share {
            weight: 100,
            max_runs: Some(1),
        },
        ..ticket(1)
    };
    let runs: Vec<Number> = (0..3).map(|_| machine.enter(limited)).collect();
    let other = machine.enter(ticket(2));
    assert_eq!(machine.start(), [runs[0], other]);
    let wait = machine.queue.wait(runs[2]).unwrap();
    assert_eq!((wait.obstacle, wait.before), (Obstacle::Account { limit: 1 }, 1));
    assert_eq!(
        wait.to_string(),
        "waiting for the account's other builds (at most 1 build at a time, 1 before it)"
    );
    machine.step();
    assert_eq!(machine.start(), [runs[1]]);
}

#[test]
fn the_most_urgent_is_first_then_the_oldest() {
    let mut machine = Machine::new(1, |_| 1000);
    let urgent = |urgency| Ticket { urgency, ..ticket(1) };
    let runs: Vec<Number> = [5, 5, 9, 0, 7].map(|n| machine.enter(urgent(n))).into();
    // Another account's urgency is no matter.
    let other = machine.enter(Ticket {
        account: AccountId(2),
        ..urgent(1)
    });
    let mut order = machine.start();
    for _ in 0..5 {
        machine.step();
        order.extend(machine.start());
    }
    let own: Vec<Number> = order.iter().copied().filter(|n| *n != other).collect();
    assert_eq!(own, [runs[2], runs[4], runs[0], runs[1], runs[3]]);
    assert!(order[..2].contains(&other), "{order:?}");
}

#[test]
fn a_run_that_two_want_has_the_better_turn_of_both() {
    let mut machine = Machine::new(1, |_| 1000);
    let flood: Vec<Number> = (0..100).map(|_| machine.enter(ticket(1))).collect();
    machine.start();
    let waits = machine.queue.wait(flood[50]).unwrap();
    assert_eq!(
        waits.to_string(),
        "waiting for a free slot (1 of 1 in use, 49 before it)"
    );
    machine.queue.claim(flood[50], ticket(2), 0);
    assert_eq!(machine.queue.wait(flood[50]).unwrap().before, 0);
    machine.step();
    assert_eq!(machine.start(), [flood[50]]);
    // One that has had as much already makes it no later.
    machine.queue.claim(flood[1], ticket(2), machine.now);
    machine.step();
    assert_eq!(machine.start(), [flood[1]]);
}

#[test]
fn a_hundred_thousand_may_wait() {
    let mut machine = Machine::new(64, |_| 1000);
    for n in 0..100_000_u64 {
        let urgency = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let account = AccountId(n as i64 % 7);
        machine.enter(Ticket {
            account,
            urgency,
            ..ticket(1)
        });
    }
    let last = machine.enter(ticket(1));
    assert_eq!(machine.queue.wait(last).unwrap().before, 1000);
    let mut started = machine.start().len();
    while !machine.ends.is_empty() {
        machine.step();
        started += machine.start().len();
    }
    assert_eq!(started, 100_001);
}

#[test]
fn a_limit_that_is_lowered_holds_for_what_waits() {
    let account = AccountId(1);
    let limited = |max_runs| Share {
        max_runs,
        ..Share::default()
    };
    let mut queue = Schedule::new(Capacity {
        slots: 4,
        ..Capacity::default()
    });
    let ticket = Ticket {
        share: limited(None),
        ..ticket(1)
    };
    let numbers: Vec<Number> = (0..6).map(|_| queue.enter(ticket, 0)).collect();
    assert_eq!(
        (queue.start_next(0), queue.start_next(0)),
        (Some(numbers[0]), Some(numbers[1]))
    );
    queue.set_share(account, limited(Some(1)), 0);
    assert_eq!(queue.start_next(0), None);
    queue.leave(numbers[0], 0);
    assert_eq!(queue.start_next(0), None, "one still runs");
    queue.leave(numbers[1], 0);
    assert_eq!(
        (queue.start_next(0), queue.start_next(0)),
        (Some(numbers[2]), None)
    );
    queue.set_share(account, limited(None), 0);
    assert_eq!(queue.start_next(0), Some(numbers[3]));
    // One that has never been here stays unknown.
    queue.set_share(AccountId(9), limited(Some(1)), 0);
}
