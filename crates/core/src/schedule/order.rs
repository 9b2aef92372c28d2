//! Whose turn it is.

use std::collections::{BTreeMap, BTreeSet};

use super::line::Line;
use super::{QUANTUM, Share};
use crate::AccountId;

/// What a millisecond of a thousandth of a slot counts for an account of weight 1.
const SCALE: u128 = 1 << 20;

/// What one account had, has, and waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) line: Line,
    pub(super) running: usize,
    share: Share,
    /// Slot time, by [`SCALE`] and weight.
    used: u128,
    /// Thousandths of slots that its runs have now.
    slots: u64,
    /// When it had its last turn, or came: who waits longer is first among equals.
    turn: u64,
    /// How it stands in the order, when it does.
    stands: Option<Key>,
}

/// The least has its turn.
type Key = (u128, u64, AccountId);

impl Account {
    pub(super) fn share(&mut self, share: Share) {
        self.share = share;
    }

    pub(super) const fn limit(&self) -> Option<usize> {
        match self.share.max_runs {
            Some(0) => Some(1),
            limit => limit,
        }
    }

    pub(super) fn is_at_its_limit(&self) -> bool {
        self.limit().is_some_and(|limit| self.running >= limit)
    }

    /// Whether it may run two more.
    pub(super) fn leaves_a_run(&self) -> bool {
        self.limit().is_none_or(|limit| self.running + 1 < limit)
    }

    pub(super) fn begin(&mut self, slots: u64) {
        self.running += 1;
        self.slots = self.slots.saturating_add(slots);
    }

    pub(super) fn end(&mut self, slots: u64) {
        self.running = self.running.saturating_sub(1);
        self.slots = self.slots.saturating_sub(slots);
    }

    /// What it uses in that time.
    fn use_of(&self, milliseconds: u64) -> u128 {
        u128::from(self.slots) * u128::from(milliseconds) * SCALE / u128::from(self.share.weight.max(1))
    }

    /// What counts when it is asked who has had the least, if it had used so much.
    fn claim(&self, used: u128) -> u128 {
        used.saturating_add(self.use_of(QUANTUM))
    }
}

/// All accounts, and the order of those that have a run that may start.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    accounts: BTreeMap<AccountId, Account>,
    turns: BTreeSet<Key>,
    /// The same accounts, by their use.
    uses: BTreeSet<(u128, AccountId)>,
    busy: BTreeSet<AccountId>,
    /// Use of the least served, now or when somebody waited last. Never goes back.
    floor: u128,
    now: u64,
    turn: u64,
}

impl Order {
    /// The accounts with runs that may start as far as they are concerned; whose turn it is first.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (AccountId, &Account)> {
        self.turns
            .iter()
            .filter_map(|(_, _, id)| Some((*id, self.accounts.get(id)?)))
    }

    pub(super) fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// Time goes on, and those who run use it. A time that was before is taken for the last one.
    pub(super) fn advance(&mut self, now: u64) {
        let passed = now.saturating_sub(self.now);
        if passed == 0 {
            return;
        }
        self.now = now;
        for id in self.busy.clone() {
            self.change(id, |account| {
                account.used = account.used.saturating_add(account.use_of(passed));
            });
        }
        if self.turns.is_empty() {
            // Nobody went without: it counts for nobody.
            let used = self
                .busy
                .iter()
                .filter_map(|id| self.accounts.get(id))
                .map(|a| a.used);
            self.floor = used.fold(self.floor, u128::max);
        }
    }

    /// Use of the least served.
    fn least(&self) -> u128 {
        self.uses
            .first()
            .map_or(self.floor, |(used, _)| self.floor.max(*used))
    }

    /// Changes an account, and where it stands.
    pub(super) fn change(&mut self, id: AccountId, how: impl FnOnce(&mut Account)) {
        self.floor = self.least();
        let (floor, last) = (self.floor, self.turn + 1);
        let account = self.accounts.entry(id).or_default();
        let stood = account.stands.take();
        if let Some(key) = stood {
            self.turns.remove(&key);
            self.uses.remove(&(account.used, id));
        }
        how(account);
        if !account.line.is_empty() && !account.is_at_its_limit() {
            if stood.is_none() {
                account.used = account.used.max(floor);
                account.turn = last;
                self.turn = last;
            }
            let key = (account.claim(account.used), account.turn, id);
            account.stands = Some(key);
            self.turns.insert(key);
            self.uses.insert((account.used, id));
        }
        if account.running > 0 {
            self.busy.insert(id);
        } else {
            self.busy.remove(&id);
        }
    }

    /// Changes an account whose turn it was.
    pub(super) fn start(&mut self, id: AccountId, how: impl FnOnce(&mut Account)) {
        self.turn += 1;
        let turn = self.turn;
        self.change(id, |account| {
            account.turn = turn;
            how(account);
        });
    }

    /// Whether it is sooner the turn of `one`, if it wants a run, than of `other`, which waits for it.
    pub(super) fn is_sooner(&self, one: AccountId, share: Share, other: AccountId) -> bool {
        if one == other {
            return false;
        }
        let stands = |id: AccountId| self.accounts.get(&id).and_then(|account| account.stands);
        let mut asks = Account::default();
        if let Some(known) = self.accounts.get(&one) {
            (asks.running, asks.slots, asks.used) = (known.running, known.slots, known.used);
        }
        let turn = stands(one).map_or(self.turn + 1, |(_, turn, _)| turn);
        asks.share(share);
        if asks.is_at_its_limit() {
            return false;
        }
        let key = (asks.claim(asks.used.max(self.least())), turn, one);
        stands(other).is_none_or(|other| key < other)
    }
}
