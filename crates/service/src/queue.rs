//! Runs that wait for the machine: [`Schedule`] with a clock, and somebody to wake.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firn_core::AccountId;
use firn_core::schedule::{Capacity, Number, Schedule, Share, Ticket, Wait};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// The queue of one machine. Clones are the same queue.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    begun: Instant,
    /// Told once when a change was broken off.
    broken: Notify,
}

struct State {
    schedule: Schedule,
    /// Of runs that wait.
    wake: HashMap<Number, oneshot::Sender<()>>,
}

impl Queue {
    pub(crate) fn new(capacity: Capacity) -> Self {
        let state = State {
            schedule: Schedule::new(capacity),
            wake: HashMap::new(),
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            begun: Instant::now(),
            broken: Notify::new(),
        }))
    }

    /// A run waits from now on, until its place is dropped.
    pub(crate) fn enter(&self, ticket: Ticket) -> Place {
        let (wake, turn) = oneshot::channel();
        let number = self.0.change(|state, now| {
            let number = state.schedule.enter(ticket, now);
            state.wake.insert(number, wake);
            number
        });
        Place {
            seat: Seat {
                queue: self.clone(),
                number,
            },
            turn,
        }
    }

    /// Another account wants a run that waits.
    pub(crate) fn claim(&self, number: Number, other: Ticket) {
        self.0
            .change(|state, now| state.schedule.claim(number, other, now));
    }

    /// Returns when a change of the queue was broken off: then it may be that nobody gets a turn any more.
    pub(crate) async fn broken(&self) {
        self.0.broken.notified().await;
    }

    /// What an account may have from now on.
    pub(crate) fn set_share(&self, account: AccountId, share: Share) {
        self.0
            .change(|state, now| state.schedule.set_share(account, share, now));
    }

    /// What a run waits for; `None` when it does not.
    pub(crate) fn wait(&self, number: Number) -> Option<Wait> {
        self.0.lock().schedule.wait(number)
    }

    /// Runs that have their turn, and those that wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.schedule.running(), state.schedule.waiting())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            self.broken.notify_one();
            poisoned.into_inner()
        })
    }

    /// Changes the queue, and wakes whose turn it is then.
    fn change<T>(&self, how: impl FnOnce(&mut State, u64) -> T) -> T {
        let mut state = self.lock();
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let changed = how(&mut state, now);
        while let Some(number) = state.schedule.start_next(now) {
            if let Some(wake) = state.wake.remove(&number) {
                // Whoever went away meanwhile is about to leave.
                let _ = wake.send(());
            }
        }
        changed
    }
}

/// A run in the queue. Leaves it when dropped.
pub(crate) struct Place {
    seat: Seat,
    turn: oneshot::Receiver<()>,
}

/// What a run has that runs. Gives it back when dropped.
pub(crate) struct Turn {
    _seat: Seat,
}

struct Seat {
    queue: Queue,
    number: Number,
}

impl Place {
    pub(crate) fn number(&self) -> Number {
        self.seat.number
    }

    /// Waits for the turn. Whoever stops waiting has left the queue.
    pub(crate) async fn turn(self) -> Turn {
        // The queue keeps the other end until it is used.
        let _ = self.turn.await;
        Turn { _seat: self.seat }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.queue.0.change(|state, now| {
            state.wake.remove(&self.number);
            state.schedule.leave(self.number, now);
        });
    }
}

#[cfg(test)]
mod tests {
    use firn_core::schedule::Reservation;

    use super::*;

    fn queue(slots: usize) -> Queue {
        Queue::new(Capacity {
            slots,
            ..Capacity::default()
        })
    }

    fn ticket(account: i64) -> Ticket {
        Ticket {
            account: AccountId(account),
            share: Share::default(),
            urgency: 0,
            reservation: Reservation::default(),
        }
    }

    #[tokio::test]
    async fn a_change_that_is_broken_off_is_told() {
        let queue = queue(1);
        let place = queue.enter(ticket(1));
        let inner = queue.clone();
        let broken = tokio::spawn(async move { inner.0.change(|_, _| panic!("in the middle")) });
        assert!(broken.await.is_err_and(|e| e.is_panic()));
        // Whoever looks at it next finds it so.
        drop(place);
        queue.broken().await;
    }

    #[tokio::test]
    async fn turns_are_taken_and_given_back() {
        let queue = queue(1);
        let first = queue.enter(ticket(1)).turn().await;
        let second = queue.enter(ticket(1));
        let number = second.number();
        assert_eq!(queue.counts(), (1, 1));
        assert!(queue.wait(number).is_some());
        let second = tokio::spawn(second.turn());
        drop(first);
        let second = second.await.unwrap();
        assert_eq!((queue.counts(), queue.wait(number)), ((1, 0), None));
        drop(second);
        assert_eq!(queue.counts(), (0, 0));
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_at_any_time() {
        let queue = queue(1);
        let first = queue.enter(ticket(1)).turn().await;
        let unasked = queue.enter(ticket(1));
        let mut asked = Box::pin(queue.enter(ticket(1)).turn());
        assert!(futures_poll(&mut asked).await);
        // Its turn has come, and it has not noticed.
        let mut woken = Box::pin(queue.enter(ticket(1)).turn());
        assert!(futures_poll(&mut woken).await);
        drop(unasked);
        drop(asked);
        assert_eq!(queue.counts(), (1, 1));
        drop(first);
        assert_eq!(queue.counts(), (1, 0));
        drop(woken);
        assert_eq!(queue.counts(), (0, 0));
        drop(queue.enter(ticket(1)).turn().await);
    }

    /// Whether it waits still.
    async fn futures_poll<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> bool {
        let mut polled = false;
        tokio::select! {
            biased;
            _ = future => {}
            () = std::future::ready(()) => polled = true,
        }
        polled
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_storm_leaves_nothing_behind() {
        let queue = queue(3);
        let mut storm = tokio::task::JoinSet::new();
        for n in 0..400_u64 {
            let queue = queue.clone();
            storm.spawn(async move {
                let dice = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
                let turn = queue.enter(ticket((dice % 5).cast_signed())).turn();
                if dice % 3 == 0 {
                    let _ = tokio::time::timeout(std::time::Duration::from_micros(dice % 900), turn).await;
                    return;
                }
                let turn = turn.await;
                assert!(queue.counts().0 <= 3);
                tokio::task::yield_now().await;
                drop(turn);
            });
        }
        while let Some(ended) = storm.join_next().await {
            ended.unwrap();
        }
        assert_eq!(queue.counts(), (0, 0));
    }
}
