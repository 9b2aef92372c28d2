//! One account's store: what its sessions see and do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use firn_content::{FlatOptions, IngestOptions};
use firn_core::{Choice, Claim, Effective, Object, Origin, View, Witness};
use firn_nix::derivation::DerivationKind;
use firn_nix::realisation::{DrvOutput, Realisation};
use firn_nix::rewrite::SelfReferences;
use firn_nix::{
    BasicDerivation, CaMethod, ContentAddress, Derivation, DerivationOutput, HashAlgo, PathInfo, StorePath,
    excerpt,
};
use firn_protocol::{
    Addressing, BuildMode, BuildOptions, BuildResult, ByteStream, DerivedPath, LogSink, Missing, Store,
    StoreError, Upload as _,
};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::House;
use crate::findings::Findings;
use crate::ports::{Account, Caches, Ports, Views as _};
use crate::realise::Request;
use crate::resolve::failed;
use crate::terms::{Session, Terms};
use crate::turns::Turn;
use crate::upload::AccountUpload;
use crate::{large, signatures, untrusted};

/// Bytes of the largest `.drv` that is read.
pub(crate) const MAX_DERIVATION: u64 = 64 << 20;

/// All that a session of one account can reach. No method takes an account: a session cannot express a request across accounts.
pub struct AccountStore<P: Ports> {
    pub(crate) house: Arc<House<P>>,
    pub(crate) account: Account,
    pub(crate) session: Arc<Session>,
}

impl<P: Ports> Clone for AccountStore<P> {
    fn clone(&self) -> Self {
        Self {
            house: Arc::clone(&self.house),
            account: self.account.clone(),
            session: Arc::clone(&self.session),
        }
    }
}

fn not_valid(path: &StorePath) -> StoreError {
    StoreError::new(format!("path '{path}' is not valid"))
}

impl<P: Ports> AccountStore<P> {
    /// What holds for this session now.
    pub(crate) async fn terms(&self) -> Result<Arc<Terms>, StoreError> {
        let terms = self.house.terms(self.account.id, &self.session).await;
        terms.map_err(failed)
    }

    /// The binary caches as this session asks them.
    pub(crate) fn caches(&self) -> <P::Caches as Caches>::Account {
        self.house.caches.of(self.account.id, self.session.misses())
    }

    /// Keeps what was found of the account's caches: for its next build's log, for its list of caches, for the operator.
    pub(crate) fn note(&self, findings: &Findings) {
        for (news, line) in findings.lines() {
            if self.session.tell(news, &line) {
                tracing::info!(account = %self.account.name, "{line}");
            }
        }
        let now = self.house.now();
        self.house.cache_states.note(self.account.id, now, findings);
    }

    /// Those of `paths` that are valid after the account's caches were asked for the others, and what was found on the way.
    pub(crate) async fn fetched(
        &self,
        paths: BTreeSet<StorePath>,
    ) -> Result<(BTreeSet<StorePath>, Findings), StoreError> {
        let findings = Findings::default();
        let valid = self.valid(paths.clone()).await?;
        let missing: BTreeSet<StorePath> = paths.difference(&valid).cloned().collect();
        if missing.is_empty() || !self.settings().await?.substitute {
            return Ok((valid, findings));
        }
        match self.substitute(missing, &findings).await? {
            true => Ok((self.valid(paths).await?, findings)),
            false => Ok((valid, findings)),
        }
    }

    /// The settings that hold for this session now.
    ///
    /// # Errors
    /// When the account is gone, or the database fails.
    pub async fn settings(&self) -> Result<Effective, StoreError> {
        Ok(self.terms().await?.settings.clone())
    }

    /// The view of these paths and of what it took to find them closed.
    pub(crate) async fn view(&self, paths: &[StorePath]) -> Result<View, StoreError> {
        let terms = self.terms().await?;
        Ok(self.house.view(&terms, paths).await?)
    }

    /// Those of `paths` that are valid.
    async fn valid(&self, paths: BTreeSet<StorePath>) -> Result<BTreeSet<StorePath>, StoreError> {
        let asked: Vec<StorePath> = paths.into_iter().collect();
        let view = self.view(&asked).await?;
        Ok(asked.into_iter().filter(|p| view.get(p).is_some()).collect())
    }

    async fn path_info(&self, path: &StorePath) -> Result<PathInfo, StoreError> {
        let infos = self.query_path_infos(vec![path.clone()]).await?;
        infos.into_iter().next().ok_or_else(|| not_valid(path))
    }

    /// Reads and parses a valid `.drv`.
    async fn derivation(&self, drv_path: &StorePath) -> Result<Derivation, StoreError> {
        let (turn, text) = self.derivation_text(drv_path).await?;
        let parsed = large::read(text.len(), || Derivation::parse(&text));
        drop(turn);
        parsed.map_err(|e| StoreError::new(format!("cannot read derivation '{drv_path}': {e}")))
    }

    /// The text of a valid `.drv`, with the turn to read it where it is large.
    pub(crate) async fn derivation_text(
        &self,
        drv_path: &StorePath,
    ) -> Result<(Option<Turn>, Vec<u8>), StoreError> {
        let info = self.path_info(drv_path).await?;
        let tree = self.house.content.tree(&info.nar_hash);
        let bad = |why: String| StoreError::new(format!("cannot read derivation '{drv_path}': {why}"));
        let meta = tokio::fs::symlink_metadata(&tree)
            .await
            .map_err(|e| bad(e.to_string()))?;
        if !meta.is_file() || meta.len() > MAX_DERIVATION {
            return Err(bad(format!("it is not a file of at most {MAX_DERIVATION} bytes")));
        }
        let turn = self
            .house
            .turn_to_read(usize::try_from(meta.len()).unwrap_or(usize::MAX))
            .await;
        let text = tokio::fs::read(&tree).await.map_err(|e| bad(e.to_string()))?;
        Ok((turn, text))
    }
}

impl<P: Ports> Store for AccountStore<P> {
    type Upload = AccountUpload<P>;

    fn meet(&self, addressing: Addressing) {
        self.session.client.meet(addressing);
    }

    async fn query_valid_paths(
        &self,
        paths: BTreeSet<StorePath>,
        substitute: bool,
    ) -> Result<BTreeSet<StorePath>, StoreError> {
        match substitute {
            true => Ok(self.fetched(paths).await?.0),
            false => self.valid(paths).await,
        }
    }

    async fn query_path_infos(&self, paths: Vec<StorePath>) -> Result<Vec<PathInfo>, StoreError> {
        let valid = self.view(&paths).await?;
        let form = self.session.client.certain();
        let choices = paths.iter().filter_map(|path| valid.get(path));
        Ok(choices.map(|choice| info(choice, form)).collect())
    }

    async fn query_path_from_hash_part(&self, hash_part: String) -> Result<Option<StorePath>, StoreError> {
        let terms = self.terms().await?;
        let paths = self.house.db.paths_by_hash_part(&terms.policy, &hash_part);
        let valid = self.valid(paths.await.map_err(failed)?).await?;
        Ok(valid.into_iter().next())
    }

    async fn query_all_valid_paths(&self) -> Result<BTreeSet<StorePath>, StoreError> {
        let terms = self.terms().await?;
        let paths = self.house.db.paths(&terms.policy).await.map_err(failed)?;
        self.valid(paths).await
    }

    async fn query_referrers(&self, path: StorePath) -> Result<BTreeSet<StorePath>, StoreError> {
        let terms = self.terms().await?;
        let referrers = self.house.db.referrers(&terms.policy, &path);
        let asked: Vec<StorePath> = referrers.await.map_err(failed)?.into_iter().collect();
        let view = self.view(&asked).await?;
        let refers = |p: &StorePath| {
            view.get(p)
                .is_some_and(|choice| choice.object().references.contains(&path))
        };
        Ok(asked.into_iter().filter(refers).collect())
    }

    async fn query_valid_derivers(&self, path: StorePath) -> Result<BTreeSet<StorePath>, StoreError> {
        let terms = self.terms().await?;
        let derivers = self.house.db.derivers(&terms.policy, &path);
        self.valid(derivers.await.map_err(failed)?).await
    }

    async fn query_closure(
        &self,
        paths: BTreeSet<StorePath>,
        include_outputs: bool,
    ) -> Result<BTreeSet<StorePath>, StoreError> {
        let mut roots = self.valid(paths).await?;
        // Each derivation is read once, however often the closure grows.
        let mut read = BTreeSet::new();
        let mut outputs = BTreeSet::new();
        loop {
            let terms = self.terms().await?;
            let found = self.house.closure(&terms, &roots).await?;
            let paths: BTreeSet<StorePath> = found.choices().map(|(p, _)| p.clone()).collect();
            if !include_outputs {
                return Ok(paths);
            }
            let unread: BTreeSet<StorePath> = paths
                .iter()
                .filter(|path| path.is_derivation() && !read.contains(*path))
                .cloned()
                .collect();
            let mut open = BTreeSet::new();
            for drv_path in &unread {
                let drv = self.derivation(drv_path).await?;
                for path in drv.basic.outputs.values().map(DerivationOutput::path) {
                    match path {
                        Some(path) => drop(outputs.insert(path.clone())),
                        None => drop(open.insert(drv_path.clone())),
                    }
                }
            }
            if !open.is_empty() {
                let realised = self.realised_outputs(&open).await?;
                outputs.extend(realised.into_values().flatten().map(|(_, path)| path));
            }
            read.extend(unread);
            let valid = self.valid(outputs.clone()).await?;
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
        let stated = drv.basic.outputs.iter();
        let mut outputs: BTreeMap<String, Option<StorePath>> = stated
            .map(|(name, output)| (name.clone(), output.path().cloned()))
            .collect();
        if outputs.values().any(Option::is_none) {
            let asked = BTreeSet::from([drv_path]);
            let realised = self.realised_outputs(&asked).await?.into_values().flatten();
            for (name, path) in realised {
                outputs.entry(name).or_default().get_or_insert(path);
            }
        }
        Ok(outputs)
    }

    async fn query_missing(&self, targets: Vec<DerivedPath>) -> Result<Missing, StoreError> {
        self.missing(&targets).await
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
        Ok(AccountUpload::new(self.clone()))
    }

    async fn add_to_store(
        &self,
        name: String,
        method: CaMethod,
        algo: HashAlgo,
        references: BTreeSet<StorePath>,
        body: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<PathInfo, StoreError> {
        let shown = excerpt(&name).to_string();
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
        upload.push(staged, info.clone(), None);
        upload.commit().await?;
        Ok(info)
    }

    async fn add_signatures(&self, path: StorePath, signatures: BTreeSet<String>) -> Result<(), StoreError> {
        let terms = self.terms().await?;
        let asked = std::slice::from_ref(&path);
        let view = self.house.view(&terms, asked).await?;
        let chosen = view.get(&path).ok_or_else(|| not_valid(&path))?;
        let evidence = self
            .house
            .db
            .evidence(&terms.policy, asked)
            .await
            .map_err(failed)?;
        let own: Vec<Claim> = evidence
            .into_iter()
            .filter(|e| e.witness == Witness::Own && e.id == chosen.candidate.id)
            .map(|e| e.claim)
            .collect();
        // A signature that is brought for a build's output is the bringer's word, like an upload; the build stays what it is.
        let kept = own.iter().find(|c| c.origin != Origin::Built).or(own.first());
        let Some(mut claim) = kept.cloned() else {
            return Err(StoreError::new(format!(
                "cannot sign '{path}': you have it from somebody else; upload it to sign it"
            )));
        };
        if claim.origin == Origin::Built {
            claim.origin = Origin::Uploaded;
            claim.signatures.clear();
        }
        let mut all = claim.signatures.clone();
        all.extend(signatures.iter().cloned());
        signatures::check(&path, &all)?;
        claim.signatures = signatures;
        self.keep(Vec::new(), &[claim]).await
    }

    async fn query_realisation(&self, id: DrvOutput) -> Result<Option<Realisation>, StoreError> {
        let mut found = self.realisations(std::slice::from_ref(&id)).await?;
        Ok(found.remove(&id))
    }

    async fn register_realisation(&self, realisation: Realisation) -> Result<(), StoreError> {
        self.register(realisation).await
    }

    async fn ensure_path(&self, path: StorePath) -> Result<(), StoreError> {
        let (valid, findings) = self.fetched(BTreeSet::from([path.clone()])).await?;
        match (valid.is_empty(), findings.why(&path)) {
            (false, _) => Ok(()),
            (true, None) => Err(not_valid(&path)),
            (true, Some(why)) => Err(StoreError::new(format!("path '{path}' is not valid: {why}"))),
        }
    }

    async fn build_derivation(
        &self,
        drv_path: StorePath,
        drv: BasicDerivation,
        mode: BuildMode,
        options: BuildOptions,
        log: LogSink,
    ) -> Result<BuildResult, StoreError> {
        untrusted::build(&self.terms().await?.settings, &drv_path, &drv)?;
        self.learn_form(&drv).await?;
        let drv = with_known_paths(&drv_path, drv);
        self.realise(Request {
            drv_path,
            drv,
            mode,
            options,
            number: 0,
            urgency: 0,
            sound: false,
            log,
            begun: AtomicBool::new(false),
        })
        .await
    }

    async fn build_paths(
        &self,
        targets: Vec<DerivedPath>,
        mode: BuildMode,
        options: BuildOptions,
        log: LogSink,
    ) -> Result<Vec<BuildResult>, StoreError> {
        self.build_targets(&targets, mode, options, log).await
    }

    fn remember_misses(&self, longest: Duration) {
        self.session.remember_misses(longest);
    }

    async fn add_build_log(
        &self,
        drv_path: StorePath,
        body: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<(), StoreError> {
        self.bring_log(&drv_path, body).await
    }
}

impl<P: Ports> AccountStore<P> {
    /// Where the protocol leaves open which content addresses the client computes: what the client has of the inputs may show it.
    async fn learn_form(&self, drv: &BasicDerivation) -> Result<(), StoreError> {
        let client = &self.session.client;
        if !client.is_open() || !matches!(drv.kind(), Ok(DerivationKind::Floating)) {
            return Ok(());
        }
        let terms = self.terms().await?;
        // Inputs that are not there are told of later.
        if let Ok(inputs) = self.house.closure(&terms, &drv.input_srcs).await {
            client.learn_from(&inputs);
        }
        Ok(())
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

/// What a client is told that computes content addresses in that form. One of the other form it would refuse; a signature it takes.
fn info(choice: &Choice, form: Option<SelfReferences>) -> PathInfo {
    let candidate = &choice.candidate;
    let object = Object::clone(&candidate.object);
    let right = form.is_none_or(|form| object.is_right_in(form));
    PathInfo {
        path: object.path,
        deriver: candidate.deriver.clone(),
        nar_hash: object.content,
        references: object.references,
        registration_time: candidate.registered,
        nar_size: object.nar_size,
        ultimate: false,
        signatures: candidate.signatures.iter().cloned().collect(),
        ca: object.ca.filter(|_| right),
    }
}
