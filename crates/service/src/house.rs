//! The service of all accounts: what every account's store stands on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use firn_content::ContentStore;
use firn_core::EnvironmentClass;
use firn_nix::NarHash;
use tokio::sync::Semaphore;

use crate::AccountStore;
use crate::ports::{Account, Builder, Database, JobLimits};
use crate::running::Registry;

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
    /// Limits on each.
    pub limits: JobLimits,
    /// Bytes of the largest NAR that is taken.
    pub max_nar_size: u64,
    /// Name and version of the sandbox, part of every build key.
    pub sandbox: String,
    /// Contents of the files that every sandbox has besides its inputs, by path.
    pub extra: BTreeMap<String, NarHash>,
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
pub struct House<D, B> {
    pub(crate) db: D,
    pub(crate) builder: B,
    pub(crate) content: ContentStore,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) running: Registry,
    pub(crate) slots: Semaphore,
}

impl<D: Database, B: Builder> House<D, B> {
    /// Puts the parts together.
    pub fn new(
        db: D,
        builder: B,
        content: ContentStore,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let slots = Semaphore::new(settings.max_jobs.max(1));
        Arc::new(Self {
            db,
            builder,
            content,
            settings,
            clock,
            running: Registry::default(),
            slots,
        })
    }

    /// The store of one account: all that a session of that account can reach.
    #[must_use]
    pub fn store(self: &Arc<Self>, account: Account) -> AccountStore<D, B> {
        AccountStore {
            house: Arc::clone(self),
            account,
        }
    }

    /// The metadata.
    pub fn database(&self) -> &D {
        &self.db
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        self.clock.now().as_secs()
    }

    /// Builds that run or wait for a slot.
    pub fn running_builds(&self) -> usize {
        self.running.len()
    }

    /// What a sandbox for that system looks like.
    pub(crate) fn class(&self, system: &str) -> EnvironmentClass {
        EnvironmentClass {
            system: system.to_owned(),
            sandbox: self.settings.sandbox.clone(),
            extra: self.settings.extra.clone(),
            cores: self.settings.cores,
        }
    }
}
