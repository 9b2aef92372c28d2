//! On what terms a session sees the world: the settings that hold for it, and the policy that follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firn_core::{AccountId, Effective, KeyId, Layer, Level, Policy, layered};
use firn_nix::signature::PublicKey;

use crate::client_form::ClientForm;
use crate::policy_numbers::PolicyNumber;
use crate::ports::{DatabaseError, KeyFor, Policies, Ports, Stored};
use crate::{House, StoreError};

/// What a session brought, and the terms that were found for it last.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Fingerprint of the SSH key that logged in.
    ssh_key: Option<String>,
    /// Settings of the SSH environment.
    environment: Layer,
    latest: Mutex<Option<Arc<Terms>>>,
    /// For how long the client lets be remembered that caches have no such path, where it has said so.
    misses: Mutex<Option<Duration>>,
    news: Mutex<News>,
    pub(crate) client: ClientForm,
}

/// What a session was told of its caches, and what waits to be told.
#[derive(Debug, Default)]
struct News {
    known: BTreeSet<String>,
    untold: Vec<String>,
}

/// Different news of caches that one session is told.
const MAX_NEWS: usize = 100;

impl Session {
    pub(crate) fn new(ssh_key: Option<String>, environment: Layer) -> Self {
        Self {
            ssh_key,
            environment,
            latest: Mutex::default(),
            misses: Mutex::default(),
            news: Mutex::default(),
            client: ClientForm::default(),
        }
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a line told, unless the same news was told before. Whether it is new.
    pub(crate) fn tell(&self, news: String, line: &str) -> bool {
        let mut all = self.news();
        let is_new = all.known.len() < MAX_NEWS && all.known.insert(news);
        if is_new {
            all.untold.push(line.to_owned());
        }
        is_new
    }

    /// What is to be told now.
    pub(crate) fn untold(&self) -> Vec<String> {
        std::mem::take(&mut self.news().untold)
    }

    pub(crate) fn misses(&self) -> Option<Duration> {
        *self.misses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn remember_misses(&self, longest: Duration) {
        *self.misses.lock().unwrap_or_else(PoisonError::into_inner) = Some(longest);
    }

    /// The settings among the variables of an SSH session. The server's own variables are none.
    pub(crate) fn environment(variables: &[(Vec<u8>, Vec<u8>)]) -> Result<Layer, StoreError> {
        let settings = variables
            .iter()
            .filter(|(name, _)| name != b"FIRN_CONFIG" && name != b"FIRN_DATA_DIR")
            .map(|(name, value)| (name.as_slice(), value.as_slice()));
        Layer::from_environment(Level::SshEnvironment, settings)
            .map_err(|e| StoreError::new(format!("in the SSH environment: {e}")))
    }
}

/// What holds at one moment.
#[derive(Debug)]
pub(crate) struct Terms {
    epoch: u64,
    pub(crate) settings: Effective,
    pub(crate) policy: Policy,
    /// Tells the policy from others, and from itself in another epoch. `None`: what it sees is not remembered.
    pub(crate) number: Option<PolicyNumber>,
}

impl Terms {
    /// Whether builds of this account may serve others, and whether it takes theirs.
    pub(crate) fn sharing(&self) -> Sharing {
        Sharing {
            account: self.policy.account,
            gives: self.settings.gives_results(),
            takes: self.settings.takes_results(),
        }
    }

    /// The name of a key of the policy's.
    pub(crate) fn key_name(&self, id: KeyId) -> Option<&str> {
        // The policy's keys are the setting's, in the same order.
        let place = self.policy.keys.iter().position(|key| *key == id)?;
        self.settings.trusted_public_keys.get(place).map(|key| key.name())
    }
}

/// An account's part in derivation sharing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sharing {
    pub(crate) account: AccountId,
    pub(crate) gives: bool,
    pub(crate) takes: bool,
}

impl Sharing {
    /// Whose run it is: nobody's, where all share it.
    pub(crate) fn owner(self) -> Option<AccountId> {
        (!(self.gives && self.takes)).then_some(self.account)
    }
}

/// Values that were checked when they were set; what this version does not know any more is left out.
pub(crate) fn layer<'s>(level: Level, stored: impl IntoIterator<Item = (&'s String, &'s String)>) -> Layer {
    let mut layer = Layer::default();
    for (name, value) in stored {
        let known = firn_core::definition(name);
        let level = known.map_or(level, |d| {
            if level == Level::Account {
                level.min(d.up_to)
            } else {
                level
            }
        });
        if let Err(error) = layer.set(level, name, value) {
            tracing::warn!(%error, "a stored setting is left out");
        }
    }
    layer
}

/// What an account has set.
pub(crate) fn of_account(stored: &BTreeMap<String, String>) -> Layer {
    layer(Level::Account, stored)
}

impl<P: Ports> House<P> {
    /// The terms of a session now. Whatever was changed before this call holds.
    pub(crate) async fn terms(
        self: &Arc<Self>,
        account: AccountId,
        session: &Session,
    ) -> Result<Arc<Terms>, DatabaseError> {
        let epoch = self.db.epoch().await?;
        let latest = session
            .latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(terms) = latest.filter(|t| t.epoch == epoch) {
            return Ok(terms);
        }
        let stored = self.db.stored(account, session.ssh_key.as_deref()).await?;
        let terms = Arc::new(self.find_terms(account, session, stored).await?);
        *session.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&terms));
        Ok(terms)
    }

    async fn find_terms(
        self: &Arc<Self>,
        account: AccountId,
        session: &Session,
        stored: Stored,
    ) -> Result<Terms, DatabaseError> {
        let defaults = &self.settings.defaults;
        let account_layer = layer(Level::Account, &stored.account);
        let of_account = layered(defaults.clone(), [&account_layer]);
        let key_layer = layer(Level::Key, &stored.key);
        let settings = layered(of_account.clone(), [&key_layer, &session.environment]);
        // What the account decided for its SSH key is its own decision, too.
        let decided = layered(of_account, [&key_layer]).trusted_public_keys;
        let policy = Policy {
            account,
            keys: self
                .key_ids(account, &settings.trusted_public_keys, &decided)
                .await?,
            accounts: stored.accounts,
            told_by: stored.trusted,
        };
        Ok(Terms {
            epoch: stored.epoch,
            settings,
            number: self.policy_numbers.number(stored.epoch, &policy),
            policy,
        })
    }

    /// The numbers of keys, in the same order. One that is new here, or whose earlier signatures were not all looked at, is made known first.
    /// `decided`: those that the account itself trusts; the others are its session's.
    async fn key_ids(
        self: &Arc<Self>,
        account: AccountId,
        keys: &[PublicKey],
        decided: &[PublicKey],
    ) -> Result<Vec<KeyId>, DatabaseError> {
        let mut ids = Vec::with_capacity(keys.len());
        for key in keys {
            let by = if self.settings.defaults.trusted_public_keys.contains(key) {
                KeyFor::Operator
            } else if decided.contains(key) {
                KeyFor::Account(account)
            } else {
                KeyFor::Session(account)
            };
            ids.push(self.register(by, key).await?);
        }
        Ok(ids)
    }
}
