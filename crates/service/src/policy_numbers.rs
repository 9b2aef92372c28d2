//! Numbers for policies: what is remembered of a view is remembered under the number of the policy and epoch that it followed from.
//!
//! An account chooses its keys and their order, by session. So policies are compared, and never known by a hash: two that are different
//! never have the same number, and what one account saw is never shown to another.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use firn_core::{AccountId, Policy};

/// Policies of one account that have numbers, in one epoch; each costs at most 2 KiB. What further ones see is not remembered.
const MAX_POLICIES: usize = 64;

/// The number of one policy in one epoch; never used for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PolicyNumber(u64);

/// The policies that have numbers.
#[derive(Debug, Default)]
pub(crate) struct PolicyNumbers(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    last: u64,
    epoch: u64,
    /// Of that epoch.
    known: HashMap<AccountId, HashMap<Policy, PolicyNumber>>,
}

impl PolicyNumbers {
    /// The number of a policy in an epoch. `None`: the account has too many, or the epoch is over.
    pub(crate) fn number(&self, epoch: u64, policy: &Policy) -> Option<PolicyNumber> {
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if epoch < numbers.epoch {
            return None;
        }
        if epoch > numbers.epoch {
            numbers.epoch = epoch;
            numbers.known.clear();
        }
        let next = PolicyNumber(numbers.last + 1);
        let of_account = numbers.known.entry(policy.account).or_default();
        if let Some(number) = of_account.get(policy) {
            return Some(*number);
        }
        if of_account.len() >= MAX_POLICIES {
            return None;
        }
        of_account.insert(policy.clone(), next);
        numbers.last = next.0;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use firn_core::KeyId;

    use super::*;

    fn policy(account: i64, keys: &[i64]) -> Policy {
        Policy {
            keys: keys.iter().map(|key| KeyId(*key)).collect(),
            ..Policy::alone(AccountId(account))
        }
    }

    #[test]
    fn a_number_is_that_of_one_policy_in_one_epoch() {
        let numbers = PolicyNumbers::default();
        let mut all = Vec::new();
        for epoch in [1, 2] {
            for account in [1, 2] {
                for keys in [&[1, 2][..], &[2, 1], &[1], &[]] {
                    let policy = policy(account, keys);
                    let number = numbers.number(epoch, &policy).unwrap();
                    assert_eq!(numbers.number(epoch, &policy), Some(number));
                    assert!(!all.contains(&number), "{number:?}");
                    all.push(number);
                }
            }
        }
        assert_eq!(numbers.number(1, &policy(1, &[1])), None, "the epoch is over");
    }

    #[test]
    fn an_account_fills_only_its_own_places() {
        let numbers = PolicyNumbers::default();
        let many = i64::try_from(MAX_POLICIES).unwrap();
        let first = numbers.number(1, &policy(1, &[0])).unwrap();
        for key in 1..many {
            assert!(numbers.number(1, &policy(1, &[key])).is_some());
        }
        assert_eq!(numbers.number(1, &policy(1, &[many])), None);
        assert_eq!(numbers.number(1, &policy(1, &[0])), Some(first));
        assert!(numbers.number(1, &policy(2, &[0])).is_some());
    }
}
