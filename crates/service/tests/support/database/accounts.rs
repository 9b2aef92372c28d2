//! Accounts and their SSH keys.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{AccountId, AccountName, BuildId, Witness};
use firn_service::ports::{Account, Accounts, DatabaseError, Gives, SigningKey, SshKey};

use super::{AccountRow, MemoryDatabase, State};

impl State {
    /// Takes results, failures and runs away, but for those that are shared and those that answer others.
    fn leave_runs(&mut self, account: AccountId) {
        let gave = self.gives(account).results;
        let grounded: BTreeSet<BuildId> = self.grounded.iter().map(|(_, build)| *build).collect();
        self.failures
            .retain(|answer| answer.owner != Some(account) || gave && answer.shares);
        self.results.retain(|answer| {
            let stays = answer.shares && (gave || grounded.contains(&answer.build));
            answer.owner != Some(account) || stays
        });
        for answers in [&mut self.results, &mut self.failures] {
            for answer in answers {
                answer.owner = answer.owner.filter(|owner| *owner != account);
            }
        }
        let answers = self.results.iter().chain(&self.failures);
        let answering: BTreeSet<BuildId> = answers.map(|answer| answer.build).collect();
        self.runs.retain(|row| {
            row.owner != Some(account) || gave && row.shares || answering.contains(&row.run.id)
        });
        for row in self.runs.iter_mut().filter(|row| row.owner == Some(account)) {
            row.owner = None;
            row.shares &= gave;
        }
    }
}

impl Accounts for MemoryDatabase {
    async fn create_account(
        &self,
        name: &AccountName,
        signing_key: &str,
        gives: Gives,
        now: u64,
    ) -> Result<Account, DatabaseError> {
        let mut state = self.open("create_account")?;
        if state.accounts.values().any(|a| a.account.name == *name) {
            return Err(DatabaseError::AccountExists(name.to_string()));
        }
        state.last_account += 1;
        let account = Account {
            id: AccountId(state.last_account),
            name: name.clone(),
            created: now,
        };
        let row = AccountRow {
            account: account.clone(),
            gives,
            settings: BTreeMap::new(),
            ssh_keys: Vec::new(),
            logins: BTreeMap::new(),
            signing_keys: vec![SigningKey {
                secret: signing_key.to_owned(),
                created: now,
                active: true,
            }],
        };
        state.accounts.insert(account.id, row);
        Ok(account)
    }

    async fn account(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError> {
        let state = self.open("account")?;
        let mut all = state.accounts.values().map(|row| &row.account);
        Ok(all.find(|a| a.name == *name).cloned())
    }

    async fn accounts(&self) -> Result<Vec<Account>, DatabaseError> {
        let state = self.open("accounts")?;
        let mut all: Vec<Account> = state.accounts.values().map(|row| row.account.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    async fn remove_account(&self, name: &AccountName) -> Result<(), DatabaseError> {
        let mut state = self.open("remove_account")?;
        let found = state.accounts.values().find(|row| row.account.name == *name);
        let id = found.map(|row| row.account.id);
        let id = id.ok_or_else(|| DatabaseError::NoAccount(name.to_string()))?;
        state.leave_signatures(id);
        state.leave_runs(id);
        state.accounts.remove(&id);
        let told = |account: AccountId, state: &State| {
            let mut on_its_word = state
                .told
                .iter()
                .filter(|row| row.evidence.witness == Witness::Account(id));
            let mut realisations = state.told_realisations.iter().filter(|(_, e)| e.account == id);
            on_its_word.any(|row| row.account == account) || realisations.any(|(whose, _)| *whose == account)
        };
        state.told.retain(|row| row.account != id);
        state.told_realisations.retain(|(whose, _)| *whose != id);
        let mut trust = std::mem::take(&mut state.trust);
        trust.retain(|(a, b, _)| *a != id && (*b != id || told(*a, &state)));
        state.trust = trust;
        state.readers.retain(|(a, b), _| *a != id && *b != id);
        state.claims.retain(|row| row.owner != id);
        state.realisations.retain(|row| row.account != id);
        state.requests.retain(|request| request.account != id);
        state.marks.retain(|mark| mark.account != id);
        state.settle();
        state.epoch += 1;
        Ok(())
    }

    async fn add_key(&self, account: AccountId, key: &SshKey) -> Result<(), DatabaseError> {
        let mut state = self.open("add_key")?;
        let others = state.accounts.iter().filter(|(id, _)| **id != account);
        if others
            .flat_map(|(_, row)| &row.ssh_keys)
            .any(|(k, _)| k.blob == key.blob)
        {
            return Err(DatabaseError::KeyTaken);
        }
        let keys = &mut state.of(account)?.ssh_keys;
        if !keys.iter().any(|(k, _)| k.blob == key.blob) {
            keys.push((key.clone(), BTreeMap::new()));
        }
        Ok(())
    }

    async fn keys(&self, account: AccountId) -> Result<Vec<SshKey>, DatabaseError> {
        let mut state = self.open("keys")?;
        Ok(state
            .of(account)?
            .ssh_keys
            .iter()
            .map(|(key, _)| key.clone())
            .collect())
    }

    async fn remove_key(&self, account: &Account, fingerprint: &str) -> Result<(), DatabaseError> {
        let mut state = self.open("remove_key")?;
        let keys = &mut state.of(account.id)?.ssh_keys;
        let before = keys.len();
        keys.retain(|(key, _)| key.fingerprint != fingerprint);
        let removed = keys.len() < before;
        state.epoch += u64::from(removed);
        match removed {
            true => Ok(()),
            false => Err(DatabaseError::NoKey {
                account: account.name.to_string(),
                fingerprint: fingerprint.to_owned(),
            }),
        }
    }

    async fn account_by_key(&self, blob: &[u8]) -> Result<Option<Account>, DatabaseError> {
        let state = self.open("account_by_key")?;
        let owner = state
            .accounts
            .values()
            .find(|row| row.ssh_keys.iter().any(|(key, _)| key.blob == blob));
        Ok(owner.map(|row| row.account.clone()))
    }
}
