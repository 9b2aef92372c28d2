//! A store in memory, with a builder that writes one line into each output.

#![expect(clippy::unwrap_used, reason = "a test shows by panicking what is wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use firn_nix::realisation::{DrvOutput, Realisation};
use firn_nix::{BasicDerivation, CaMethod, ContentAddress, Hash, HashAlgo, NarHash, PathInfo, StorePath};
use firn_protocol::wire::{Decoder, Encoder, WireLimits};
use firn_protocol::{
    Addressing, BuildMode, BuildOptions, BuildResult, BuildStatus, ByteStream, DerivedPath, Doing, LogEvent,
    LogSink, Missing, Store, StoreError, Upload,
};
use tokio::io::{AsyncRead, AsyncReadExt};

#[derive(Clone)]
pub struct Entry {
    pub info: PathInfo,
    pub nar: Arc<Vec<u8>>,
}

#[derive(Default)]
pub struct State {
    pub entries: BTreeMap<StorePath, Entry>,
    pub logs: BTreeMap<StorePath, Vec<u8>>,
    pub realisations: BTreeMap<DrvOutput, Realisation>,
    pub options: Option<BuildOptions>,
    pub misses: Option<std::time::Duration>,
    pub met: Option<Addressing>,
    /// Uploads are refused that have this in the name.
    pub refuse: Option<String>,
    /// Where entries are kept for other processes.
    pub dir: Option<PathBuf>,
}

#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    /// Builds that were started and not ended.
    pub running: Arc<AtomicU64>,
}

/// NAR of one regular file.
pub fn file_nar(contents: &[u8]) -> Vec<u8> {
    let mut e = Encoder::default();
    for word in ["nix-archive-1", "(", "type", "regular", "contents"] {
        e.text(word);
    }
    e.bytes(contents).text(")");
    e.as_bytes().to_vec()
}

/// Path information that fits the NAR.
pub fn info(path: &StorePath, nar: &[u8], references: BTreeSet<StorePath>) -> PathInfo {
    let digest = Hash::sha256(nar);
    PathInfo {
        path: path.clone(),
        deriver: None,
        nar_hash: NarHash::new(digest.bytes().try_into().unwrap()),
        references,
        registration_time: 0,
        nar_size: nar.len() as u64,
        ultimate: false,
        signatures: BTreeSet::new(),
        ca: None,
    }
}

struct Running(Arc<AtomicU64>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl MemoryStore {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A store that shares its entries with other processes through a folder.
    pub async fn open(dir: PathBuf) -> Self {
        let store = Self::default();
        let limits = WireLimits::default();
        for file in std::fs::read_dir(&dir).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_none_or(|e| e != "info") {
                continue;
            }
            let raw = std::fs::read(&file).unwrap();
            let info = Decoder::new(&mut raw.as_slice(), &limits)
                .path_info()
                .await
                .unwrap();
            let nar = Arc::new(std::fs::read(file.with_extension("nar")).unwrap());
            store.insert(Entry { info, nar });
        }
        store.state().dir = Some(dir);
        store
    }

    pub fn insert(&self, entry: Entry) {
        let mut state = self.state();
        if let Some(dir) = &state.dir {
            let mut e = Encoder::default();
            e.path_info(&entry.info);
            let base = entry.info.path.base_name();
            // "x.drv" must not lose its own extension.
            std::fs::write(dir.join(format!("{base}.nar")), entry.nar.as_slice()).unwrap();
            std::fs::write(dir.join(format!("{base}.info")), e.as_bytes()).unwrap();
        }
        state.entries.insert(entry.info.path.clone(), entry);
    }

    /// Adds a file under a path.
    pub fn insert_file(&self, path: &StorePath, contents: &[u8]) {
        let nar = file_nar(contents);
        let info = info(path, &nar, BTreeSet::new());
        self.insert(Entry {
            info,
            nar: Arc::new(nar),
        });
    }

    pub fn contains(&self, path: &StorePath) -> bool {
        self.state().entries.contains_key(path)
    }
}

async fn read(body: &mut (dyn AsyncRead + Send + Unpin)) -> Result<Vec<u8>, StoreError> {
    let mut out = Vec::new();
    body.read_to_end(&mut out)
        .await
        .map_err(|e| StoreError::new(format!("cannot read the body: {e}")))?;
    Ok(out)
}

impl Store for MemoryStore {
    type Upload = MemoryUpload;

    fn meet(&self, addressing: Addressing) {
        self.state().met = Some(addressing);
    }

    async fn query_valid_paths(
        &self,
        paths: BTreeSet<StorePath>,
        _substitute: bool,
    ) -> Result<BTreeSet<StorePath>, StoreError> {
        let state = self.state();
        Ok(paths
            .into_iter()
            .filter(|p| state.entries.contains_key(p))
            .collect())
    }

    async fn query_path_infos(&self, paths: Vec<StorePath>) -> Result<Vec<PathInfo>, StoreError> {
        let state = self.state();
        Ok(paths
            .iter()
            .filter_map(|p| Some(state.entries.get(p)?.info.clone()))
            .collect())
    }

    async fn query_path_from_hash_part(&self, hash_part: String) -> Result<Option<StorePath>, StoreError> {
        let state = self.state();
        Ok(state.entries.keys().find(|p| p.hash_part() == hash_part).cloned())
    }

    async fn query_all_valid_paths(&self) -> Result<BTreeSet<StorePath>, StoreError> {
        Ok(self.state().entries.keys().cloned().collect())
    }

    async fn query_referrers(&self, path: StorePath) -> Result<BTreeSet<StorePath>, StoreError> {
        let state = self.state();
        Ok(state
            .entries
            .values()
            .filter(|e| e.info.references.contains(&path))
            .map(|e| e.info.path.clone())
            .collect())
    }

    async fn query_valid_derivers(&self, path: StorePath) -> Result<BTreeSet<StorePath>, StoreError> {
        let state = self.state();
        Ok(state
            .entries
            .get(&path)
            .and_then(|e| e.info.deriver.clone())
            .into_iter()
            .collect())
    }

    async fn query_closure(
        &self,
        paths: BTreeSet<StorePath>,
        _include_outputs: bool,
    ) -> Result<BTreeSet<StorePath>, StoreError> {
        let state = self.state();
        let mut found = BTreeSet::new();
        let mut queue: Vec<StorePath> = paths.into_iter().collect();
        while let Some(path) = queue.pop() {
            if let Some(entry) = state.entries.get(&path)
                && found.insert(path)
            {
                queue.extend(entry.info.references.iter().cloned());
            }
        }
        Ok(found)
    }

    async fn query_derivation_outputs(
        &self,
        drv_path: StorePath,
    ) -> Result<BTreeMap<String, Option<StorePath>>, StoreError> {
        if !self.contains(&drv_path) {
            return Err(StoreError::new(format!("path '{drv_path}' is not valid")));
        }
        Ok(BTreeMap::from([("out".to_owned(), None)]))
    }

    async fn query_missing(&self, targets: Vec<DerivedPath>) -> Result<Missing, StoreError> {
        let state = self.state();
        let mut missing = Missing::default();
        for target in targets {
            match target {
                DerivedPath::Opaque(path) if !state.entries.contains_key(&path) => {
                    missing.unknown.insert(path);
                }
                DerivedPath::Opaque(_) => {}
                DerivedPath::Built { drv_path, .. } => {
                    missing.will_build.insert(drv_path);
                }
            }
        }
        Ok(missing)
    }

    async fn nar_from_path(&self, path: StorePath) -> Result<ByteStream, StoreError> {
        let state = self.state();
        let entry = state
            .entries
            .get(&path)
            .ok_or_else(|| StoreError::new(format!("path '{path}' is not valid")))?;
        Ok(Box::new(Cursor::new(entry.nar.as_slice().to_vec())))
    }

    async fn begin_upload(&self) -> Result<MemoryUpload, StoreError> {
        Ok(MemoryUpload {
            store: self.clone(),
            entries: Vec::new(),
        })
    }

    async fn add_to_store(
        &self,
        name: String,
        method: CaMethod,
        algo: HashAlgo,
        references: BTreeSet<StorePath>,
        body: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<PathInfo, StoreError> {
        if self.state().refuse.as_ref().is_some_and(|r| name.contains(r)) {
            return Err(StoreError::new(format!("'{name}' is refused")));
        }
        let bytes = read(body).await?;
        let hash = algo.digest(&bytes);
        let ca = ContentAddress { method, hash };
        let path = StorePath::make_content_addressed(&name, &ca, &references, false)
            .map_err(|e| StoreError::new(e.to_string()))?;
        let nar = match method {
            CaMethod::Text | CaMethod::Flat => file_nar(&bytes),
            CaMethod::Nar | CaMethod::Git => bytes,
        };
        let info = PathInfo {
            ca: Some(ca),
            ..info(&path, &nar, references)
        };
        self.insert(Entry {
            info: info.clone(),
            nar: Arc::new(nar),
        });
        Ok(info)
    }

    async fn add_signatures(&self, path: StorePath, signatures: BTreeSet<String>) -> Result<(), StoreError> {
        let mut state = self.state();
        let entry = state
            .entries
            .get_mut(&path)
            .ok_or_else(|| StoreError::new(format!("path '{path}' is not valid")))?;
        entry.info.signatures.extend(signatures);
        Ok(())
    }

    async fn query_realisation(&self, id: DrvOutput) -> Result<Option<Realisation>, StoreError> {
        Ok(self.state().realisations.get(&id).cloned())
    }

    async fn register_realisation(&self, realisation: Realisation) -> Result<(), StoreError> {
        self.ensure_path(realisation.out_path.clone()).await?;
        self.state()
            .realisations
            .insert(realisation.id.clone(), realisation);
        Ok(())
    }

    async fn ensure_path(&self, path: StorePath) -> Result<(), StoreError> {
        match self.contains(&path) {
            true => Ok(()),
            false => Err(StoreError::new(format!("path '{path}' is not valid"))),
        }
    }

    async fn build_derivation(
        &self,
        drv_path: StorePath,
        drv: BasicDerivation,
        _mode: BuildMode,
        options: BuildOptions,
        log: LogSink,
    ) -> Result<BuildResult, StoreError> {
        self.state().options = Some(options);
        if let Some(missing) = drv.input_srcs.iter().find(|p| !self.contains(p)) {
            return Err(StoreError::new(format!("input '{missing}' is not valid")));
        }
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(self.running.clone());
        let env = |name: &str| drv.env.get(name.as_bytes()).map(|v| v.escape_ascii().to_string());
        let send = async |event| log.send(event).await.map_err(|_| StoreError::new("gone"));
        let id = 0;
        send(LogEvent::BuildStarted {
            id,
            drv_path: drv_path.clone(),
            doing: Doing::Building,
        })
        .await?;
        send(LogEvent::BuildPhase {
            id,
            phase: "stubPhase".to_owned(),
        })
        .await?;
        for text in env("stubWait").iter().flat_map(|texts| texts.split(' ')) {
            let text = format!("waiting for {text}");
            send(LogEvent::Waiting { id, text }).await?;
        }
        if env("stubWait").is_some_and(|texts| !texts.ends_with(" still")) {
            send(LogEvent::WaitingEnded { id }).await?;
        }
        let lines: usize = env("stubLines").and_then(|n| n.parse().ok()).unwrap_or(1);
        for n in 0..lines {
            let line = format!("stub line {n}").into_bytes();
            send(LogEvent::BuildLine { id, line }).await?;
        }
        if env("stubHang").is_some() {
            std::future::pending::<()>().await;
        }
        if let Some(text) = env("stubFail") {
            return Ok(BuildResult::new(BuildStatus::PermanentFailure, text));
        }
        for (name, output) in &drv.outputs {
            let path = output.path().ok_or_else(|| StoreError::new("no output path"))?;
            let nar = file_nar(format!("stub output {name}\n").as_bytes());
            let info = PathInfo {
                deriver: Some(drv_path.clone()),
                ..info(path, &nar, BTreeSet::new())
            };
            self.insert(Entry {
                info,
                nar: Arc::new(nar),
            });
        }
        send(LogEvent::Message("stub done".to_owned())).await?;
        let mut result = BuildResult::new(BuildStatus::Built, "");
        result.times_built = 1;
        (result.start_time, result.stop_time) = (30, 50);
        Ok(result)
    }

    async fn build_paths(
        &self,
        targets: Vec<DerivedPath>,
        _mode: BuildMode,
        options: BuildOptions,
        _log: LogSink,
    ) -> Result<Vec<BuildResult>, StoreError> {
        self.state().options = Some(options);
        let result = |target: &DerivedPath| match target {
            DerivedPath::Opaque(path) if self.contains(path) => {
                BuildResult::new(BuildStatus::AlreadyValid, "")
            }
            DerivedPath::Opaque(path) => {
                BuildResult::new(BuildStatus::NoSubstituters, format!("path '{path}' is not valid"))
            }
            DerivedPath::Built { drv_path, .. } => {
                BuildResult::new(BuildStatus::MiscFailure, format!("cannot read '{drv_path}'"))
            }
        };
        Ok(targets.iter().map(result).collect())
    }

    fn remember_misses(&self, longest: std::time::Duration) {
        self.state().misses = Some(longest);
    }

    async fn add_build_log(
        &self,
        drv_path: StorePath,
        body: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<(), StoreError> {
        let log = read(body).await?;
        self.state().logs.insert(drv_path, log);
        Ok(())
    }
}

pub struct MemoryUpload {
    store: MemoryStore,
    entries: Vec<Entry>,
}

impl Upload for MemoryUpload {
    async fn add(
        &mut self,
        stated: PathInfo,
        nar: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<(), StoreError> {
        let refuse = self.store.state().refuse.clone();
        if refuse.is_some_and(|r| stated.path.name().contains(&r)) {
            return Err(StoreError::new(format!("'{}' is refused", stated.path)));
        }
        let nar = read(nar).await?;
        let found = info(&stated.path, &nar, BTreeSet::new());
        if (found.nar_size, found.nar_hash) != (stated.nar_size, stated.nar_hash) {
            return Err(StoreError::new(format!("'{}' is not what was said", stated.path)));
        }
        self.entries.push(Entry {
            info: stated,
            nar: Arc::new(nar),
        });
        Ok(())
    }

    async fn add_unsized(
        &mut self,
        path: StorePath,
        references: BTreeSet<StorePath>,
        deriver: Option<StorePath>,
        nar: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<(), StoreError> {
        let nar = read(nar).await?;
        let info = PathInfo {
            deriver,
            ..info(&path, &nar, references)
        };
        self.entries.push(Entry {
            info,
            nar: Arc::new(nar),
        });
        Ok(())
    }

    async fn checkpoint(&mut self) -> Result<bool, StoreError> {
        for entry in self.entries.drain(..) {
            self.store.insert(entry);
        }
        Ok(true)
    }

    async fn commit(self) -> Result<(), StoreError> {
        for entry in self.entries {
            self.store.insert(entry);
        }
        Ok(())
    }
}
