//! Which waiting run starts next: the queue against a model of it, and what it promises.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod against_model;
mod fair;
mod memory;
mod model;

use firn_core::AccountId;
use firn_core::schedule::{Reservation, Share, Ticket};

/// A ticket of nothing special.
pub fn ticket(account: i64) -> Ticket {
    Ticket {
        account: AccountId(account),
        share: Share::default(),
        urgency: 0,
        reservation: Reservation::default(),
    }
}

/// One that wants memory.
pub fn wants(account: i64, memory: u64) -> Ticket {
    Ticket {
        reservation: Reservation { memory, cpus: 0 },
        ..ticket(account)
    }
}
