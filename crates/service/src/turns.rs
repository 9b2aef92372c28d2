//! Turns at what only a few can do at once, fairly by account: one account's load delays another by at most one turn of each account
//! that waits, however much it asks for.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firn_core::AccountId;
use tokio::sync::oneshot;

tokio::task_local! {
    static ON_BEHALF_OF: AccountId;
}

/// Does something on behalf of an account: the turns that it takes are the account's. What it spawns is nobody's again.
pub fn on_behalf_of<F: Future>(account: AccountId, work: F) -> impl Future<Output = F::Output> {
    ON_BEHALF_OF.scope(account, work)
}

/// Whose turn it is that is asked for here; `None` for the service's own work, which waits as one account more.
fn asking() -> Option<AccountId> {
    ON_BEHALF_OF.try_with(|account| *account).ok()
}

/// So many turns at once. Clones are the same ones.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Accounts that wait, in the order of their turns; who has had one goes to the end.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    account: Option<AccountId>,
    /// In the order of asking; never empty.
    turns: VecDeque<oneshot::Sender<()>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn(Turns);

impl Turns {
    /// `most` at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: most,
            waiting: VecDeque::new(),
        })))
    }

    /// Waits for a turn of whoever this is done on behalf of.
    pub async fn turn(&self) -> Turn {
        self.turn_of(asking()).await
    }

    async fn turn_of(&self, account: Option<AccountId>) -> Turn {
        let Some(granted) = self.ask(account) else {
            return Turn(self.clone());
        };
        let mut wait = Wait {
            turns: self.clone(),
            granted: Some(granted),
        };
        if let Some(granted) = &mut wait.granted {
            // Whoever waits is granted a turn before it is forgotten.
            let _ = granted.await;
        }
        wait.granted = None;
        Turn(self.clone())
    }

    /// `None` when the turn is there at once.
    fn ask(&self, account: Option<AccountId>) -> Option<oneshot::Receiver<()>> {
        let mut state = self.lock();
        if state.free > 0 {
            state.free -= 1;
            return None;
        }
        let (grant, granted) = oneshot::channel();
        match state
            .waiting
            .iter_mut()
            .find(|waiting| waiting.account == account)
        {
            Some(waiting) => waiting.turns.push_back(grant),
            None => state.waiting.push_back(Waiting {
                account,
                turns: VecDeque::from([grant]),
            }),
        }
        Some(granted)
    }

    /// Gives a turn to the next account.
    fn pass_on(&self) {
        let mut state = self.lock();
        while let Some(mut next) = state.waiting.pop_front() {
            let mut taken = false;
            while let Some(grant) = next.turns.pop_front() {
                // Who does not wait any more is passed over.
                taken = grant.send(()).is_ok();
                if taken {
                    break;
                }
            }
            if !next.turns.is_empty() {
                state.waiting.push_back(next);
            }
            if taken {
                return;
            }
        }
        state.free += 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

/// Somebody who waits, and may give up.
struct Wait {
    turns: Turns,
    granted: Option<oneshot::Receiver<()>>,
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(mut granted) = self.granted.take() {
            granted.close();
            if granted.try_recv().is_ok() {
                self.turns.pass_on();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: AccountId = AccountId(1);
    const BOB: AccountId = AccountId(2);

    #[tokio::test]
    async fn who_asks_for_much_delays_others_by_one_turn() {
        let turns = Turns::new(1);
        let first = turns.turn().await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for account in std::iter::repeat_n(ALICE, 100).chain([BOB, BOB]) {
            let (turns, order) = (turns.clone(), Arc::clone(&order));
            tasks.spawn(on_behalf_of(account, async move {
                let _turn = turns.turn().await;
                order.lock().unwrap().push(account);
            }));
        }
        let waiting = || turns.lock().waiting.iter().map(|w| w.turns.len()).sum::<usize>();
        while waiting() < 102 {
            tokio::task::yield_now().await;
        }
        drop(first);
        tasks.join_all().await;
        let order = order.lock().unwrap();
        let bobs: Vec<usize> = (0..order.len()).filter(|n| order[*n] == BOB).collect();
        assert_eq!(bobs, [1, 3]);
        assert_eq!(turns.lock().free, 1);
    }

    #[tokio::test]
    async fn who_gives_up_costs_no_turn() {
        let turns = Turns::new(2);
        let held = [turns.turn().await, turns.turn().await];
        for _ in 0..3 {
            let mut gives_up = Box::pin(turns.turn_of(Some(ALICE)));
            assert!(futures_poll(&mut gives_up).await.is_none());
        }
        // Granted, and not looked at.
        let mut granted = Box::pin(turns.turn_of(Some(BOB)));
        assert!(futures_poll(&mut granted).await.is_none());
        drop(held);
        drop(granted);
        assert_eq!(turns.lock().free, 2);
        assert!(turns.lock().waiting.is_empty());
    }

    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let once = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        });
        once.await
    }
}
