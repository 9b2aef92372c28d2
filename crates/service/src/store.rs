//! One account's store: what its sessions see and do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firn_content::{FlatOptions, IngestOptions};
use firn_core::View;
use firn_nix::{
    BasicDerivation, CaMethod, ContentAddress, Derivation, DerivationOutput, HashAlgo, PathInfo, StorePath,
};
use firn_protocol::{
    BuildMode, BuildOptions, BuildResult, BuildStatus, ByteStream, DerivedPath, LogSink, Missing,
    OutputsSpec, Store, StoreError, Upload as _,
};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::House;
use crate::ports::{Account, Builder, Database};
use crate::realise::Request;
use crate::resolve::{closure, failed, view};
use crate::signatures;
use crate::upload::AccountUpload;

/// Bytes of the largest `.drv` that is read.
pub(crate) const MAX_DERIVATION: u64 = 64 << 20;

/// Bytes of the largest build log that a client may bring.
const MAX_LOG: u64 = 1 << 30;

/// All that a session of one account can reach. No method takes an account: a session cannot express a request across accounts.
pub struct AccountStore<D, B> {
    pub(crate) house: Arc<House<D, B>>,
    pub(crate) account: Account,
}

impl<D, B> Clone for AccountStore<D, B> {
    fn clone(&self) -> Self {
        Self {
            house: Arc::clone(&self.house),
            account: self.account.clone(),
        }
    }
}

fn not_valid(path: &StorePath) -> StoreError {
    StoreError::new(format!("path '{path}' is not valid"))
}

impl<D: Database, B: Builder> AccountStore<D, B> {
    async fn view(&self, paths: &[StorePath]) -> Result<View, StoreError> {
        view(&self.house.db, self.account.id, paths).await.map_err(failed)
    }

    async fn path_info(&self, path: &StorePath) -> Result<PathInfo, StoreError> {
        let infos = self.query_path_infos(vec![path.clone()]).await?;
        infos.into_iter().next().ok_or_else(|| not_valid(path))
    }

    /// Reads and parses a valid `.drv`.
    async fn derivation(&self, drv_path: &StorePath) -> Result<Derivation, StoreError> {
        let info = self.path_info(drv_path).await?;
        let tree = self.house.content.tree(&info.nar_hash);
        let bad = |why: String| StoreError::new(format!("cannot read derivation '{drv_path}': {why}"));
        let meta = tokio::fs::symlink_metadata(&tree)
            .await
            .map_err(|e| bad(e.to_string()))?;
        if !meta.is_file() || meta.len() > MAX_DERIVATION {
            return Err(bad(format!("it is not a file of at most {MAX_DERIVATION} bytes")));
        }
        let text = tokio::fs::read(&tree).await.map_err(|e| bad(e.to_string()))?;
        Derivation::parse(&text).map_err(|e| bad(e.to_string()))
    }

    /// Whether a target is valid as it stands.
    async fn is_valid(&self, target: &DerivedPath) -> Result<bool, StoreError> {
        let paths = match target {
            DerivedPath::Opaque(path) => vec![path.clone()],
            DerivedPath::Built { drv_path, outputs } => {
                if self
                    .view(std::slice::from_ref(drv_path))
                    .await?
                    .get(drv_path)
                    .is_none()
                {
                    return Ok(false);
                }
                let known = self.query_derivation_outputs(drv_path.clone()).await?;
                if let OutputsSpec::Names(names) = outputs
                    && let Some(unknown) = names.iter().find(|name| !known.contains_key(*name))
                {
                    return Err(StoreError::new(format!(
                        "derivation '{drv_path}' has no output '{}'",
                        unknown.escape_debug()
                    )));
                }
                let wanted = known.into_iter().filter(|(name, _)| match outputs {
                    OutputsSpec::All => true,
                    OutputsSpec::Names(names) => names.contains(name),
                });
                let Some(paths) = wanted.map(|(_, path)| path).collect::<Option<Vec<_>>>() else {
                    return Ok(false);
                };
                paths
            }
        };
        let valid = self.view(&paths).await?;
        Ok(paths.iter().all(|p| valid.get(p).is_some()))
    }
}

impl<D: Database, B: Builder> Store for AccountStore<D, B> {
    type Upload = AccountUpload<D, B>;

    async fn query_valid_paths(
        &self,
        paths: BTreeSet<StorePath>,
        _substitute: bool,
    ) -> Result<BTreeSet<StorePath>, StoreError> {
        let paths: Vec<StorePath> = paths.into_iter().collect();
        let valid = self.view(&paths).await?;
        Ok(valid.choices().map(|(path, _)| path.clone()).collect())
    }

    async fn query_path_infos(&self, paths: Vec<StorePath>) -> Result<Vec<PathInfo>, StoreError> {
        let valid = self.view(&paths).await?;
        Ok(paths
            .iter()
            .filter_map(|path| valid.get(path))
            .map(|choice| info(&choice.claim))
            .collect())
    }

    async fn query_path_from_hash_part(&self, hash_part: String) -> Result<Option<StorePath>, StoreError> {
        let claims = self
            .house
            .db
            .claims_by_hash_part(self.account.id, &hash_part)
            .await
            .map_err(failed)?;
        Ok(claims.into_iter().next().map(|c| c.object.path))
    }

    async fn query_all_valid_paths(&self) -> Result<BTreeSet<StorePath>, StoreError> {
        self.house.db.paths(self.account.id).await.map_err(failed)
    }

    async fn query_referrers(&self, path: StorePath) -> Result<BTreeSet<StorePath>, StoreError> {
        self.house
            .db
            .referrers(self.account.id, &path)
            .await
            .map_err(failed)
    }

    async fn query_valid_derivers(&self, path: StorePath) -> Result<BTreeSet<StorePath>, StoreError> {
        let derivers: Vec<StorePath> = self
            .house
            .db
            .derivers(self.account.id, &path)
            .await
            .map_err(failed)?
            .into_iter()
            .collect();
        let valid = self.view(&derivers).await?;
        Ok(derivers.into_iter().filter(|d| valid.get(d).is_some()).collect())
    }

    async fn query_closure(
        &self,
        paths: BTreeSet<StorePath>,
        include_outputs: bool,
    ) -> Result<BTreeSet<StorePath>, StoreError> {
        let mut roots = self.query_valid_paths(paths, false).await?;
        // Each derivation is read once, however often the closure grows.
        let mut read = BTreeSet::new();
        let mut outputs = BTreeSet::new();
        loop {
            let found = closure(&self.house.db, self.account.id, &roots).await?;
            let paths: BTreeSet<StorePath> = found.choices().map(|(p, _)| p.clone()).collect();
            if !include_outputs {
                return Ok(paths);
            }
            for drv_path in paths.iter().filter(|p| p.is_derivation()) {
                if !read.insert(drv_path.clone()) {
                    continue;
                }
                outputs.extend(
                    self.query_derivation_outputs(drv_path.clone())
                        .await?
                        .into_values()
                        .flatten(),
                );
            }
            let valid = self.query_valid_paths(outputs.clone(), false).await?;
            if valid.is_subset(&paths) {
                return Ok(paths);
            }
            roots.extend(valid);
        }
    }

    async fn query_derivation_outputs(
        &self,
        drv_path: StorePath,
    ) -> Result<BTreeMap<String, Option<StorePath>>, StoreError> {
        let drv = self.derivation(&drv_path).await?;
        Ok(drv
            .basic
            .outputs
            .iter()
            .map(|(name, output)| (name.clone(), output.path().cloned()))
            .collect())
    }

    async fn query_missing(&self, targets: Vec<DerivedPath>) -> Result<Missing, StoreError> {
        let mut missing = Missing::default();
        for target in targets {
            if self.is_valid(&target).await? {
                continue;
            }
            match target {
                DerivedPath::Opaque(path) => missing.unknown.insert(path),
                DerivedPath::Built { drv_path, .. } => missing.will_build.insert(drv_path),
            };
        }
        Ok(missing)
    }

    async fn nar_from_path(&self, path: StorePath) -> Result<ByteStream, StoreError> {
        let info = self.path_info(&path).await?;
        let nar = self.house.content.read_nar(&info.nar_hash).await.map_err(|e| {
            tracing::error!(error = %e, %path, "cannot read a content");
            StoreError::new(format!("internal error: the bytes of '{path}' cannot be read"))
        })?;
        Ok(Box::new(nar))
    }

    async fn begin_upload(&self) -> Result<Self::Upload, StoreError> {
        Ok(AccountUpload::new(Arc::clone(&self.house), self.account.clone()))
    }

    async fn add_to_store(
        &self,
        name: String,
        method: CaMethod,
        algo: HashAlgo,
        references: BTreeSet<StorePath>,
        body: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<PathInfo, StoreError> {
        let shown = name.escape_debug().to_string();
        let refused = |why: String| StoreError::new(format!("cannot add '{shown}': {why}"));
        let max = self.house.settings.max_nar_size;
        let mut body = body;
        let (staged, hash) = match (method, algo) {
            (CaMethod::Text, HashAlgo::Sha256) | (CaMethod::Flat, _) => {
                let options = FlatOptions {
                    executable: false,
                    max_size: max,
                    algorithms: vec![algo],
                };
                let (staged, hashes) = self
                    .house
                    .content
                    .ingest_flat(&mut body, options, None)
                    .await
                    .map_err(|e| refused(e.to_string()))?;
                let hash = hashes
                    .get(algo)
                    .ok_or_else(|| refused("its hash was not computed".into()))?;
                (staged, hash)
            }
            (CaMethod::Nar, HashAlgo::Sha256) => {
                let options = IngestOptions {
                    expected_size: None,
                    expected_hash: None,
                    max_size: max,
                };
                let staged = self
                    .house
                    .content
                    .ingest(&mut body, options, None)
                    .await
                    .map_err(|e| refused(e.to_string()))?;
                let hash = staged.hash().to_hash();
                (staged, hash)
            }
            _ => {
                return Err(refused(format!(
                    "content addresses of the form '{}{}' are not supported yet",
                    method.prefix(),
                    algo.name()
                )));
            }
        };
        let mut rest = [0; 1];
        if body.read(&mut rest).await.map_err(|e| refused(e.to_string()))? != 0 {
            return Err(refused("bytes follow its end".into()));
        }
        let ca = ContentAddress { method, hash };
        let path = StorePath::make_content_addressed(&name, &ca, &references, false)
            .map_err(|e| refused(e.to_string()))?;
        let mut upload = self.begin_upload().await?;
        let info = PathInfo {
            path,
            deriver: None,
            nar_hash: staged.hash(),
            references,
            registration_time: self.house.now(),
            nar_size: staged.size(),
            ultimate: false,
            signatures: BTreeSet::new(),
            ca: Some(ca),
        };
        upload.push(staged, info.clone());
        upload.commit().await?;
        Ok(info)
    }

    async fn add_signatures(&self, path: StorePath, signatures: BTreeSet<String>) -> Result<(), StoreError> {
        let mut all = self.path_info(&path).await?.signatures;
        all.extend(signatures.iter().cloned());
        signatures::check(&path, &all)?;
        let known = self
            .house
            .db
            .add_signatures(self.account.id, &path, &signatures)
            .await
            .map_err(failed)?;
        if known { Ok(()) } else { Err(not_valid(&path)) }
    }

    async fn ensure_path(&self, path: StorePath) -> Result<(), StoreError> {
        self.path_info(&path).await.map(|_| ())
    }

    async fn build_derivation(
        &self,
        drv_path: StorePath,
        drv: BasicDerivation,
        mode: BuildMode,
        options: BuildOptions,
        log: LogSink,
    ) -> Result<BuildResult, StoreError> {
        let drv = with_known_paths(&drv_path, drv);
        self.realise(Request {
            drv_path,
            drv,
            mode,
            options,
            number: 0,
            log,
        })
        .await
    }

    async fn build_paths(
        &self,
        targets: Vec<DerivedPath>,
        _mode: BuildMode,
        _options: BuildOptions,
        _log: LogSink,
    ) -> Result<Vec<BuildResult>, StoreError> {
        let mut results = Vec::with_capacity(targets.len());
        for target in targets {
            results.push(if self.is_valid(&target).await? {
                BuildResult::new(BuildStatus::AlreadyValid, "")
            } else {
                match target {
                    DerivedPath::Opaque(path) => {
                        BuildResult::new(BuildStatus::NoSubstituters, not_valid(&path).message)
                    }
                    DerivedPath::Built { drv_path, .. } => BuildResult::new(
                        BuildStatus::InputRejected,
                        format!("cannot build '{drv_path}': building whole graphs on the server is not supported yet; use Firn as a remote builder (--builders)"),
                    ),
                }
            });
        }
        Ok(results)
    }

    async fn add_build_log(
        &self,
        _drv_path: StorePath,
        body: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<(), StoreError> {
        // Firn keeps the logs of its own runs; one that a client brings proves nothing and is not kept.
        let mut body = body.take(MAX_LOG);
        tokio::io::copy(&mut body, &mut tokio::io::sink())
            .await
            .map(|_| ())
            .map_err(|e| StoreError::new(format!("cannot read the log: {e}")))
    }
}

/// States the path of a fixed output that the client left out: it follows from hash and name, the build sees it, and so it belongs into
/// the build key.
fn with_known_paths(drv_path: &StorePath, mut drv: BasicDerivation) -> BasicDerivation {
    let drv_name = drv_path.derivation_name().unwrap_or_default();
    for (name, output) in &mut drv.outputs {
        // A name that cannot be part of a path is refused with all other malformed requests.
        let known = output.known_path(drv_name, name).ok().flatten();
        if let DerivationOutput::Fixed {
            path: path @ None, ..
        } = output
        {
            *path = known;
        }
    }
    drv
}

fn info(claim: &firn_core::Claim) -> PathInfo {
    PathInfo {
        path: claim.object.path.clone(),
        deriver: claim.deriver.clone(),
        nar_hash: claim.object.content,
        references: claim.object.references.clone(),
        registration_time: claim.registered,
        nar_size: claim.object.nar_size,
        ultimate: false,
        signatures: claim.signatures.clone(),
        ca: claim.object.ca,
    }
}
