//! The service of all accounts: what every account's store stands on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use firn_content::ContentStore;
use firn_core::{AccountName, Effective, EnvironmentClass, Isolation};
use firn_nix::NarHash;
use firn_nix::rewrite::SelfReferences;
use firn_protocol::Memory;

use crate::cache_states::CacheStates;
use crate::desk::Desk;
use crate::graph::Nodes;
use crate::ground::KnownGrounds;
use crate::known_keys::Checking;
use crate::new_keys::NewKeys;
use crate::policy_numbers::PolicyNumbers;
use crate::ports::{Account, Accounts as _, DatabaseError, Gives, JobLimits, Policies as _, Ports};
use crate::presence::Presences;
use crate::queue::Queue;
use crate::reserve::Room;
use crate::resolve::{Choices, ClosedObjects, failed};
use crate::running::Registry;
use crate::signing;
use crate::single_flight::SingleFlight;
use crate::terms::Session;
use crate::turns::Turns;
use crate::{AccountStore, StoreError};

/// User names of SSH logins that say nothing of whose they are. A login with an account's name is that account's or none, and so an account
/// of such a name would shut others out.
const NOBODYS_NAMES: [&str; 3] = ["firn", "nix", "root"];

/// Graphs that are read at once, of all accounts together.
const READING: usize = 2;

/// Large derivations that are read at once, of all accounts together.
const LARGE: usize = 2;

/// What the operator decided.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Systems that can be built for, the machine's own first.
    pub systems: Vec<String>,
    /// `requiredSystemFeatures` on offer.
    pub features: BTreeSet<String>,
    /// What `NIX_BUILD_CORES` says in every build.
    pub cores: u32,
    /// Builds that run at once.
    pub max_jobs: usize,
    /// Memory and processors for all of them together.
    pub room: Room,
    /// Limits on each.
    pub limits: JobLimits,
    /// For how long a shared run that everybody has left goes on.
    pub finish_left_builds: Duration,
    /// Bytes of memory for what clients ask, of all accounts together.
    pub request_memory: u64,
    /// Bytes of the largest NAR that is taken.
    pub max_nar_size: u64,
    /// What builds can run in, the preferred first: with name and version of what a build sees there, which is part of every build key;
    /// or why builds cannot, for whoever requires it.
    pub sandboxes: Vec<(Isolation, Result<String, String>)>,
    /// Contents of the files that every sandbox has besides its inputs, by path.
    pub extra: BTreeMap<String, NarHash>,
    /// Builders that Nix has built in, on offer here, with the version of what they do, which is part of their build keys.
    pub builtins: BTreeMap<String, String>,
    /// What holds for accounts that set nothing: the system level of settings.
    pub defaults: Effective,
    /// Where build logs go.
    pub log_dir: PathBuf,
}

/// Source of the time, so that tests can set it.
pub trait Clock: Send + Sync + 'static {
    /// Since 1970.
    fn now(&self) -> Duration;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// Database, contents, builder and settings: one per server.
pub struct House<P: Ports> {
    pub(crate) db: P::Database,
    pub(crate) builder: P::Builder,
    pub(crate) caches: P::Caches,
    pub(crate) content: ContentStore,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) running: Registry,
    pub(crate) queue: Queue,
    pub(crate) closed: ClosedObjects,
    pub(crate) choices: Choices,
    pub(crate) policy_numbers: PolicyNumbers,
    /// Each finds in which form the content address is right, where there is more than one.
    pub(crate) fetching: SingleFlight<Option<SelfReferences>>,
    pub(crate) cache_states: CacheStates,
    /// Who acts for which account at the moment.
    pub(crate) presences: Presences,
    /// SSH keys that wait for their proof.
    pub(crate) new_keys: NewKeys,
    pub(crate) grounds: KnownGrounds,
    /// Derivations that graphs were made of.
    pub(crate) nodes: Nodes,
    /// Graphs that are read at once.
    pub(crate) reading: Turns,
    /// Large derivations that are read at once.
    pub(crate) large: Turns,
    /// Signatures that are checked.
    pub(crate) checking: Checking,
    /// What requests and derivations may take.
    pub(crate) memory: Memory,
}

impl<P: Ports> House<P> {
    /// Puts the parts together.
    pub fn new(
        db: P::Database,
        builder: P::Builder,
        caches: P::Caches,
        content: ContentStore,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let queue = Queue::new(settings.room.capacity(settings.max_jobs));
        let memory = Memory::new(settings.request_memory);
        Arc::new(Self {
            db,
            builder,
            caches,
            content,
            settings,
            clock,
            running: Registry::default(),
            queue,
            closed: ClosedObjects::default(),
            choices: Choices::default(),
            policy_numbers: PolicyNumbers::default(),
            fetching: SingleFlight::default(),
            cache_states: CacheStates::default(),
            presences: Presences::default(),
            new_keys: NewKeys::default(),
            grounds: KnownGrounds::default(),
            nodes: Nodes::default(),
            reading: Turns::new(READING),
            large: Turns::new(LARGE),
            checking: Checking::default(),
            memory,
        })
    }

    /// Makes an account, with a key that signs for it.
    ///
    /// # Errors
    /// When the name is taken or cannot be an account's, or the database fails.
    pub async fn create_account(&self, name: &AccountName) -> Result<Account, StoreError> {
        if NOBODYS_NAMES.contains(&name.as_str()) {
            return Err(StoreError::new(format!(
                "'{name}' is what clients of many accounts call themselves, so it cannot be an account's name"
            )));
        }
        let key = signing::new_key(name)?
            .secret(0)
            .map_err(|e| StoreError::new(e.to_string()))?;
        let gives = Gives::of(&self.settings.defaults);
        match self.db.create_account(name, &key, gives, self.now()).await {
            Err(e @ DatabaseError::AccountExists(_)) => Err(StoreError::new(e.to_string())),
            other => other.map_err(failed),
        }
    }

    /// Before the doors open: what accounts give to others follows from the operator's settings of today. For how many that is something
    /// else than before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_gives(&self) -> Result<u64, StoreError> {
        self.db
            .settle_gives(&self.settings.defaults)
            .await
            .map_err(failed)
    }

    /// Removes an account, and what it keeps besides the database.
    ///
    /// # Errors
    /// When it is gone already, or the database fails.
    pub async fn remove_account(&self, account: &Account) -> Result<(), StoreError> {
        let removed = self.db.remove_account(&account.name).await;
        removed.map_err(|e| match e {
            e @ DatabaseError::NoAccount(_) => StoreError::new(e.to_string()),
            e => failed(e),
        })?;
        self.new_keys.drop_wishes(account, None);
        self.presences.changed(account.id);
        self.forget_brought_logs(account.id);
        self.cache_states.forget(account.id);
        Ok(())
    }

    /// The store of one account, as a session without an SSH key or environment of its own sees it.
    #[must_use]
    pub fn store(self: &Arc<Self>, account: Account) -> AccountStore<P> {
        AccountStore {
            house: Arc::clone(self),
            account,
            session: Arc::new(Session::default()),
        }
    }

    /// The store of one account for a session: all that the session can reach. `ssh_key` is the fingerprint of the key that logged in,
    /// `environment` what the session brought, of which `FIRN_…` variables are settings.
    ///
    /// # Errors
    /// A variable that is no setting, or has a wrong value; it is named, with the nearest name that there is.
    pub async fn session(
        self: &Arc<Self>,
        account: Account,
        ssh_key: Option<String>,
        environment: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<AccountStore<P>, StoreError> {
        let mut store = self.store(account);
        let before = Session::new(ssh_key.clone(), Default::default());
        store.session = Arc::new(before);
        if store.settings().await?.settings_from_ssh_env {
            store.session = Arc::new(Session::new(ssh_key, Session::environment(&environment)?));
        }
        Ok(store)
    }

    /// Where an account decides about itself.
    #[must_use]
    pub fn desk(self: &Arc<Self>, account: Account) -> Desk<P> {
        Desk {
            house: Arc::clone(self),
            account,
            operator: false,
        }
    }

    /// The same desk with the operator at it, who may also set what is the operator's to set for an account.
    #[must_use]
    pub fn operators_desk(self: &Arc<Self>, account: Account) -> Desk<P> {
        Desk {
            operator: true,
            ..self.desk(account)
        }
    }

    /// The metadata.
    pub fn database(&self) -> &P::Database {
        &self.db
    }

    /// The memory for what clients ask.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        self.clock.now().as_secs()
    }

    /// Builds that run or wait for a slot. One that was discarded runs until its processes are gone.
    pub fn running_builds(&self) -> usize {
        let (turns, waiting) = self.queue.counts();
        self.running.len().max(turns + waiting)
    }

    /// Builds that have their turn, and builds that wait for theirs.
    pub fn queue(&self) -> (usize, usize) {
        self.queue.counts()
    }

    /// What is said to an account that wants builds in a sandbox that is not on offer.
    pub(crate) fn not_offered(&self, required: Isolation) -> Option<String> {
        let offered = || self.settings.sandboxes.iter().map(|(isolation, _)| *isolation);
        if offered().any(|isolation| isolation == required) {
            return None;
        }
        let names: Vec<&str> = offered().map(Isolation::name).collect();
        Some(format!(
            "'sandbox' cannot be '{required}': this service offers {}",
            names.join(" and ")
        ))
    }

    /// Where a builtin builder runs and what it can see: nothing but its attributes and inputs. It is the service's own code, and
    /// so runs in namespaces whatever is required.
    pub(crate) fn builtin_class(&self, name: &str) -> (Isolation, EnvironmentClass) {
        let version = self.settings.builtins.get(name).map_or("", String::as_str);
        let class = EnvironmentClass {
            system: "builtin".to_owned(),
            sandbox: format!("{name} {version}"),
            extra: BTreeMap::new(),
            cores: 1,
        };
        (Isolation::Namespaces, class)
    }

    /// Returns, with the reason, when a part of it is lost without which it builds no more.
    pub async fn lost(&self) -> String {
        self.queue.broken().await;
        "the queue of builds was left in the middle of a change".to_owned()
    }

    /// Where a build for that system runs, and what it sees there; or why it cannot be run as is required.
    pub(crate) fn class(
        &self,
        system: &str,
        required: Option<Isolation>,
    ) -> Result<(Isolation, EnvironmentClass), String> {
        let mut sandboxes = self.settings.sandboxes.iter();
        let found = sandboxes.find(|(isolation, _)| required.is_none_or(|required| required == *isolation));
        let (isolation, sandbox) = match (found, required) {
            (Some((isolation, Ok(sandbox))), _) => (*isolation, sandbox),
            (Some((isolation, Err(why))), _) => {
                return Err(format!("builds cannot run in sandbox '{isolation}' here: {why}"));
            }
            (None, Some(required)) => {
                return Err(format!(
                    "the account's setting 'sandbox' requires '{required}', which this service does not offer"
                ));
            }
            (None, None) => return Err("this service offers no sandbox".to_owned()),
        };
        let class = EnvironmentClass {
            system: system.to_owned(),
            sandbox: sandbox.clone(),
            extra: self.settings.extra.clone(),
            cores: self.settings.cores,
        };
        Ok((isolation, class))
    }
}
