//! Which waiting run starts next: the order of a queue of runs that compete for one machine.
//!
//! *Between accounts* the order is weighted fair. An account's use is the time of the slots that it had, divided by its weight; what
//! would keep other runs out by its memory or processors counts as that many slots. The account with the least use is next, where a run that is
//! going on counts [`QUANTUM`] milliseconds ahead, so that slots that come free at once are shared too. Waiting is no
//! credit: who comes back stands where the least served of those who wait stands. How long others' runs took is no part of this.
//!
//! *Within an account* the most urgent run is next, then the oldest. Each account may have a limit of runs at a time.
//!
//! *Resources.* Memory cannot be lent: what is reserved fits. The first run in the order that does not fit *holds* what it
//! needs: from then on others start only in what is left beside it, so it starts at the latest when those have ended that were running
//! before, and whatever has a better claim. Processors can be shared: a run starts as long as some are not reserved, and may go over by itself.
//!
//! ```
//! use firn_core::AccountId;
//! use firn_core::schedule::{Capacity, Reservation, Schedule, Share, Ticket};
//!
//! let mut queue = Schedule::new(Capacity { slots: 1, ..Capacity::default() });
//! let ticket = |account| Ticket { account: AccountId(account), share: Share::default(), urgency: 0, reservation: Reservation::default() };
//! let flood: Vec<_> = (0..1000).map(|_| queue.enter(ticket(1), 0)).collect();
//! assert_eq!(queue.start_next(0), Some(flood[0]));
//! let single = queue.enter(ticket(2), 5);
//! queue.leave(flood[0], 10);
//! assert_eq!(queue.start_next(10), Some(single));
//! ```

mod amounts;
mod expected;
mod line;
mod order;
mod wait;

use std::collections::BTreeMap;

use crate::AccountId;

pub use amounts::{Capacity, Reservation};
pub use expected::{Expected, Past};
pub use wait::{Obstacle, Wait};

use amounts::{Taken, graded, slots_of};
use line::Place;
use order::Order;

/// Milliseconds that a run that is going on is expected to go on, when it is asked who has had the least.
pub const QUANTUM: u64 = 10_000;

/// What an account may have of a machine that others want too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Twice the weight is twice the slot time. 0 is taken as 1.
    pub weight: u32,
    /// Runs at a time. 0 is taken as 1.
    pub max_runs: Option<usize>,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            weight: 100,
            max_runs: None,
        }
    }
}

/// What a run wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Whose use it is.
    pub account: AccountId,
    /// What the account may have, from now on.
    pub share: Share,
    /// Milliseconds of work that cannot be done before this run is, itself included; the largest is first.
    pub urgency: u64,
    /// What it is expected to take. More than there is counts as all there is.
    pub reservation: Reservation,
}

/// Number of a run in its queue; a later one is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub u64);

#[derive(Clone, Copy, Debug)]
struct Run {
    account: AccountId,
    place: Place,
    taken: Taken,
    /// `None` while it waits; then the hold that it passed, if any.
    started: Option<Option<HoldId>>,
}

/// A run that comes to be next again holds anew.
type HoldId = u64;

/// The run that is next and does not fit, and what passed it.
#[derive(Clone, Copy, Debug)]
struct Hold {
    id: HoldId,
    number: Number,
    beside: Taken,
    runs: usize,
}

/// A queue. Times are milliseconds of any clock that does not go back.
#[derive(Clone, Debug)]
pub struct Schedule {
    capacity: Capacity,
    runs: BTreeMap<Number, Run>,
    order: Order,
    taken: Taken,
    running: usize,
    hold: Option<Hold>,
    holds: HoldId,
    last: u64,
}

impl Schedule {
    /// An empty one. A capacity of no slots is taken as one slot.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity: capacity.usable(),
            runs: BTreeMap::new(),
            order: Order::default(),
            taken: Taken::default(),
            running: 0,
            hold: None,
            holds: 0,
            last: 0,
        }
    }

    /// What there is to take.
    #[must_use]
    pub const fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Runs that go on.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// Runs that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.runs.len().saturating_sub(self.running)
    }

    /// A run waits from now on.
    pub fn enter(&mut self, ticket: Ticket, now: u64) -> Number {
        self.order.advance(now);
        self.last += 1;
        let number = Number(self.last);
        let Reservation { memory, cpus } = ticket.reservation;
        let taken = Taken {
            memory: graded(memory).min(self.capacity.memory),
            cpus: cpus.min(self.capacity.cpus),
        };
        let run = Run {
            account: ticket.account,
            place: Place::new(ticket.urgency, number),
            taken,
            started: None,
        };
        self.order.change(ticket.account, |account| {
            account.share(ticket.share);
            account.line.insert(run.place, taken.memory);
        });
        self.runs.insert(number, run);
        number
    }

    /// What an account may have from now on; what it has running stays.
    pub fn set_share(&mut self, account: AccountId, share: Share, now: u64) {
        self.order.advance(now);
        if self.order.account(account).is_some() {
            self.order.change(account, |account| account.share(share));
        }
    }

    /// A run waits no more, or has ended. Unknown numbers are nothing.
    pub fn leave(&mut self, number: Number, now: u64) {
        self.order.advance(now);
        let Some(run) = self.runs.remove(&number) else {
            return;
        };
        match run.started {
            None => {
                self.order.change(run.account, |account| {
                    account.line.remove(run.place, run.taken.memory)
                });
                self.hold.take_if(|hold| hold.number == number);
            }
            Some(passed) => {
                self.running -= 1;
                self.taken.give_back(run.taken);
                let slots = slots_of(run.taken, self.capacity);
                self.order.change(run.account, |account| account.end(slots));
                if let Some(hold) = &mut self.hold
                    && passed == Some(hold.id)
                {
                    hold.beside.give_back(run.taken);
                    hold.runs -= 1;
                }
            }
        }
    }

    /// Starts the run that is next, if one can start now. Call it until it says `None`.
    pub fn start_next(&mut self, now: u64) -> Option<Number> {
        self.order.advance(now);
        if self.is_full() {
            return None;
        }
        let (place, passes) = self.next()?;
        let run = self.runs.get_mut(&place.number())?;
        run.started = Some(passes);
        let run = *run;
        self.running += 1;
        self.taken.take(run.taken);
        match &mut self.hold {
            Some(hold) if passes == Some(hold.id) => {
                hold.beside.take(run.taken);
                hold.runs += 1;
            }
            hold => drop(hold.take_if(|hold| hold.number == place.number())),
        }
        let slots = slots_of(run.taken, self.capacity);
        self.order.start(run.account, |account| {
            account.line.remove(run.place, run.taken.memory);
            account.begin(slots);
        });
        Some(place.number())
    }

    /// Whether nothing can start, whatever it is.
    fn is_full(&self) -> bool {
        self.running >= self.capacity.slots || self.taken.cpus >= self.capacity.cpus
    }

    /// The run that starts next, and which hold it passes.
    fn next(&mut self) -> Option<(Place, Option<HoldId>)> {
        let free = self.capacity.memory.saturating_sub(self.taken.memory);
        let (holder, account) = self.order.accounts().next()?;
        let (first, memory) = account.line.first()?;
        if memory <= free {
            return Some((first, None));
        }
        let hold = match self.hold {
            Some(hold) if hold.number == first.number() => hold,
            _ => Hold {
                id: self.holds + 1,
                number: first.number(),
                beside: Taken::default(),
                runs: 0,
            },
        };
        self.hold = Some(hold);
        self.holds = hold.id.max(self.holds);
        if hold.runs + 1 >= self.capacity.slots {
            return None;
        }
        let beside = self.capacity.memory.saturating_sub(memory);
        let room = beside.saturating_sub(hold.beside.memory).min(free);
        let leaves_processors = |place: &Place| {
            let run = self.runs.get(&place.number());
            run.is_some_and(|run| hold.beside.cpus.saturating_add(run.taken.cpus) < self.capacity.cpus)
        };
        self.order
            .accounts()
            .filter(|(id, account)| *id != holder || account.leaves_a_run())
            .filter_map(|(_, account)| account.line.fitting(room))
            .find(leaves_processors)
            .map(|place| (place, Some(hold.id)))
    }

    /// Another account wants the same run: it counts for the one whose turn is sooner, and is as urgent as it is for either.
    pub fn claim(&mut self, number: Number, other: Ticket, now: u64) {
        self.order.advance(now);
        let Some(run) = self.runs.get_mut(&number).filter(|run| run.started.is_none()) else {
            return;
        };
        let before = *run;
        run.place = Place::new(run.place.urgency().max(other.urgency), number);
        if self.order.is_sooner(other.account, other.share, run.account) {
            run.account = other.account;
        }
        let after = *run;
        let memory = run.taken.memory;
        self.order.change(before.account, |account| {
            account.line.remove(before.place, memory)
        });
        self.order.change(after.account, |account| {
            if after.account == other.account {
                account.share(other.share);
            }
            account.line.insert(after.place, memory);
        });
    }
}
