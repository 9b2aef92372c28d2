//! The same queue without any index: every answer is looked for in all runs.

use firn_core::AccountId;
use firn_core::schedule::{Capacity, Number, QUANTUM, Share, Ticket};

#[derive(Clone, Debug)]
struct Run {
    number: u64,
    ticket: Ticket,
    running: bool,
    passed: Option<u64>,
}

#[derive(Clone, Debug)]
struct Account {
    id: AccountId,
    share: Share,
    used: u128,
    turn: u64,
}

#[derive(Debug)]
pub struct Model {
    capacity: Capacity,
    runs: Vec<Run>,
    accounts: Vec<Account>,
    /// The run, and which time it is that one holds.
    holds: Option<(u64, u64)>,
    held: u64,
    floor: u128,
    now: u64,
    last: u64,
    turns: u64,
}

/// Eighths of a power of two.
fn graded(memory: u64) -> u64 {
    let mut step = 1;
    while step * 16 <= memory {
        step *= 2;
    }
    memory.div_ceil(step) * step
}

impl Model {
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            runs: Vec::new(),
            accounts: Vec::new(),
            holds: None,
            held: 0,
            floor: 0,
            now: 0,
            last: 0,
            turns: 0,
        }
    }

    fn running(&self, id: AccountId) -> usize {
        self.runs
            .iter()
            .filter(|r| r.running && r.ticket.account == id)
            .count()
    }

    fn slots_of(&self, ticket: &Ticket) -> u64 {
        let all = self.capacity.slots as u64 * 1000;
        let part = |amount: u64, of: u64| if of == u64::MAX { 0 } else { all * amount / of };
        part(ticket.reservation.memory, self.capacity.memory)
            .max(part(ticket.reservation.cpus, self.capacity.cpus))
            .clamp(1000, all)
    }

    fn use_of(&self, account: &Account, time: u64) -> u128 {
        let own = self
            .runs
            .iter()
            .filter(|r| r.running && r.ticket.account == account.id);
        let slots: u64 = own.map(|r| self.slots_of(&r.ticket)).sum();
        u128::from(slots) * u128::from(time) * (1 << 20) / u128::from(account.share.weight)
    }

    /// Accounts of which a run may start, whose turn it is first.
    fn in_turn(&self) -> Vec<Account> {
        let may = |a: &&Account| {
            let waits = self.runs.iter().any(|r| !r.running && r.ticket.account == a.id);
            waits && a.share.max_runs.is_none_or(|limit| self.running(a.id) < limit)
        };
        let mut accounts: Vec<Account> = self.accounts.iter().filter(may).cloned().collect();
        accounts.sort_by_key(|a| (a.used + self.use_of(a, QUANTUM), a.turn, a.id));
        accounts
    }

    fn note_least(&mut self) {
        let least = self.in_turn().iter().map(|a| a.used).min();
        self.floor = self.floor.max(least.unwrap_or(0));
    }

    /// An account that comes back has no credit.
    fn level(&mut self, before: &[Account]) {
        let floor = self.floor;
        for account in self.in_turn() {
            if !before.iter().any(|a| a.id == account.id) {
                self.turns += 1;
                let own = self.accounts.iter_mut().find(|a| a.id == account.id).unwrap();
                own.used = own.used.max(floor);
                own.turn = self.turns;
            }
        }
    }

    fn change(&mut self, how: impl FnOnce(&mut Self)) {
        self.note_least();
        let before = self.in_turn();
        how(self);
        self.level(&before);
    }

    fn advance(&mut self, now: u64) {
        let passed = now - self.now;
        self.now = now;
        self.note_least();
        for at in 0..self.accounts.len() {
            self.accounts[at].used += self.use_of(&self.accounts[at], passed);
        }
        if passed > 0 && self.in_turn().is_empty() {
            let busy = self.accounts.iter().filter(|a| self.running(a.id) > 0);
            self.floor = busy.map(|a| a.used).fold(self.floor, u128::max);
        }
    }

    fn join(&mut self, id: AccountId, share: Share) {
        match self.accounts.iter_mut().find(|a| a.id == id) {
            Some(account) => account.share = share,
            None => self.accounts.push(Account {
                id,
                share,
                used: 0,
                turn: 0,
            }),
        }
    }

    pub fn enter(&mut self, ticket: Ticket, now: u64) -> Number {
        self.advance(now);
        self.last += 1;
        let mut ticket = ticket;
        ticket.reservation.memory = graded(ticket.reservation.memory).min(self.capacity.memory);
        ticket.reservation.cpus = ticket.reservation.cpus.min(self.capacity.cpus);
        let number = self.last;
        self.change(|model| {
            model.join(ticket.account, ticket.share);
            model.runs.push(Run {
                number,
                ticket,
                running: false,
                passed: None,
            });
        });
        Number(number)
    }

    pub fn leave(&mut self, number: Number, now: u64) {
        self.advance(now);
        self.change(|model| model.runs.retain(|r| r.number != number.0));
        self.holds = self.holds.filter(|(held, _)| *held != number.0);
    }

    pub fn claim(&mut self, number: Number, other: Ticket, now: u64) {
        self.advance(now);
        let Some(at) = self.runs.iter().position(|r| r.number == number.0 && !r.running) else {
            return;
        };
        self.note_least();
        let mut run = self.runs[at].clone();
        run.ticket.urgency = run.ticket.urgency.max(other.urgency);
        let known = self.accounts.iter().find(|a| a.id == other.account).cloned();
        let mut asks = known.unwrap_or(Account {
            id: other.account,
            share: other.share,
            used: 0,
            turn: 0,
        });
        asks.share = other.share;
        let may = asks
            .share
            .max_runs
            .is_none_or(|limit| self.running(asks.id) < limit);
        let stands = self.in_turn().iter().any(|a| a.id == asks.id);
        let key = (
            asks.used.max(self.floor) + self.use_of(&asks, QUANTUM),
            if stands { asks.turn } else { self.turns + 1 },
            asks.id,
        );
        let turn = self.in_turn().into_iter().find(|a| a.id == run.ticket.account);
        let other_key = turn.map(|a| (a.used + self.use_of(&a, QUANTUM), a.turn, a.id));
        if other.account != run.ticket.account && may && other_key.is_none_or(|k| key < k) {
            run.ticket.account = other.account;
        }
        self.change(|model| model.runs.retain(|r| r.number != number.0));
        self.change(|model| {
            if run.ticket.account == other.account {
                model.join(other.account, other.share);
            }
            model.runs.push(run);
        });
    }

    pub fn start_next(&mut self, now: u64) -> Option<Number> {
        self.advance(now);
        let number = self.next()?;
        let at = self.runs.iter().position(|r| r.number == number).unwrap();
        let passed = self.holds.filter(|_| self.passes(number)).map(|(_, time)| time);
        self.turns += 1;
        let (id, turn) = (self.runs[at].ticket.account, self.turns);
        self.change(|model| {
            model.accounts.iter_mut().find(|a| a.id == id).unwrap().turn = turn;
            model.runs[at].running = true;
            model.runs[at].passed = passed;
        });
        self.holds = self.holds.filter(|(held, _)| *held != number);
        Some(Number(number))
    }

    fn taken(&self) -> (usize, u64, u64) {
        let running = self.runs.iter().filter(|r| r.running);
        running.fold((0, 0, 0), |(n, memory, cpus), r| {
            let wants = r.ticket.reservation;
            (n + 1, memory + wants.memory, cpus + wants.cpus)
        })
    }

    /// The waiting runs of an account, the first one first.
    fn line(&self, id: AccountId) -> Vec<&Run> {
        let waiting = self.runs.iter().filter(|r| !r.running && r.ticket.account == id);
        let mut line: Vec<&Run> = waiting.collect();
        line.sort_by_key(|r| (std::cmp::Reverse(r.ticket.urgency), r.number));
        line
    }

    /// The first run of whose turn it is.
    fn first(&self) -> Option<&Run> {
        Some(self.line(self.in_turn().first()?.id)[0])
    }

    /// Whether a run that starts now passes the first one.
    fn passes(&self, number: u64) -> bool {
        self.first().unwrap().number != number
    }

    fn next(&mut self) -> Option<u64> {
        let (slots, memory, cpus) = self.taken();
        if slots >= self.capacity.slots || cpus >= self.capacity.cpus {
            return None;
        }
        let first = self.first()?.clone();
        let free = self.capacity.memory - memory;
        if first.ticket.reservation.memory <= free {
            return Some(first.number);
        }
        if self.holds.is_none_or(|(held, _)| held != first.number) {
            self.held += 1;
            self.holds = Some((first.number, self.held));
        }
        let beside: Vec<&Run> = self
            .runs
            .iter()
            .filter(|r| r.running && r.passed == Some(self.held))
            .collect();
        if beside.len() + 1 >= self.capacity.slots {
            return None;
        }
        let beside_memory: u64 = beside.iter().map(|r| r.ticket.reservation.memory).sum();
        let beside_cpus: u64 = beside.iter().map(|r| r.ticket.reservation.cpus).sum();
        let room = (self.capacity.memory - first.ticket.reservation.memory)
            .saturating_sub(beside_memory)
            .min(free);
        for account in self.in_turn() {
            let leaves_one = account
                .share
                .max_runs
                .is_none_or(|limit| self.running(account.id) + 1 < limit);
            if account.id == first.ticket.account && !leaves_one {
                continue;
            }
            let line = self.line(account.id);
            let fits = line.iter().find(|r| r.ticket.reservation.memory <= room);
            if let Some(run) = fits.filter(|r| beside_cpus + r.ticket.reservation.cpus < self.capacity.cpus) {
                return Some(run.number);
            }
        }
        None
    }
}
