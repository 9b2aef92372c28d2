//! What an account's binary caches have of a closure, before anything is fetched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use firn_core::{CacheUrl, View};
use firn_nix::StorePath;
use firn_nix::narinfo::NarInfo;
use firn_nix::signature::{PublicKey, Signature};
use firn_protocol::StoreError;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::AccountStore;
use crate::content_address::check_path;
use crate::findings::{Findings, Refusal};
use crate::ports::MAX_SIGNATURES;
use crate::ports::{AccountCaches as _, Login, Policies as _, Ports};
use crate::resolve::{MAX_CLOSURE, failed};
use crate::terms::Terms;
use crate::upload::MAX_REFERENCES;

/// Entries that are looked up at once, for one request; as many as Nix has connections. Small web servers drop what is much more.
const LOOKUPS: usize = 25;
/// Paths of one request that are followed to what they lack.
const MAX_EXPLAINED: usize = 64;
/// References that may be followed before it is known whether they are valid.
const AHEAD: usize = 64;

/// A cache of the account's, with what the account shows to it.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) cache: CacheUrl,
    pub(crate) login: Option<Login>,
}

/// An entry that the account's policy accepts.
#[derive(Clone)]
pub(crate) struct Offer {
    pub(crate) source: Source,
    pub(crate) info: NarInfo,
}

/// What looking up a closure gave.
#[derive(Default)]
pub(crate) struct Offers {
    /// What can be fetched, references included.
    pub(crate) found: BTreeMap<StorePath, Offer>,
    /// The caches, in the order of asking.
    pub(crate) sources: Arc<[Source]>,
}

/// A closure that is being looked up.
#[derive(Default)]
struct Search {
    seen: BTreeSet<StorePath>,
    /// To be looked up in the caches: what is known not to be valid, and what may be.
    absent: VecDeque<StorePath>,
    maybe_valid: VecDeque<StorePath>,
    /// Seen, and nobody has been asked yet whether it is valid.
    unasked: BTreeSet<StorePath>,
    /// How many the database is being asked about.
    asking: usize,
    valid: BTreeSet<StorePath>,
    /// Being looked up, and not known to be valid.
    awaited: BTreeSet<StorePath>,
    found: BTreeMap<StorePath, Offer>,
    /// References of all entries together, repeated ones too: a cache may say what it likes.
    references: usize,
}

impl Search {
    fn of(paths: BTreeSet<StorePath>) -> Self {
        Self {
            absent: paths.iter().cloned().collect(),
            seen: paths,
            ..Self::default()
        }
    }

    /// The next path to look up.
    fn next(&mut self) -> Option<StorePath> {
        // A few are followed before they are known to be absent, so that the caches and the database do not wait for each other.
        let ahead = self.unasked.len() + self.asking <= AHEAD;
        let path = self.absent.pop_front();
        let path = path.or_else(|| if ahead { self.maybe_valid.pop_front() } else { None })?;
        self.awaited.insert(path.clone());
        Some(path)
    }

    fn note(&mut self, path: StorePath, offer: Option<Offer>) {
        self.awaited.remove(&path);
        let Some(offer) = offer.filter(|_| !self.valid.contains(&path)) else {
            return;
        };
        self.references = self.references.saturating_add(offer.info.references.len());
        for reference in &offer.info.references {
            if self.seen.insert(reference.clone()) {
                self.unasked.insert(reference.clone());
                self.maybe_valid.push_back(reference.clone());
            }
        }
        self.found.insert(path, offer);
    }

    /// What the database says of some that were unasked.
    fn decide(&mut self, asked: &BTreeSet<StorePath>, view: &View) {
        self.asking = 0;
        let valid = asked.iter().filter(|path| view.get(path).is_some());
        self.valid.extend(valid.cloned());
        self.awaited.retain(|path| !self.valid.contains(path));
        for path in std::mem::take(&mut self.maybe_valid) {
            if !asked.contains(&path) {
                self.maybe_valid.push_back(path);
            } else if !self.valid.contains(&path) {
                self.absent.push_back(path);
            }
        }
    }

    /// Why it goes no further.
    fn too_large(&self) -> Option<String> {
        if self.references > MAX_REFERENCES {
            return Some(format!("more than {MAX_REFERENCES} references"));
        }
        (self.seen.len() > MAX_CLOSURE).then(|| format!("more than {MAX_CLOSURE} paths"))
    }

    /// The entries that `paths` need and whose references are all valid or found too. What keeps others of `paths` from being among them is
    /// noted.
    fn needed(mut self, paths: &BTreeSet<StorePath>, findings: &Findings) -> BTreeMap<StorePath, Offer> {
        let mut found = BTreeMap::new();
        let mut absent = BTreeSet::new();
        let mut stack: Vec<StorePath> = paths.iter().cloned().collect();
        while let Some(path) = stack.pop() {
            if self.valid.contains(&path) || found.contains_key(&path) {
                continue;
            }
            match self.found.remove(&path) {
                Some(offer) => {
                    stack.extend(offer.info.references.iter().cloned());
                    found.insert(path, offer);
                }
                None => drop(absent.insert(path)),
            }
        }
        if !absent.is_empty() {
            note_lacks(&found, paths, &absent, findings);
        }
        retain_closed(&mut found, absent);
        found
    }
}

impl<P: Ports> AccountStore<P> {
    /// What the account's caches have of `paths`, which are not valid, and of the references that are not valid either.
    pub(crate) async fn offers(
        &self,
        terms: &Terms,
        paths: BTreeSet<StorePath>,
        findings: &Findings,
    ) -> Result<Offers, StoreError> {
        if terms.settings.substituters.is_empty() {
            return Ok(Offers::default());
        }
        let sources = self.sources(terms, findings).await?;
        if sources.is_empty() {
            return Ok(Offers::default());
        }
        let mut search = Search::of(paths.clone());
        let mut lookups = FuturesUnordered::new();
        // At most one: what is found meanwhile is asked about together.
        let mut questions = FuturesUnordered::new();
        loop {
            while lookups.len() < LOOKUPS
                && let Some(path) = search.next()
            {
                let sources = &sources;
                lookups.push(async move { (self.look_up(terms, sources, &path, findings).await, path) });
            }
            if questions.is_empty() && !search.unasked.is_empty() {
                let asked = std::mem::take(&mut search.unasked);
                search.asking = asked.len();
                questions.push(async move {
                    let paths: Vec<StorePath> = asked.iter().cloned().collect();
                    (self.house.view(terms, &paths).await, asked)
                });
            }
            if search.awaited.is_empty() && questions.is_empty() {
                break;
            }
            tokio::select! {
                Some((offer, path)) = lookups.next() => search.note(path, offer),
                Some((view, asked)) = questions.next() => search.decide(&asked, &view?),
            }
            if let Some(why) = search.too_large() {
                tracing::warn!(account = %self.account.name, "a closure of {why} is not fetched");
                return Ok(Offers::default());
            }
        }
        drop(lookups);
        let found = search.needed(&paths, findings);
        Ok(Offers { found, sources })
    }

    /// The account's caches that answer, the most preferred first.
    async fn sources(&self, terms: &Terms, findings: &Findings) -> Result<Arc<[Source]>, StoreError> {
        let logins = self.house.db.logins(self.account.id).await.map_err(failed)?;
        let caches = &self.caches();
        let asked = terms.settings.substituters.iter().map(|cache| {
            let source = Source {
                cache: cache.clone(),
                login: logins.get(cache.host()).cloned(),
            };
            async move {
                let about = caches.about(&source.cache, source.login.as_ref()).await;
                (source, about)
            }
        });
        let mut ranked: Vec<(u32, Source)> = Vec::new();
        for (source, about) in futures_util::future::join_all(asked).await {
            match about {
                Ok(about) => {
                    findings.answered(source.cache.base());
                    ranked.push((source.cache.priority().unwrap_or(about.priority), source));
                }
                Err(error) => findings.failed(error),
            }
        }
        // Stable: equals stay in the order of the setting.
        ranked.sort_by_key(|(priority, _)| *priority);
        Ok(ranked.into_iter().map(|(_, source)| source).collect())
    }

    /// The first entry for a path that the policy accepts.
    pub(crate) async fn look_up(
        &self,
        terms: &Terms,
        sources: &[Source],
        path: &StorePath,
        findings: &Findings,
    ) -> Option<Offer> {
        let caches = self.caches();
        for source in sources {
            let (cache, login) = (&source.cache, source.login.as_ref());
            match caches.narinfo(cache, login, path).await {
                Ok(Some(mut info)) => match self.acceptable(terms, &mut info) {
                    Ok(()) => {
                        return Some(Offer {
                            source: source.clone(),
                            info,
                        });
                    }
                    Err(refusal) => {
                        caches.not_believed(cache, login, path).await;
                        findings.refused(path, cache.base(), refusal);
                    }
                },
                Ok(None) => {}
                Err(error) => findings.failed_for(path, error),
            }
        }
        None
    }

    /// Whether the policy accepts an entry. Wrong signatures by trusted keys are dropped from it: a right one beside them counts.
    fn acceptable(&self, terms: &Terms, info: &mut NarInfo) -> Result<(), Refusal> {
        let trusted = &terms.settings.trusted_public_keys;
        let fingerprint = info.fingerprint();
        let mut wrong = None;
        info.signatures.retain(|signature| {
            let mut same_name = trusted.iter().filter(|k| k.name() == signature.key_name());
            let right = same_name.all(|key| key.verify(fingerprint.as_bytes(), signature));
            if !right {
                wrong.get_or_insert_with(|| signature.key_name().to_owned());
            }
            right
        });
        keep_few(trusted, &mut info.signatures);
        if info.nar_size > self.house.settings.max_nar_size {
            return Err(Refusal::TooLarge(info.nar_size));
        }
        if info.ca.is_some() {
            return check_path(&info.to_path_info()).map_err(|_| Refusal::ContentAddress);
        }
        if info.signed_by(trusted).is_some() {
            return Ok(());
        }
        let names: BTreeSet<&str> = info.signatures.iter().map(Signature::key_name).collect();
        Err(match wrong {
            Some(name) => Refusal::SameName(name),
            None if names.is_empty() => Refusal::Unsigned {
                unreadable: info.unreadable_signatures,
            },
            None => Refusal::OtherKeys(names.into_iter().map(str::to_owned).collect()),
        })
    }
}

/// For each of `paths` that a cache has: the first that it needs and that is absent.
fn note_lacks(
    found: &BTreeMap<StorePath, Offer>,
    paths: &BTreeSet<StorePath>,
    absent: &BTreeSet<StorePath>,
    findings: &Findings,
) {
    for path in paths
        .iter()
        .filter(|path| found.contains_key(*path))
        .take(MAX_EXPLAINED)
    {
        let (mut seen, mut open) = (BTreeSet::from([path]), VecDeque::from([path]));
        while let Some(next) = open.pop_front() {
            if absent.contains(next) {
                findings.lacks(path, next);
                break;
            }
            let references = found
                .get(next)
                .into_iter()
                .flat_map(|offer| &offer.info.references);
            open.extend(references.filter(|reference| seen.insert(*reference)));
        }
    }
}

/// What is kept of an entry's signatures: those that were checked before the others.
fn keep_few(trusted: &[PublicKey], signatures: &mut BTreeSet<Signature>) {
    if signatures.len() > MAX_SIGNATURES {
        let checked = |s: &Signature| trusted.iter().any(|key| key.name() == s.key_name());
        let (first, rest): (Vec<_>, Vec<_>) = std::mem::take(signatures).into_iter().partition(checked);
        *signatures = first.into_iter().chain(rest).take(MAX_SIGNATURES).collect();
    }
}

/// Takes out of the offers what refers to absent paths, and what refers to that.
fn retain_closed(found: &mut BTreeMap<StorePath, Offer>, mut absent: BTreeSet<StorePath>) {
    while !absent.is_empty() {
        let mut next = BTreeSet::new();
        found.retain(|path, offer| {
            let keeps = offer.info.references.is_disjoint(&absent);
            if !keeps {
                next.insert(path.clone());
            }
            keeps
        });
        absent = next;
    }
}
