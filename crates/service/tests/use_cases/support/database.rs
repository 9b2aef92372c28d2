//! All metadata in memory, with faults on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firn_core::{AccountId, AccountName, BuildId, BuildKey, Claim};
use firn_nix::{NarHash, StorePath};
use firn_service::ports::{
    Account, Accounts, BuildRecord, Builds, DatabaseError, RequestRecord, SshKey, Views,
};

/// Looks at a content that a row is about to speak of.
type Witness = dyn Fn(&NarHash) + Send + Sync;

/// Clones are the same database.
#[derive(Clone)]
pub struct MemoryDatabase {
    state: Arc<Mutex<State>>,
    witness: Arc<Witness>,
}

#[derive(Default)]
struct State {
    /// Methods that fail.
    /// With the calls that go well before.
    broken: BTreeMap<&'static str, usize>,
    accounts: Vec<Account>,
    keys: Vec<(AccountId, SshKey)>,
    /// Oldest first.
    claims: Vec<(AccountId, Claim)>,
    builds: BTreeMap<BuildId, BuildRecord>,
    results: BTreeMap<BuildKey, BuildId>,
    requests: Vec<RequestRecord>,
}

impl MemoryDatabase {
    /// Shows every content to `witness` before a row speaks of it.
    pub fn new(witness: impl Fn(&NarHash) + Send + Sync + 'static) -> Self {
        Self {
            state: Arc::default(),
            witness: Arc::new(witness),
        }
    }

    /// From now on these methods fail, and only these.
    pub fn break_down(&self, methods: &[&'static str]) {
        self.lock().broken = methods.iter().map(|method| (*method, 0)).collect();
    }

    /// From now on this method works so many times and then fails.
    pub fn break_down_after(&self, method: &'static str, calls: usize) {
        self.lock().broken = BTreeMap::from([(method, calls)]);
    }

    /// All claims of all accounts.
    pub fn all_claims(&self) -> Vec<(AccountId, Claim)> {
        self.lock().claims.clone()
    }

    /// Number of shared results.
    pub fn shared_results(&self) -> usize {
        self.lock().results.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, method: &'static str) -> Result<MutexGuard<'_, State>, DatabaseError> {
        let mut state = self.lock();
        match state.broken.get_mut(method) {
            Some(0) => {
                return Err(DatabaseError::Backend(
                    "secret detail: the disk is on fire".into(),
                ));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(state)
    }
}

impl State {
    fn of(&self, account: AccountId) -> impl Iterator<Item = &Claim> {
        self.claims
            .iter()
            .filter(move |(owner, _)| *owner == account)
            .map(|(_, claim)| claim)
    }
}

impl Accounts for MemoryDatabase {
    async fn create_account(&self, name: &AccountName, now: u64) -> Result<Account, DatabaseError> {
        let mut state = self.open("create_account")?;
        if state.accounts.iter().any(|a| a.name == *name) {
            return Err(DatabaseError::AccountExists(name.to_string()));
        }
        let account = Account {
            id: AccountId(state.accounts.len() as i64 + 1),
            name: name.clone(),
            created: now,
        };
        state.accounts.push(account.clone());
        Ok(account)
    }

    async fn account(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError> {
        Ok(self
            .open("account")?
            .accounts
            .iter()
            .find(|a| a.name == *name)
            .cloned())
    }

    async fn accounts(&self) -> Result<Vec<Account>, DatabaseError> {
        Ok(self.open("accounts")?.accounts.clone())
    }

    async fn remove_account(&self, name: &AccountName) -> Result<(), DatabaseError> {
        let mut state = self.open("remove_account")?;
        let found = state.accounts.iter().find(|a| a.name == *name).map(|a| a.id);
        let id = found.ok_or_else(|| DatabaseError::NoAccount(name.to_string()))?;
        state.accounts.retain(|a| a.id != id);
        state.keys.retain(|(owner, _)| *owner != id);
        state.claims.retain(|(owner, _)| *owner != id);
        Ok(())
    }

    async fn add_key(&self, account: AccountId, key: &SshKey) -> Result<(), DatabaseError> {
        self.open("add_key")?.keys.push((account, key.clone()));
        Ok(())
    }

    async fn keys(&self, account: AccountId) -> Result<Vec<SshKey>, DatabaseError> {
        let state = self.open("keys")?;
        let keys = state.keys.iter().filter(|(owner, _)| *owner == account);
        Ok(keys.map(|(_, key)| key.clone()).collect())
    }

    async fn remove_key(&self, account: &Account, fingerprint: &str) -> Result<(), DatabaseError> {
        let mut state = self.open("remove_key")?;
        state
            .keys
            .retain(|(owner, key)| *owner != account.id || key.fingerprint != fingerprint);
        Ok(())
    }

    async fn account_by_key(&self, blob: &[u8]) -> Result<Option<Account>, DatabaseError> {
        let state = self.open("account_by_key")?;
        let owner = state
            .keys
            .iter()
            .find(|(_, key)| key.blob == blob)
            .map(|(owner, _)| *owner);
        Ok(state.accounts.iter().find(|a| Some(a.id) == owner).cloned())
    }
}

impl Views for MemoryDatabase {
    async fn claims(&self, account: AccountId, paths: &[StorePath]) -> Result<Vec<Claim>, DatabaseError> {
        let state = self.open("claims")?;
        let paths: BTreeSet<&StorePath> = paths.iter().collect();
        Ok(state
            .of(account)
            .filter(|c| paths.contains(&c.object.path))
            .cloned()
            .collect())
    }

    async fn claims_by_hash_part(&self, account: AccountId, hash: &str) -> Result<Vec<Claim>, DatabaseError> {
        let state = self.open("claims_by_hash_part")?;
        Ok(state
            .of(account)
            .filter(|c| c.object.path.hash_part() == hash)
            .cloned()
            .collect())
    }

    async fn paths(&self, account: AccountId) -> Result<BTreeSet<StorePath>, DatabaseError> {
        Ok(self
            .open("paths")?
            .of(account)
            .map(|c| c.object.path.clone())
            .collect())
    }

    async fn referrers(
        &self,
        account: AccountId,
        path: &StorePath,
    ) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let state = self.open("referrers")?;
        let referring = state.of(account).filter(|c| c.object.references.contains(path));
        Ok(referring.map(|c| c.object.path.clone()).collect())
    }

    async fn derivers(
        &self,
        account: AccountId,
        path: &StorePath,
    ) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let state = self.open("derivers")?;
        let of_path = state.of(account).filter(|c| c.object.path == *path);
        Ok(of_path.filter_map(|c| c.deriver.clone()).collect())
    }

    async fn record_claims(&self, account: AccountId, claims: &[Claim]) -> Result<(), DatabaseError> {
        let mut state = self.open("record_claims")?;
        if !state.accounts.iter().any(|a| a.id == account) {
            return Err(DatabaseError::NoAccount(format!("#{}", account.0)));
        }
        for claim in claims {
            (self.witness)(&claim.object.content);
            let same = state.claims.iter_mut().find(|(owner, known)| {
                *owner == account && known.object == claim.object && known.kind == claim.kind
            });
            match same {
                Some((_, known)) => known.signatures.extend(claim.signatures.iter().cloned()),
                None => state.claims.push((account, claim.clone())),
            }
        }
        Ok(())
    }

    async fn add_signatures(
        &self,
        account: AccountId,
        path: &StorePath,
        signatures: &BTreeSet<String>,
    ) -> Result<bool, DatabaseError> {
        let mut state = self.open("add_signatures")?;
        let mut any = false;
        for (owner, claim) in &mut state.claims {
            if *owner == account && claim.object.path == *path {
                claim.signatures.extend(signatures.iter().cloned());
                any = true;
            }
        }
        Ok(any)
    }

    async fn contents(&self) -> Result<BTreeSet<NarHash>, DatabaseError> {
        let state = self.open("contents")?;
        let claimed = state.claims.iter().map(|(_, claim)| claim.object.content);
        let built = state
            .builds
            .values()
            .flat_map(|b| b.outputs.values())
            .map(|o| o.object.content);
        Ok(claimed.chain(built).collect())
    }
}

impl Builds for MemoryDatabase {
    async fn result(&self, key: &BuildKey) -> Result<Option<BuildRecord>, DatabaseError> {
        let state = self.open("result")?;
        let id = state.results.get(key);
        Ok(id.and_then(|id| state.builds.get(id)).cloned())
    }

    async fn record_build(&self, record: &BuildRecord) -> Result<BuildRecord, DatabaseError> {
        let mut state = self.open("record_build")?;
        record
            .outputs
            .values()
            .for_each(|o| (self.witness)(&o.object.content));
        state.builds.entry(record.id).or_insert_with(|| record.clone());
        let shared = *state.results.entry(record.key).or_insert(record.id);
        Ok(state.builds[&shared].clone())
    }

    async fn forget_result(&self, key: &BuildKey) -> Result<(), DatabaseError> {
        let mut state = self.open("forget_result")?;
        if let Some(id) = state.results.remove(key) {
            state.builds.remove(&id);
        }
        Ok(())
    }

    async fn record_request(&self, request: &RequestRecord) -> Result<(), DatabaseError> {
        self.open("record_request")?.requests.push(request.clone());
        Ok(())
    }

    async fn requests(&self, account: AccountId, limit: u32) -> Result<Vec<RequestRecord>, DatabaseError> {
        let state = self.open("requests")?;
        let of_account = state.requests.iter().rev().filter(|r| r.account == account);
        Ok(of_account.take(limit as usize).cloned().collect())
    }
}
