//! SSH keys that somebody wants to act for an account, until whoever has them proves it.
//!
//! A public key is public: that somebody sends it shows nothing. So an account that adds one gets a code, and the key acts for it once
//! somebody has logged in with that very key and said the code. The code names the account, so that the key's owner sees whom it will act for.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ports::{Account, Accounts as _, DatabaseError, Ports, SshKey};
use crate::resolve::failed;
use crate::{Desk, House, StoreError};

/// Seconds in which a code can be used.
const VALID_FOR: u64 = 15 * 60;
/// Keys of one account that wait; the oldest makes room.
const MAX_WAITING: usize = 8;
/// Random bytes of a code.
const CODE: usize = 10;
/// Characters of a comment that are kept.
const MAX_COMMENT: usize = 200;

/// The keys that wait, of all accounts. Lost with the process: a code is asked for again.
#[derive(Debug, Default)]
pub(crate) struct NewKeys(Mutex<Vec<Waiting>>);

#[derive(Clone, Debug)]
struct Waiting {
    account: Account,
    key: SshKey,
    /// Fingerprint of the key that wanted it, where that is known.
    by: Option<String>,
    code: String,
    until: u64,
}

/// What became of a key that an account wants to be its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// It acts for the account already.
    Acts,
    /// It will, when this code is confirmed by whoever has it.
    Code {
        /// The code.
        code: String,
        /// Seconds in which it can be used.
        valid_for: u64,
    },
}

impl NewKeys {
    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, new: Waiting, now: u64) {
        let mut waiting = self.lock();
        let id = new.account.id;
        waiting.retain(|w| w.until > now && !(w.account.id == id && w.key.blob == new.key.blob));
        if waiting.iter().filter(|w| w.account.id == id).count() >= MAX_WAITING
            && let Some(oldest) = waiting.iter().position(|w| w.account.id == id)
        {
            waiting.remove(oldest);
        }
        waiting.push(new);
    }

    fn awaits(&self, blob: &[u8], now: u64) -> bool {
        let waiting = self.lock();
        waiting.iter().any(|w| w.key.blob == blob && w.until > now)
    }

    /// A code counts for one try with its own key.
    fn take(&self, blob: &[u8], code: &str, now: u64) -> Option<Waiting> {
        let mut waiting = self.lock();
        let place = waiting
            .iter()
            .position(|w| w.key.blob == blob && w.code == code && w.until > now)?;
        Some(waiting.remove(place))
    }

    /// Whoever wanted these keys may want nothing any more.
    pub(crate) fn drop_wishes(&self, account: &Account, by: Option<&str>) {
        let mut waiting = self.lock();
        waiting.retain(|w| w.account.id != account.id || by.is_some() && w.by.as_deref() != by);
    }
}

impl<P: Ports> Desk<P> {
    /// Asks for an SSH key to act for the account: it does once somebody who has it confirms the code. `by` is the fingerprint of the key
    /// that asks. The answer does not depend on what other accounts have.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn propose_ssh_key(&self, mut key: SshKey, by: Option<&str>) -> Result<Proposed, StoreError> {
        if self.ssh_keys().await?.iter().any(|k| k.blob == key.blob) {
            return Ok(Proposed::Acts);
        }
        let mut random = [0; CODE];
        getrandom::fill(&mut random)
            .map_err(|e| StoreError::new(format!("internal error: cannot make a code: {e}")))?;
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let code = format!("{}-{random}", self.account.name);
        key.comment = key.comment.chars().take(MAX_COMMENT).collect();
        let now = self.house.now();
        let waiting = Waiting {
            account: self.account.clone(),
            key,
            by: by.map(str::to_owned),
            code: code.clone(),
            until: now.saturating_add(VALID_FOR),
        };
        self.house.new_keys.add(waiting, now);
        Ok(Proposed::Code {
            code,
            valid_for: VALID_FOR,
        })
    }
}

impl<P: Ports> House<P> {
    /// Whether an account wants that key (in SSH's wire form) to be its own.
    pub fn awaits_ssh_key(&self, blob: &[u8]) -> bool {
        self.new_keys.awaits(blob, self.now())
    }

    /// Whoever has proved a key says a code: the key acts for the code's account from now on.
    ///
    /// # Errors
    /// The code is not for this key, or is too old; whoever asked for it has lost the right to; the key acts for another account meanwhile.
    pub async fn confirm_ssh_key(&self, blob: &[u8], code: &str) -> Result<(Account, SshKey), StoreError> {
        let now = self.now();
        let Some(waiting) = self.new_keys.take(blob, code, now) else {
            return Err(StoreError::new(
                "no key waits for this code: it is another key's, was used, or is too old; get a new one with: ssh-keys add",
            ));
        };
        let Waiting {
            account, mut key, by, ..
        } = waiting;
        let may = self.rights(&account, by.as_deref()).await;
        if !may.is_ok_and(|rights| rights.shell) {
            return Err(StoreError::new(
                "whoever asked for this code may not add keys any more",
            ));
        }
        key.added = now;
        match self.db.add_key(account.id, &key).await {
            Err(e @ DatabaseError::KeyTaken) => Err(StoreError::new(e.to_string())),
            added => added.map(|()| (account, key)).map_err(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use firn_core::{AccountId, AccountName};

    use super::*;

    fn waiting(account: i64, key: u8, by: &str, until: u64) -> Waiting {
        Waiting {
            account: Account {
                id: AccountId(account),
                name: AccountName::parse("a").unwrap(),
                created: 0,
            },
            key: SshKey {
                algorithm: String::new(),
                blob: vec![key],
                fingerprint: format!("SHA256:{key}"),
                comment: String::new(),
                added: 0,
            },
            by: Some(by.to_owned()),
            code: format!("{account}-{key}"),
            until,
        }
    }

    #[test]
    fn a_code_is_for_one_key_once_and_for_a_while() {
        let keys = NewKeys::default();
        keys.add(waiting(1, 1, "x", 10), 0);
        assert!(keys.awaits(&[1], 9) && !keys.awaits(&[1], 10) && !keys.awaits(&[2], 0));
        assert!(keys.take(&[2], "1-1", 5).is_none());
        assert!(keys.take(&[1], "1-2", 5).is_none());
        assert!(keys.take(&[1], "1-1", 10).is_none());
        assert!(keys.take(&[1], "1-1", 9).is_some());
        assert!(keys.take(&[1], "1-1", 9).is_none());
    }

    #[test]
    fn few_wait_for_one_account_and_none_for_who_lost_the_right() {
        let keys = NewKeys::default();
        keys.add(waiting(2, 0, "x", 100), 0);
        for key in 0..20 {
            keys.add(waiting(1, key, if key % 2 == 0 { "x" } else { "y" }, 100), 0);
        }
        assert_eq!(keys.lock().len(), MAX_WAITING + 1);
        assert!(!keys.awaits(&[11], 1) && keys.awaits(&[12], 1));
        let account = waiting(1, 0, "x", 0).account;
        keys.drop_wishes(&account, Some("x"));
        assert!(!keys.awaits(&[18], 1) && keys.awaits(&[19], 1));
        keys.drop_wishes(&account, None);
        assert_eq!(keys.lock().len(), 1);
        // What is too old makes room by itself.
        keys.add(waiting(3, 3, "x", 200), 150);
        assert_eq!(keys.lock().len(), 1);
    }
}
