//! Memory for what clients send: one budget for all sessions together.
//!
//! A request's first [`FREE`] bytes come out of nothing, as sessions are limited in number. What is beyond them is held by the request
//! until it is answered, and by a derivation until its run has ended. One account may hold as much as is left free for the others, so that there is
//! always room for one that holds nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Bytes of a request that are not counted.
pub const FREE: u64 = 64 << 10;

/// Bytes that are taken from the budget at once.
const PIECE: u64 = 256 << 10;

/// How long a request waits for others to give back what they hold.
const PATIENCE: Duration = Duration::from_secs(10);

/// The budget. Clones are the same one.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    most: u64,
    patience: Duration,
    taken: Mutex<Taken>,
    given_back: Notify,
}

#[derive(Default)]
struct Taken {
    all: u64,
    /// By account; nobody is here that holds nothing.
    by: HashMap<i64, u64>,
}

/// There is not enough memory for a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the service is busy: requests and builds of this account hold {held} bytes of its memory, and {wanted} more are not free; \
     wait until some have ended, then try again"
)]
pub struct Busy {
    /// Bytes that the account holds.
    pub held: u64,
    /// Bytes that it wanted besides.
    pub wanted: u64,
}

impl Memory {
    /// So many bytes for all accounts together.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self::with_patience(most, PATIENCE)
    }

    /// The same with another wait for what others hold.
    #[must_use]
    pub fn with_patience(most: u64, patience: Duration) -> Self {
        Self(Arc::new(Shared {
            most,
            patience,
            taken: Mutex::default(),
            given_back: Notify::new(),
        }))
    }

    /// Nothing yet, to be taken for an account.
    #[must_use]
    pub fn hold(&self, account: i64) -> Held {
        Held {
            memory: self.clone(),
            account,
            used: 0,
            taken: 0,
        }
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.lock().all
    }

    /// Takes, unless that left less for the others than the account then has.
    fn take(&self, account: i64, wanted: u64) -> Result<(), Busy> {
        let mut taken = self.lock();
        let held = taken.by.get(&account).copied().unwrap_or(0);
        let after = taken.all.saturating_add(wanted);
        let fits = after <= self.0.most && held.saturating_add(wanted) <= self.0.most - after;
        if !fits {
            return Err(Busy { held, wanted });
        }
        taken.all = after;
        *taken.by.entry(account).or_default() += wanted;
        Ok(())
    }

    fn give_back(&self, account: i64, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut taken = self.lock();
        taken.all = taken.all.saturating_sub(bytes);
        if let Some(held) = taken.by.get_mut(&account) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                taken.by.remove(&account);
            }
        }
        drop(taken);
        self.0.given_back.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("most", &self.0.most)
            .field("taken", &self.taken())
            .finish()
    }
}

/// What one request, or one derivation, holds of the budget. It is given back when this is dropped.
#[derive(Debug)]
pub struct Held {
    memory: Memory,
    account: i64,
    used: u64,
    taken: u64,
}

impl Held {
    /// Counts bytes before they are read; waits for others where the budget is used up.
    ///
    /// # Errors
    /// [`Busy`] when they do not become free in time.
    pub async fn use_more(&mut self, bytes: u64) -> Result<(), Busy> {
        let patience = self.memory.0.patience;
        self.use_within(bytes, patience).await
    }

    /// The same with another patience.
    ///
    /// # Errors
    /// [`Busy`] when they do not become free in time.
    pub async fn use_within(&mut self, bytes: u64, patience: Duration) -> Result<(), Busy> {
        self.used = self.used.saturating_add(bytes);
        let wanted = match self.used.checked_sub(FREE + self.taken) {
            Some(wanted) if wanted > 0 => wanted.div_ceil(PIECE).saturating_mul(PIECE),
            _ => return Ok(()),
        };
        if self.memory.take(self.account, wanted).is_err() {
            self.wait(wanted, patience).await?;
        }
        self.taken += wanted;
        Ok(())
    }

    async fn wait(&self, wanted: u64, patience: Duration) -> Result<(), Busy> {
        let memory = &self.memory;
        let wait = async {
            loop {
                let given_back = memory.0.given_back.notified();
                tokio::pin!(given_back);
                // From here on nothing that is given back is missed.
                given_back.as_mut().enable();
                if memory.take(self.account, wanted).is_ok() {
                    return;
                }
                given_back.await;
            }
        };
        match tokio::time::timeout(patience, wait).await {
            Ok(()) => Ok(()),
            Err(_) => memory.take(self.account, wanted),
        }
    }

    /// Gives all back, and begins anew.
    pub fn give_back(&mut self) {
        self.memory
            .give_back(self.account, std::mem::take(&mut self.taken));
        self.used = 0;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn memory(most: u64) -> Memory {
        Memory::with_patience(most, Duration::from_millis(10))
    }

    #[tokio::test]
    async fn small_requests_hold_nothing() {
        let memory = memory(0);
        let mut held = memory.hold(1);
        held.use_more(FREE).await.unwrap();
        assert_eq!(
            held.use_more(1).await,
            Err(Busy {
                held: 0,
                wanted: PIECE
            })
        );
        held.give_back();
        held.use_more(FREE).await.unwrap();
    }

    /// However many accounts take all that they can, in turn, there is room for one more that holds nothing.
    #[tokio::test]
    async fn whoever_holds_nothing_finds_room() {
        let memory = memory(512 * MIB);
        let mut all = Vec::new();
        for account in 1..=8 {
            let before = all.len();
            loop {
                let mut held = memory.hold(account);
                if held.use_more(MIB / 2 + FREE).await.is_err() {
                    break;
                }
                all.push(held);
            }
            assert!(all.len() > before, "account {account} got nothing");
            assert!(memory.taken() < 512 * MIB);
        }
        drop(all);
        assert_eq!(memory.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_goes_to_who_waits() {
        let memory = Memory::new(8 * MIB);
        let mut first = memory.hold(1);
        first.use_more(4 * MIB).await.unwrap();
        let mut second = memory.hold(1);
        let waits = tokio::spawn(async move {
            second.use_more(3 * MIB).await.unwrap();
            second
        });
        tokio::time::sleep(PATIENCE / 2).await;
        assert!(!waits.is_finished());
        drop(first);
        let second = waits.await.unwrap();
        assert!(memory.taken() >= 3 * MIB - FREE);
        drop(second);
        assert_eq!(memory.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_vain_is_told_how_much_it_holds() {
        let memory = Memory::new(8 * MIB);
        let mut first = memory.hold(1);
        first.use_more(4 * MIB).await.unwrap();
        let busy = memory.hold(1).use_more(2 * MIB).await.unwrap_err().to_string();
        assert!(
            busy.contains("hold 4194304 bytes") && busy.contains("busy"),
            "{busy}"
        );
    }
}
