//! A service whose builder gives what it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use firn_content::{ContentStore, IngestOptions};
use firn_core::{Effective, Isolation, Object};
use firn_nix::StorePath;
use firn_service::ports::{Builder, Job, JobLimits, Outcome, Ports, RunFailure, RunReport};
use firn_service::{Settings, SystemClock};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{Item, MemoryCaches, MemoryDatabase};

/// All in memory, but the contents.
pub struct Dictated;

impl Ports for Dictated {
    type Database = MemoryDatabase;
    type Builder = DictatedBuilder;
    type Caches = MemoryCaches;
}

/// Clones are the same builder.
#[derive(Clone)]
pub struct DictatedBuilder {
    content: ContentStore,
    given: Arc<Mutex<BTreeMap<StorePath, Item>>>,
    runs: Arc<AtomicU64>,
}

impl DictatedBuilder {
    /// What the next run of each of these derivations gives; nothing else may run.
    pub fn dictate(&self, items: impl IntoIterator<Item = (StorePath, Item)>) {
        *self.given.lock().unwrap() = items.into_iter().collect();
    }

    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }
}

impl Builder for DictatedBuilder {
    async fn run(&self, job: Job, _log: mpsc::Sender<Bytes>, _cancel: CancellationToken) -> Outcome {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let item = self.given.lock().unwrap().remove(&job.drv_path);
        let result = match item {
            None => Err(RunFailure::Infrastructure("nothing was to run".into())),
            Some(item) => {
                let options = IngestOptions {
                    expected_size: None,
                    expected_hash: None,
                    max_size: 1 << 20,
                };
                let staged = self
                    .content
                    .ingest(&mut &item.nar[..], options, None)
                    .await
                    .unwrap();
                self.content.publish([staged]).await.unwrap();
                let object = Object {
                    path: item.info.path,
                    content: item.info.nar_hash,
                    nar_size: item.info.nar_size,
                    references: item.info.references,
                    ca: item.info.ca,
                    self_references: None,
                };
                Ok(BTreeMap::from([("out".to_owned(), object)]))
            }
        };
        Outcome {
            result,
            report: RunReport {
                wall_ms: 1,
                cpu_user_us: 1,
                cpu_system_us: 1,
                ..RunReport::default()
            },
        }
    }
}

/// A whole service.
pub struct House {
    pub house: Arc<firn_service::House<Dictated>>,
    pub db: MemoryDatabase,
    pub caches: MemoryCaches,
    pub builder: DictatedBuilder,
    pub directory: TempDir,
}

impl House {
    pub fn new() -> Self {
        // In memory where there is such a file system: this test does not ask whether disks keep what they are told.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let content = ContentStore::open(&directory.path().join("content")).unwrap();
        let settings = Settings {
            systems: vec!["x86_64-linux".into()],
            features: BTreeSet::new(),
            cores: 1,
            max_jobs: 1,
            room: firn_service::Room::default(),
            limits: JobLimits {
                wall: Duration::from_secs(3600),
                silent: Duration::from_secs(3600),
                log_bytes: 1 << 20,
                output_bytes: 1 << 20,
                ..JobLimits::default()
            },
            finish_left_builds: Duration::ZERO,
            max_nar_size: 1 << 20,
            request_memory: 512 << 20,
            builtins: BTreeMap::new(),
            sandboxes: vec![(Isolation::Namespaces, Ok("dictated-1".into()))],
            extra: BTreeMap::new(),
            defaults: Effective {
                substituters: Vec::new(),
                trusted_public_keys: Vec::new(),
                ..Effective::default()
            },
            log_dir: directory.path().join("logs"),
        };
        let builder = DictatedBuilder {
            content: content.clone(),
            given: Arc::default(),
            runs: Arc::default(),
        };
        let db = MemoryDatabase::new(|_| {});
        let caches = MemoryCaches::default();
        let house = firn_service::House::new(
            db.clone(),
            builder.clone(),
            caches.clone(),
            content,
            settings,
            Arc::new(SystemClock),
        );
        Self {
            house,
            db,
            caches,
            builder,
            directory,
        }
    }
}
