//! A whole service in a temporary directory: database in memory, contents on disk, a builder that does as it is told.

mod builder;
mod caches;
mod database;
pub mod graphs;
mod keys;
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use firn_content::ContentStore;
use firn_core::{AccountName, Effective, Isolation, Rung};
use firn_nix::StorePath;
use firn_protocol::{BuildMode, BuildOptions, BuildResult, LogEvent, Store as _, StoreError, Upload as _};
use firn_service::ports::{Account, Accounts as _, Builds as _, JobLimits, Ports, RequestRecord, SshKey};
use firn_service::{AccountStore, Clock, Desk, House, Room, Settings};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use builder::{CHANCE, Lineage, StubBuilder, made_of};
pub use caches::{Calls, MemoryCaches, Script, entry};
pub use database::MemoryDatabase;
pub use keys::key;
pub use objects::{
    Drv, ITSELF, Item, fixed_without_path, item, objects_of_fixed, path, self_referring, text_item,
};

/// What the builder makes of a fixed output.
pub const FIXED: &str = "fixed";

/// All in memory, but the contents.
pub struct TestPorts;

impl Ports for TestPorts {
    type Database = MemoryDatabase;
    type Builder = StubBuilder;
    type Caches = MemoryCaches;
}

/// One account's store.
pub type Client = AccountStore<TestPorts>;

/// A clock that stands still until it is set.
#[derive(Default)]
pub struct HandClock(AtomicU64);

impl HandClock {
    pub fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

pub struct World {
    pub house: Arc<House<TestPorts>>,
    pub db: MemoryDatabase,
    pub builder: StubBuilder,
    pub caches: MemoryCaches,
    pub content: ContentStore,
    pub clock: Arc<HandClock>,
    settings: Settings,
    directory: TempDir,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(set: impl FnOnce(&mut Settings)) -> Self {
        let directory = directory();
        let content = ContentStore::open(&directory.path().join("content")).unwrap();
        let mut settings = Settings {
            systems: vec!["x86_64-linux".into()],
            features: BTreeSet::new(),
            cores: 1,
            max_jobs: 8,
            room: Room::default(),
            limits: JobLimits {
                wall: Duration::from_secs(3600),
                silent: Duration::from_secs(3600),
                log_bytes: 1 << 20,
                output_bytes: 1 << 20,
                ..JobLimits::default()
            },
            finish_left_builds: Duration::from_secs(900),
            max_nar_size: 1 << 20,
            request_memory: 512 << 20,
            builtins: BTreeMap::new(),
            sandboxes: vec![(Isolation::Namespaces, Ok("stub-1".into()))],
            extra: BTreeMap::new(),
            defaults: alone(),
            log_dir: directory.path().join("logs"),
        };
        set(&mut settings);
        let builder = StubBuilder::new(content.clone());
        // Bytes are on disk before rows speak of them.
        let (stored, notes) = (content.clone(), directory.path().join("content/staging"));
        let db = MemoryDatabase::new(move |hash| {
            assert!(stored.contains(hash), "{hash} is not there");
            assert!(!unsynced(&notes).contains(&hash.hex()), "{hash} is not on disk");
        });
        let clock = Arc::new(HandClock::default());
        let caches = MemoryCaches::default();
        let house = House::new(
            db.clone(),
            builder.clone(),
            caches.clone(),
            content.clone(),
            settings.clone(),
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        Self {
            house,
            db,
            builder,
            caches,
            content,
            clock,
            settings,
            directory,
        }
    }

    /// Another server on the same database and contents; or this one, started again with other settings.
    pub fn beside(&self, set: impl FnOnce(&mut Settings)) -> Arc<House<TestPorts>> {
        let mut settings = self.settings.clone();
        set(&mut settings);
        House::new(
            self.db.clone(),
            self.builder.clone(),
            self.caches.clone(),
            self.content.clone(),
            settings,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
        )
    }

    /// The service starts anew on what it has stored. Runs of before are not its own.
    pub fn restart(&mut self) {
        self.house = self.beside(|_| ());
    }

    /// The store of an account that there is.
    pub async fn client(&self, name: &str) -> Client {
        self.house.store(self.named(name).await)
    }

    /// Returns when so many marks are stored.
    pub async fn marked(&self, marks: usize) {
        soon(async {
            while self.db.marks().len() != marks {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// The store of a new account.
    pub async fn account(&self, name: &str) -> Client {
        let name = AccountName::parse(name).unwrap();
        self.house.store(self.house.create_account(&name).await.unwrap())
    }

    /// The account of that name.
    pub async fn named(&self, name: &str) -> Account {
        let name = AccountName::parse(name).unwrap();
        self.db.account(&name).await.unwrap().unwrap()
    }

    /// Lets a key act for the account of that name, as the operator does.
    pub async fn add_ssh_key(&self, name: &str, key: &SshKey) {
        let desk = self.house.operators_desk(self.named(name).await);
        desk.add_ssh_key(key).await.unwrap();
    }

    /// Where the account of that name decides.
    pub async fn desk(&self, name: &str) -> Desk<TestPorts> {
        self.house.desk(self.named(name).await)
    }

    /// How an account's requests were answered, oldest first.
    pub async fn requests(&self, name: &str) -> Vec<RequestRecord> {
        let account = self.named(name).await;
        let mut requests = self.db.requests(account.id, u32::MAX).await.unwrap();
        requests.reverse();
        requests
    }

    /// The rungs that answered an account's requests, oldest first.
    pub async fn rungs(&self, name: &str) -> Vec<Option<Rung>> {
        self.requests(name).await.into_iter().map(|r| r.rung).collect()
    }

    /// Returns when no run stands in the registry.
    pub async fn idle(&self) {
        soon(async {
            while self.house.running_builds() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// Build logs that are kept.
    pub fn logs(&self) -> usize {
        let Ok(folders) = std::fs::read_dir(self.log_dir()) else {
            return 0;
        };
        folders
            .map(|f| std::fs::read_dir(f.unwrap().path()).unwrap().count())
            .sum()
    }

    pub fn log_dir(&self) -> PathBuf {
        self.directory.path().join("logs")
    }
}

/// Neither caches nor keys: what a test wants of them it sets.
fn alone() -> Effective {
    Effective {
        substituters: Vec::new(),
        trusted_public_keys: Vec::new(),
        ..Effective::default()
    }
}

/// In memory where there is such a file system: these tests do not ask whether disks keep what they are told.
fn directory() -> TempDir {
    tempfile::tempdir_in(Path::new("/dev/shm")).unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Contents that are published and not yet synced, as the store notes them for the time after a crash.
fn unsynced(staging: &Path) -> BTreeSet<String> {
    let names = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap())
    };
    names(staging.to_owned())
        .flat_map(|session| names(staging.join(session).join("unsynced")))
        .collect()
}

/// What must not take for ever; generous, because it says nothing about speed.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it never happened")
}

/// Uploads in one batch.
pub async fn upload(client: &Client, items: &[&Item]) -> Result<(), StoreError> {
    let mut upload = client.begin_upload().await?;
    for item in items {
        upload.add(item.info.clone(), &mut &item.nar[..]).await?;
    }
    upload.commit().await
}

pub async fn is_valid(client: &Client, path: &StorePath) -> bool {
    let valid = client
        .query_valid_paths(BTreeSet::from([path.clone()]), false)
        .await;
    valid.unwrap().contains(path)
}

/// The NAR of a path as the client gets it.
pub async fn bytes(client: &Client, path: &StorePath) -> Result<Vec<u8>, StoreError> {
    let mut nar = Vec::new();
    let mut stream = client.nar_from_path(path.clone()).await?;
    stream.read_to_end(&mut nar).await.unwrap();
    Ok(nar)
}

/// What a request gave, and all its events.
pub struct Answered {
    pub result: Result<BuildResult, StoreError>,
    pub events: Vec<LogEvent>,
}

impl Answered {
    /// The log lines.
    pub fn lines(&self) -> Vec<String> {
        lines(&self.events)
    }

    /// The result of a request that was not the service's own failure.
    pub fn done(self) -> BuildResult {
        self.result.unwrap()
    }
}

fn lines(events: &[LogEvent]) -> Vec<String> {
    let line = |event: &LogEvent| match event {
        LogEvent::BuildLine { line, .. } => Some(String::from_utf8(line.clone()).unwrap()),
        _ => None,
    };
    events.iter().filter_map(line).collect()
}

/// A request that runs in a task.
pub struct Asked {
    task: JoinHandle<Result<BuildResult, StoreError>>,
    events: watch::Receiver<Vec<LogEvent>>,
}

impl Asked {
    /// A request of this account. Its client takes events one at a time.
    pub fn start(client: &Client, drv: &Drv, mode: BuildMode, options: BuildOptions) -> Self {
        let (client, drv) = (client.clone(), drv.clone());
        let (keep, events) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            let (log, mut receive) = mpsc::channel(1);
            let request = client.build_derivation(drv.path, drv.drv, mode, options, log);
            let collect = async {
                while let Some(event) = receive.recv().await {
                    keep.send_modify(|events| events.push(event));
                }
            };
            tokio::join!(request, collect).0
        });
        Self { task, events }
    }

    /// A plain request.
    pub fn plain(client: &Client, drv: &Drv) -> Self {
        Self::start(client, drv, BuildMode::Normal, BuildOptions::default())
    }

    /// Returns when the request is on its way: it has shown a line of its log, or has its answer.
    pub async fn began(&mut self) {
        // At the end the sender is gone, which is an answer too.
        let seen = self.events.wait_for(|events| !lines(events).is_empty());
        let _ = soon(seen).await;
    }

    /// Returns when the client has seen that line.
    pub async fn saw(&mut self, line: &str) {
        let seen = self
            .events
            .wait_for(|events| lines(events).iter().any(|l| l == line));
        drop(soon(seen).await.unwrap());
    }

    /// Returns when the client has seen that.
    pub async fn told(&mut self, of: impl Fn(&LogEvent) -> bool) {
        let seen = self.events.wait_for(|events| events.iter().any(&of));
        drop(soon(seen).await.unwrap());
    }

    /// The client goes away, with or without an answer.
    pub async fn leave(self) {
        self.task.abort();
        let _ = soon(self.task).await;
    }

    /// What the client has seen.
    pub fn events(&self) -> Vec<LogEvent> {
        self.events.borrow().clone()
    }

    pub async fn answer(self) -> Answered {
        let result = soon(self.task).await.unwrap();
        let events = self.events.borrow().clone();
        Answered { result, events }
    }
}

/// A plain request, answered.
pub async fn build(client: &Client, drv: &Drv) -> Answered {
    Asked::plain(client, drv).answer().await
}

/// A request with `--check`, answered.
pub async fn check(client: &Client, drv: &Drv) -> Answered {
    Asked::start(client, drv, BuildMode::Check, BuildOptions::default())
        .answer()
        .await
}
