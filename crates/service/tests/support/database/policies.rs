//! Policies.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{AccountId, Effective, KeyId, ObjectId, Trust};
use firn_nix::signature::PublicKey;
use firn_service::ports::{
    AccountChange, DatabaseError, Gives, KeyFor, Login, MAX_LOGINS, MAX_SIGNING_KEYS, MAX_TRUSTED,
    NewSigningKey, OpenSignature, Policies, Relation, SigningKey, Stored,
};

use super::{MemoryDatabase, State};

impl State {
    fn trusts(&self, account: AccountId, other: AccountId) -> Option<Trust> {
        let mut rows = self.trust.iter();
        rows.find(|(a, b, _)| (*a, *b) == (account, other))
            .map(|row| row.2)
    }

    fn lets_read(&self, account: AccountId, other: AccountId) -> Option<Trust> {
        self.readers.get(&(account, other)).copied()
    }
}

fn set(settings: &mut BTreeMap<String, String>, name: &str, value: Option<&str>) {
    match value {
        Some(value) => drop(settings.insert(name.to_owned(), value.to_owned())),
        None => drop(settings.remove(name)),
    }
}

/// That a list of so many has room for one more.
fn room(entries: usize, most: usize, what: &'static str) -> Result<(), DatabaseError> {
    match entries < most {
        true => Ok(()),
        false => Err(DatabaseError::TooMany { most, what }),
    }
}

impl Policies for MemoryDatabase {
    async fn epoch(&self) -> Result<u64, DatabaseError> {
        Ok(self.open("epoch")?.epoch)
    }

    async fn stored(&self, account: AccountId, ssh_key: Option<&str>) -> Result<Stored, DatabaseError> {
        let mut state = self.open("stored")?;
        let row = state.of(account)?;
        let key = row
            .ssh_keys
            .iter()
            .find(|(key, _)| Some(key.fingerprint.as_str()) == ssh_key);
        if let Some(fingerprint) = ssh_key.filter(|_| key.is_none()) {
            return Err(DatabaseError::NoKey {
                account: row.account.name.to_string(),
                fingerprint: fingerprint.to_owned(),
            });
        }
        let mut stored = Stored {
            epoch: 0,
            account: row.settings.clone(),
            key: key.map(|(_, settings)| settings.clone()).unwrap_or_default(),
            accounts: Vec::new(),
            trusted: Vec::new(),
        };
        stored.epoch = state.epoch;
        for (_, other, trusts) in state.trust.iter().filter(|(a, ..)| *a == account) {
            stored.trusted.push((*other, *trusts));
            if let Some(may_read) = state.lets_read(*other, account)
                && state.gives(*other).evidence
            {
                stored.accounts.push((*other, may_read.min(*trusts)));
            }
        }
        Ok(stored)
    }

    async fn change_account(&self, account: AccountId, change: &AccountChange) -> Result<(), DatabaseError> {
        let mut state = self.open("change_account")?;
        let row = state.of(account)?;
        let changed = change.apply(row.settings.clone())?;
        set(&mut row.settings, changed.name, changed.value.as_deref());
        row.gives = changed.gives;
        state.settle();
        state.epoch += 1;
        Ok(())
    }

    async fn settle_gives(&self, defaults: &Effective) -> Result<u64, DatabaseError> {
        let mut state = self.open("settle_gives")?;
        let mut changed = 0;
        for row in state.accounts.values_mut() {
            let gives = Gives::of_account(defaults, &row.settings);
            changed += u64::from(gives != row.gives);
            row.gives = gives;
        }
        if changed > 0 {
            state.settle();
            state.epoch += 1;
        }
        Ok(changed)
    }

    async fn set_key(
        &self,
        account: AccountId,
        fingerprint: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), DatabaseError> {
        let mut state = self.open("set_key")?;
        let row = state.of(account)?;
        let key = row
            .ssh_keys
            .iter_mut()
            .find(|(key, _)| key.fingerprint == fingerprint);
        let (_, settings) = key.ok_or_else(|| DatabaseError::NoKey {
            account: row.account.name.to_string(),
            fingerprint: fingerprint.to_owned(),
        })?;
        set(settings, name, value);
        state.epoch += 1;
        Ok(())
    }

    async fn trust(
        &self,
        account: AccountId,
        other: AccountId,
        level: Option<Trust>,
    ) -> Result<(), DatabaseError> {
        let mut state = self.open("trust")?;
        state.of(account)?;
        state.of(other)?;
        let known = state
            .trust
            .iter()
            .position(|(a, b, _)| (*a, *b) == (account, other));
        match (known, level) {
            (Some(place), Some(level)) => state.trust[place].2 = level,
            (Some(place), None) => drop(state.trust.remove(place)),
            (None, Some(level)) => {
                let others = state.trust.iter().filter(|(a, ..)| *a == account).count();
                room(others, MAX_TRUSTED, "accounts that it trusts")?;
                state.trust.push((account, other, level));
            }
            (None, None) => {}
        }
        state.epoch += 1;
        Ok(())
    }

    async fn let_read(
        &self,
        account: AccountId,
        other: AccountId,
        level: Option<Trust>,
    ) -> Result<(), DatabaseError> {
        let mut state = self.open("let_read")?;
        state.of(account)?;
        state.of(other)?;
        match level {
            Some(level) => drop(state.readers.insert((account, other), level)),
            None => drop(state.readers.remove(&(account, other))),
        }
        state.epoch += 1;
        Ok(())
    }

    async fn relations(&self, account: AccountId) -> Result<Vec<Relation>, DatabaseError> {
        let state = self.open("relations")?;
        let mut relations: Vec<Relation> = state
            .accounts
            .values()
            .map(|row| &row.account)
            .filter(|other| other.id != account)
            .map(|other| {
                let trusts = state.trusts(account, other.id);
                Relation {
                    name: other.name.clone(),
                    trusts,
                    trusted_by: state.trusts(other.id, account),
                    lets_read: state.lets_read(account, other.id),
                    may_read: trusts.and_then(|_| state.lets_read(other.id, account)),
                }
            })
            .filter(|r| r.trusts.or(r.trusted_by).or(r.lets_read).is_some())
            .collect();
        relations.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(relations)
    }

    async fn keys_named(&self, names: &[String]) -> Result<(Vec<(KeyId, PublicKey)>, KeyId), DatabaseError> {
        let state = self.open("keys_named")?;
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let numbered = (1..).map(KeyId).zip(&state.public_keys);
        let named = numbered.filter(|(_, (key, _))| names.contains(key.name()));
        let named = named.map(|(id, (key, _))| (id, key.clone())).collect();
        Ok((named, state.newest_key()))
    }

    /// How many an account makes known is not counted here.
    async fn register_key(&self, _by: KeyFor, key: &PublicKey) -> Result<(KeyId, bool), DatabaseError> {
        let mut state = self.open("register_key")?;
        if let Some(place) = state.public_keys.iter().position(|(k, _)| k == key) {
            return Ok((KeyId(place as i64 + 1), state.public_keys[place].1));
        }
        state.public_keys.push((key.clone(), false));
        Ok((state.newest_key(), false))
    }

    async fn open_signers(&self, key_name: &str) -> Result<Vec<AccountId>, DatabaseError> {
        let state = self.open("open_signers")?;
        let open = state.signatures.iter().filter(|row| row.key.is_none());
        let signers: BTreeSet<AccountId> = open
            .filter(|row| row.key_name == key_name)
            .map(|row| row.brought)
            .collect();
        Ok(signers.into_iter().collect())
    }

    async fn open_signatures(
        &self,
        key_name: &str,
        account: AccountId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<OpenSignature>, DatabaseError> {
        self.pass("open_signatures").await;
        let state = self.open("open_signatures")?;
        let open = state.signatures.iter().filter(|row| row.key.is_none());
        let theirs = open.filter(|row| row.key_name == key_name && row.brought == account);
        let named = theirs.filter(|row| row.number > after);
        let found = named.take(limit as usize).map(|row| OpenSignature {
            id: row.number,
            object_id: row.id,
            object: state.object(row.id).clone(),
            signature: row.text.clone(),
        });
        Ok(found.collect())
    }

    async fn prove(&self, key: KeyId, proven: &[(i64, ObjectId)]) -> Result<(), DatabaseError> {
        let mut state = self.open("prove")?;
        for row in &mut state.signatures {
            if row.key.is_none() && proven.contains(&(row.number, row.id)) {
                row.key = Some(key);
            }
        }
        Ok(())
    }

    async fn settle_key(&self, key: KeyId) -> Result<(), DatabaseError> {
        self.open("settle_key")?.public_keys[key.0 as usize - 1].1 = true;
        Ok(())
    }

    async fn logins(&self, account: AccountId) -> Result<BTreeMap<String, Login>, DatabaseError> {
        Ok(self.open("logins")?.of(account)?.logins.clone())
    }

    async fn set_login(
        &self,
        account: AccountId,
        host: &str,
        login: Option<&Login>,
    ) -> Result<bool, DatabaseError> {
        let mut state = self.open("set_login")?;
        let logins = &mut state.of(account)?.logins;
        if login.is_some() && !logins.contains_key(host) {
            room(logins.len(), MAX_LOGINS, "logins")?;
        }
        let before = match login {
            Some(login) => logins.insert(host.to_owned(), login.clone()),
            None => logins.remove(host),
        };
        state.epoch += 1;
        Ok(before.is_some())
    }

    async fn signing_keys(&self, account: AccountId) -> Result<Vec<SigningKey>, DatabaseError> {
        let mut state = self.open("signing_keys")?;
        Ok(state.of(account)?.signing_keys.iter().rev().cloned().collect())
    }

    async fn add_signing_key(
        &self,
        account: AccountId,
        key: &NewSigningKey,
        now: u64,
    ) -> Result<SigningKey, DatabaseError> {
        let mut state = self.open("add_signing_key")?;
        let keys = &mut state.of(account)?.signing_keys;
        room(keys.len(), MAX_SIGNING_KEYS, "signing keys")?;
        let key = SigningKey {
            secret: key.secret(keys.len()).unwrap(),
            created: now,
            active: true,
        };
        keys.iter_mut().for_each(|key| key.active = false);
        keys.push(key.clone());
        Ok(key)
    }
}
