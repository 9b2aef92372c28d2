//! Who may know that a key has signed an object.

use std::collections::BTreeSet;

use firn_core::{AccountId, KeyId, ObjectId, Origin, Policy};

use super::{ClaimRow, State};

/// A signature over an object, whoever brought it.
pub struct SignatureRow {
    pub number: i64,
    pub id: ObjectId,
    pub text: String,
    pub key_name: String,
    /// `None` while no known key made it.
    pub key: Option<KeyId>,
    /// Since when everybody who trusts the key may know.
    pub shared: Option<u64>,
    /// It was shared by an account that is gone: it stays, with the time of its claim.
    pub for_good: Option<u64>,
}

impl State {
    fn carriers(&self, row: &SignatureRow) -> impl Iterator<Item = &ClaimRow> {
        let claims = self.claims.iter().filter(|claim| claim.id == row.id);
        claims.filter(|claim| claim.signed.contains_key(&row.text))
    }

    /// Claims that make a signature known to others.
    fn shares(&self, claim: &ClaimRow) -> bool {
        claim.claim.shareable && claim.claim.origin != Origin::Built && self.gives(claim.owner).evidence
    }

    /// After claims or their accounts have changed: what is shared from now on, or not any more, and what nobody has.
    pub fn settle(&mut self) {
        // What becomes shared together, in the order in which those who share it had it.
        let mut raised: Vec<(u64, usize)> = Vec::new();
        let mut lowered: Vec<usize> = Vec::new();
        let mut dead: BTreeSet<i64> = BTreeSet::new();
        for (place, row) in self.signatures.iter().enumerate() {
            let sharing = self.carriers(row).filter(|claim| self.shares(claim));
            let since = sharing.map(|claim| claim.signed[&row.text]).min();
            match (since, row.for_good, row.shared) {
                (Some(since), _, None) => raised.push((since, place)),
                (None, None, Some(_)) => lowered.push(place),
                _ => {}
            }
            if row.for_good.is_none() && self.carriers(row).next().is_none() {
                dead.insert(row.number);
            }
        }
        raised.sort_unstable();
        for (_, place) in raised {
            let now = self.tick();
            self.signatures[place].shared = Some(now);
        }
        for place in lowered {
            self.signatures[place].shared = None;
        }
        self.signatures.retain(|row| !dead.contains(&row.number));
    }

    /// What this account shares stays when it goes.
    pub fn leave_signatures(&mut self, account: AccountId) {
        let mut stay: Vec<(usize, u64)> = Vec::new();
        for (place, row) in self.signatures.iter().enumerate() {
            let mut shared = self
                .carriers(row)
                .filter(|c| c.owner == account && self.shares(c));
            if let (Some(claim), None) = (shared.next(), row.for_good) {
                stay.push((place, claim.claim.registered));
            }
        }
        for (place, registered) in stay {
            self.signatures[place].for_good = Some(registered);
        }
    }

    /// Since when an account may know of a signature, and when it was registered; `None`: it may not.
    pub fn known_to(&self, policy: &Policy, row: &SignatureRow) -> Option<(u64, u64)> {
        let own = self.carriers(row).filter(|claim| claim.owner == policy.account);
        let own = own
            .map(|claim| (claim.signed[&row.text], claim.claim.registered))
            .min();
        let shared = row.shared.map(|since| {
            let sharing = self.carriers(row).filter(|claim| self.shares(claim));
            let times = sharing.map(|claim| claim.claim.registered);
            (since, times.chain(row.for_good).min().unwrap_or_default())
        });
        own.into_iter().chain(shared).min()
    }
}
