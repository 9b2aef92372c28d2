//! One account's machine and its view on the service: reused from account to account.

#![expect(
    clippy::indexing_slicing,
    reason = "every table has an entry for each derivation of the graph"
)]

use crate::Drv;
use crate::world::World;

/// What the client does before a request that needs a path as input, when the view does not have it yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Nothing: it is valid.
    #[default]
    Nothing,
    /// Nothing for itself, but a reference is pending.
    References,
    /// Sends its own.
    Upload,
    /// Asks the service to fetch it.
    Substitute,
}

/// What an account has of one derivation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entry {
    /// Account that the rest is about.
    pub(crate) account: u32,
    pub(crate) pending: Pending,
    /// On the service.
    pub(crate) view: u64,
    /// On its own machine.
    pub(crate) own: u64,
    /// Bytes on its own machine.
    pub(crate) content: u64,
}

/// By derivation.
pub(crate) struct Client {
    entries: Vec<Entry>,
    account: u32,
    todo: Vec<Drv>,
}

impl Client {
    pub(crate) fn new(derivations: usize) -> Self {
        Self {
            entries: vec![Entry::default(); derivations],
            account: 0,
            todo: Vec::new(),
        }
    }

    /// Forgets all.
    pub(crate) fn next_account(&mut self) {
        self.account += 1;
    }

    pub(crate) fn has(&self, drv: Drv) -> bool {
        self.entries[drv as usize].account == self.account
    }

    pub(crate) fn get(&self, drv: Drv) -> &Entry {
        &self.entries[drv as usize]
    }

    pub(crate) fn view(&self, drv: Drv) -> u64 {
        self.get(drv).view
    }

    pub(crate) fn own(&self, drv: Drv) -> u64 {
        self.get(drv).own
    }

    pub(crate) fn put(&mut self, drv: Drv, entry: Entry) {
        self.entries[drv as usize] = Entry {
            account: self.account,
            ..entry
        };
    }

    /// Whether a reference of an object is pending.
    pub(crate) fn is_open(&self, world: &World<'_>, drv: Drv) -> bool {
        world
            .references(drv)
            .iter()
            .any(|r| self.get(*r).pending != Pending::Nothing)
    }

    /// What must come before a request, references first; it is pending no longer.
    pub(crate) fn take_pending(
        &mut self,
        world: &World<'_>,
        drv: Drv,
        mut take: impl FnMut(Drv, Pending, u64),
    ) {
        let mut found: Vec<(Drv, Pending)> = Vec::new();
        self.todo.clear();
        let inputs = world.graph.inputs(drv);
        self.todo.extend(
            inputs
                .iter()
                .filter(|i| self.entries[**i as usize].pending != Pending::Nothing),
        );
        while let Some(drv) = self.todo.pop() {
            let pending = std::mem::take(&mut self.entries[drv as usize].pending);
            if pending != Pending::Nothing {
                found.push((drv, pending));
                self.todo.extend(world.references(drv));
            }
        }
        found.sort_unstable_by_key(|(drv, _)| *drv);
        for (drv, pending) in found {
            take(drv, pending, self.entries[drv as usize].content);
        }
    }
}
