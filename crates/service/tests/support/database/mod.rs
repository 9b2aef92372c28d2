//! All metadata in memory, with faults on demand: the contract of the ports, said as plainly as possible.

mod accounts;
mod builds;
mod grounds;
mod policies;
mod signatures;
mod told;
mod usage;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firn_core::{
    AccountId, BuildId, BuildKey, Claim, Ground, KeyId, Object, ObjectId, RealisationEvidence, Trust,
};
use firn_nix::signature::PublicKey;
use firn_nix::{NarHash, StorePath};
use firn_service::ports::{
    Account, DatabaseError, Gives, Login, Mark, OutputRecord, RequestRecord, RunFailure, RunRecord,
    SigningKey, SshKey,
};

use tokio::sync::Semaphore;

use signatures::SignatureRow;
use told::ToldRow;

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
    /// Methods that fail, with the calls that go well before.
    broken: BTreeMap<&'static str, usize>,
    /// Methods that wait, with the calls that go on before and what they wait for.
    held_up: BTreeMap<&'static str, (usize, Arc<Semaphore>)>,
    /// Methods that somebody had to wait for.
    waits: BTreeSet<&'static str>,
    /// Somebody writes past the service.
    others_write: bool,
    /// Number of the last thing that happened: what is older has the smaller number.
    clock: u64,
    epoch: u64,
    last_account: i64,
    accounts: BTreeMap<AccountId, AccountRow>,
    /// In the order of trusting.
    trust: Vec<(AccountId, AccountId, Trust)>,
    readers: BTreeMap<(AccountId, AccountId), Trust>,
    /// A key's number is its place, from 1; with it, whether it is settled.
    public_keys: Vec<(PublicKey, bool)>,
    /// An object's number is its place, from 1.
    objects: Vec<Object>,
    /// Oldest first.
    claims: Vec<ClaimRow>,
    signatures: Vec<SignatureRow>,
    realisations: Vec<RealisationEvidence>,
    told: Vec<ToldRow>,
    /// With the account that was told.
    told_realisations: Vec<(AccountId, RealisationEvidence)>,
    /// Every run that is remembered.
    runs: Vec<RunRow>,
    /// The runs that answer for a key; oldest first.
    results: Vec<Answer>,
    /// The failures that do; oldest first.
    failures: Vec<Answer>,
    /// Oldest first.
    marks: Vec<Mark>,
    /// All that ever had a mark.
    ever_marked: BTreeSet<AccountId>,
    requests: Vec<RequestRecord>,
    grounded: BTreeSet<(Ground, BuildId)>,
    /// Of which derivations, beside that.
    grounded_from: BTreeSet<(Ground, BuildId, StorePath)>,
}

struct AccountRow {
    account: Account,
    gives: Gives,
    settings: BTreeMap<String, String>,
    ssh_keys: Vec<(SshKey, BTreeMap<String, String>)>,
    logins: BTreeMap<String, Login>,
    /// The newest, which is the active one, at the end.
    signing_keys: Vec<SigningKey>,
}

struct ClaimRow {
    owner: AccountId,
    id: ObjectId,
    seq: u64,
    claim: Claim,
}

struct RunRow {
    /// `None` when the account is gone.
    owner: Option<AccountId>,
    shares: bool,
    run: RunRecord,
    /// By output name.
    outcome: Result<BTreeMap<String, OutputRecord>, RunFailure>,
}

struct Answer {
    key: BuildKey,
    build: BuildId,
    /// `None` when the account is gone.
    owner: Option<AccountId>,
    shares: bool,
}

impl Answer {
    fn new(run: &RunRecord, owner: AccountId, shares: bool) -> Self {
        Self {
            key: run.key,
            build: run.id,
            owner: Some(owner),
            shares,
        }
    }
}

impl MemoryDatabase {
    /// Shows every content to `witness` before a row speaks of it.
    pub fn new(witness: impl Fn(&NarHash) + Send + Sync + 'static) -> Self {
        Self {
            state: Arc::default(),
            witness: Arc::new(witness),
        }
    }

    /// From now on somebody writes past the service.
    pub fn others_write(&self) {
        self.lock().others_write = true;
    }

    /// From now on these methods fail, and only these.
    pub fn break_down(&self, methods: &[&'static str]) {
        self.lock().broken = methods.iter().map(|method| (*method, 0)).collect();
    }

    /// From now on this method works so many times and then fails.
    pub fn break_down_after(&self, method: &'static str, calls: usize) {
        self.lock().broken = BTreeMap::from([(method, calls)]);
    }

    /// From now on this method works so many times and then waits for a permit of what is returned, which has none.
    pub fn hold_up(&self, method: &'static str, calls: usize) -> Arc<Semaphore> {
        let permits = Arc::new(Semaphore::new(0));
        let held_up = (calls, Arc::clone(&permits));
        self.lock().held_up.insert(method, held_up);
        permits
    }

    /// Whether somebody waits there, or is about to.
    pub fn is_held_up(&self, method: &str) -> bool {
        self.lock().waits.contains(method)
    }

    async fn pass(&self, method: &'static str) {
        let permits = match self.lock().held_up.get_mut(method) {
            Some((0, permits)) => Arc::clone(permits),
            Some((left, _)) => {
                *left -= 1;
                return;
            }
            None => return,
        };
        self.lock().waits.insert(method);
        permits.acquire().await.unwrap().forget();
    }

    /// All claims of all accounts, the oldest first.
    pub fn all_claims(&self) -> Vec<(AccountId, Claim)> {
        let state = self.lock();
        state
            .claims
            .iter()
            .map(|row| (row.owner, row.claim.clone()))
            .collect()
    }

    /// Number of results that are kept, shared or not.
    pub fn results(&self) -> usize {
        self.lock().results.len()
    }

    /// Number of results that are shared.
    pub fn shared_results(&self) -> usize {
        self.lock().results.iter().filter(|answer| answer.shares).count()
    }

    /// All marks.
    pub fn marks(&self) -> Vec<Mark> {
        self.lock().marks.clone()
    }

    /// All accounts that ever had one.
    pub fn ever_marked(&self) -> BTreeSet<AccountId> {
        self.lock().ever_marked.clone()
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
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn of(&mut self, account: AccountId) -> Result<&mut AccountRow, DatabaseError> {
        self.accounts
            .get_mut(&account)
            .ok_or_else(|| DatabaseError::NoAccount(format!("#{}", account.0)))
    }

    fn gives(&self, account: AccountId) -> Gives {
        let nothing = Gives {
            evidence: false,
            results: false,
        };
        self.accounts.get(&account).map_or(nothing, |row| row.gives)
    }

    fn object_id(&mut self, object: &Object) -> ObjectId {
        let place = match self.objects.iter().position(|o| o == object) {
            Some(place) => place,
            None => {
                self.objects.push(object.clone());
                self.objects.len() - 1
            }
        };
        ObjectId(place as i64 + 1)
    }

    fn object(&self, id: ObjectId) -> &Object {
        &self.objects[id.0 as usize - 1]
    }

    fn newest_key(&self) -> KeyId {
        KeyId(self.public_keys.len() as i64)
    }
}
