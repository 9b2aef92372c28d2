//! Any sequence of events gives what the model gives, and takes no more than there is.

use std::collections::BTreeMap;

use firn_core::AccountId;
use firn_core::schedule::{Capacity, Number, Reservation, Schedule, Share, Ticket};
use proptest::prelude::*;

use crate::model::Model;

#[derive(Clone, Debug)]
enum Event {
    Enter(Ticket),
    /// One that runs, or waits.
    Leave {
        running: bool,
        which: usize,
    },
    Claim {
        which: usize,
        by: Ticket,
    },
    Pass(u64),
}

fn ticket() -> impl Strategy<Value = Ticket> {
    let share = (1..4_u32, prop::option::weighted(0.3, 1..3_usize));
    let wants = (
        prop_oneof![Just(0), 0..40_u64, 0..200_u64],
        prop_oneof![Just(0), 0..5000_u64],
    );
    (1..5_i64, share, prop_oneof![Just(0), 0..4_u64], wants).prop_map(
        |(account, (weight, max_runs), urgency, (memory, cpus))| Ticket {
            account: AccountId(account),
            share: Share { weight, max_runs },
            urgency,
            reservation: Reservation { memory, cpus },
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => ticket().prop_map(Event::Enter),
        4 => (any::<bool>(), 0..100_usize).prop_map(|(running, which)| Event::Leave { running, which }),
        1 => (0..100_usize, ticket()).prop_map(|(which, by)| Event::Claim { which, by }),
        3 => (0..30_000_u64).prop_map(Event::Pass),
    ]
}

fn capacity() -> impl Strategy<Value = Capacity> {
    let memory = prop_oneof![Just(u64::MAX), 50..150_u64];
    let cpus = prop_oneof![Just(u64::MAX), 1000..8000_u64];
    (1..6_usize, memory, cpus).prop_map(|(slots, memory, cpus)| Capacity { slots, memory, cpus })
}

/// What is known from outside: tickets by number, and which of them run.
#[derive(Default)]
struct Seen {
    tickets: BTreeMap<Number, Ticket>,
    running: Vec<Number>,
    waiting: Vec<Number>,
}

impl Seen {
    fn within(&self, capacity: Capacity) {
        let wanted = self.running.iter().map(|n| self.tickets[n]);
        let memory = wanted.map(|t| t.reservation.memory.min(capacity.memory));
        let memory: u128 = memory.map(u128::from).sum();
        assert!(self.running.len() <= capacity.slots && memory <= u128::from(capacity.memory));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn like_the_model(capacity in capacity(), events in prop::collection::vec(event(), 1..120)) {
        let mut queue = Schedule::new(capacity);
        let mut model = Model::new(capacity);
        let mut seen = Seen::default();
        let mut now = 0;
        for event in events {
            match event {
                Event::Pass(time) => now += time,
                Event::Enter(ticket) => {
                    let number = queue.enter(ticket, now);
                    prop_assert_eq!(number, model.enter(ticket, now));
                    seen.tickets.insert(number, ticket);
                    seen.waiting.push(number);
                }
                Event::Leave { running, which } => {
                    let of = if running { &mut seen.running } else { &mut seen.waiting };
                    if of.is_empty() {
                        continue;
                    }
                    let number = of.remove(which % of.len());
                    queue.leave(number, now);
                    model.leave(number, now);
                    // Again is nothing.
                    queue.leave(number, now);
                }
                Event::Claim { which, by } => {
                    if seen.waiting.is_empty() {
                        continue;
                    }
                    let number = seen.waiting[which % seen.waiting.len()];
                    queue.claim(number, by, now);
                    model.claim(number, by, now);
                }
            }
            loop {
                let next = queue.start_next(now);
                prop_assert_eq!(next, model.start_next(now));
                let Some(number) = next else { break };
                seen.waiting.retain(|n| *n != number);
                seen.running.push(number);
                seen.within(capacity);
                prop_assert!(queue.wait(number).is_none());
            }
            prop_assert_eq!((queue.running(), queue.waiting()), (seen.running.len(), seen.waiting.len()));
            for number in &seen.waiting {
                let wait = queue.wait(*number).unwrap();
                prop_assert!(wait.before <= seen.waiting.len());
            }
            // An empty machine never lets anybody wait.
            prop_assert!(!seen.running.is_empty() || seen.waiting.is_empty());
        }
    }
}
