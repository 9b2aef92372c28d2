//! Who may know that a key has signed an object.

use std::collections::BTreeSet;

use firn_core::{AccountId, KeyId, ObjectId, Origin, Policy};

use super::{ClaimRow, State};

/// A signature over an object, whoever brought it.
pub struct SignatureRow {
    pub number: i64,
    /// Who brought it first; 0 when that account is gone.
    pub brought: AccountId,
    pub id: ObjectId,
    pub text: String,
    pub key_name: String,
    /// `None` while no known key made it.
    pub key: Option<KeyId>,
    /// Since when everybody who trusts the key may know, and when those who shared it then had it.
    pub shared: Option<Shared>,
    /// It was shared by an account that is gone: it stays.
    pub for_good: bool,
}

#[derive(Clone, Copy)]
pub struct Shared {
    since: u64,
    registered: u64,
}

/// Added to the age of what only the account itself brought: behind all that is shared.
const BEHIND_SHARED: u64 = 1 << 62;

impl State {
    fn carriers(&self, row: &SignatureRow) -> impl Iterator<Item = &ClaimRow> {
        let claims = self.claims.iter().filter(|claim| claim.id == row.id);
        claims.filter(|claim| claim.claim.signatures.contains(&row.text))
    }

    /// Claims that make a signature known to others.
    fn shares(&self, claim: &ClaimRow) -> bool {
        claim.claim.shareable && claim.claim.origin != Origin::Built && self.gives(claim.owner).evidence
    }

    /// Whether the account goes on knowing of a signature as it does, whatever others take back.
    pub fn is_kept(&self, policy: &Policy, row: &SignatureRow) -> bool {
        let mut own = self.carriers(row).filter(|claim| claim.owner == policy.account);
        row.shared.is_none() || row.for_good || own.any(|claim| self.shares(claim))
    }

    /// After claims or their accounts have changed: what is shared from now on, or not any more, and what nobody has.
    pub fn settle(&mut self) {
        // What becomes shared together, in the order in which those who share it had it.
        let mut raised: Vec<(u64, u64, usize)> = Vec::new();
        let mut lowered: Vec<usize> = Vec::new();
        let mut dead: BTreeSet<i64> = BTreeSet::new();
        for (place, row) in self.signatures.iter().enumerate() {
            let sharing = self.carriers(row).filter(|claim| self.shares(claim));
            match (
                sharing.map(|claim| (claim.claim.registered, claim.seq)).min(),
                row.shared,
            ) {
                (Some((registered, age)), None) => raised.push((registered, age, place)),
                (None, Some(_)) if !row.for_good => lowered.push(place),
                _ => {}
            }
            if !row.for_good && self.carriers(row).next().is_none() {
                dead.insert(row.number);
            }
        }
        raised.sort_unstable();
        for (registered, _, place) in raised {
            let since = self.tick();
            self.signatures[place].shared = Some(Shared { since, registered });
        }
        for place in lowered {
            self.signatures[place].shared = None;
        }
        self.signatures.retain(|row| !dead.contains(&row.number));
    }

    /// What this account shares stays when it goes.
    pub fn leave_signatures(&mut self, account: AccountId) {
        let shares = |row: &SignatureRow| {
            self.carriers(row)
                .any(|claim| claim.owner == account && self.shares(claim))
        };
        let stay: Vec<usize> = (0..self.signatures.len())
            .filter(|place| shares(&self.signatures[*place]))
            .collect();
        for place in stay {
            self.signatures[place].for_good = true;
        }
        for row in self.signatures.iter_mut().filter(|row| row.brought == account) {
            row.brought = AccountId(0);
        }
    }

    /// Since when an account may know of a signature, and when it was registered; `None`: it may not.
    pub fn known_to(&self, policy: &Policy, row: &SignatureRow) -> Option<(u64, u64)> {
        if let Some(shared) = row.shared {
            return Some((shared.since, shared.registered));
        }
        let own = self.carriers(row).filter(|claim| claim.owner == policy.account);
        own.map(|claim| (BEHIND_SHARED + claim.seq, claim.claim.registered))
            .min()
    }
}
