//! What an account's binary caches have of a closure, before anything is fetched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use firn_core::{CacheUrl, View};
use firn_nix::StorePath;
use firn_nix::narinfo::NarInfo;
use firn_protocol::StoreError;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::AccountStore;
use crate::content_address::check_path;
use crate::ports::{CacheError, Caches as _, Login, Policies as _, Ports};
use crate::resolve::{MAX_CLOSURE, failed};
use crate::terms::Terms;
use crate::upload::MAX_REFERENCES;

/// Entries that are looked up at once, for one request; as many as Nix has connections. Small web servers drop what is much more.
const LOOKUPS: usize = 25;
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

    /// The entries that `paths` need and whose references are all valid or found too.
    fn needed(mut self, paths: &BTreeSet<StorePath>) -> BTreeMap<StorePath, Offer> {
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
    ) -> Result<Offers, StoreError> {
        if terms.settings.substituters.is_empty() {
            return Ok(Offers::default());
        }
        let sources = self.sources(terms).await?;
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
                lookups.push(async move { (self.look_up(terms, sources, &path).await, path) });
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
        let found = search.needed(&paths);
        Ok(Offers { found, sources })
    }

    /// The account's caches that answer, the most preferred first.
    async fn sources(&self, terms: &Terms) -> Result<Arc<[Source]>, StoreError> {
        let logins = self.house.db.logins(self.account.id).await.map_err(failed)?;
        let asked = terms.settings.substituters.iter().map(|cache| {
            let source = Source {
                cache: cache.clone(),
                login: logins.get(cache.host()).cloned(),
            };
            async move {
                let about = self
                    .house
                    .caches
                    .about(&source.cache, source.login.as_ref())
                    .await;
                (source, about)
            }
        });
        let mut ranked: Vec<(u32, Source)> = Vec::new();
        for (source, about) in futures_util::future::join_all(asked).await {
            match about {
                Ok(about) => ranked.push((source.cache.priority().unwrap_or(about.priority), source)),
                Err(error) => self.complain(&source, &error),
            }
        }
        // Stable: equals stay in the order of the setting.
        ranked.sort_by_key(|(priority, _)| *priority);
        Ok(ranked.into_iter().map(|(_, source)| source).collect())
    }

    /// The first entry for a path that the policy accepts.
    pub(crate) async fn look_up(&self, terms: &Terms, sources: &[Source], path: &StorePath) -> Option<Offer> {
        for source in sources {
            let (cache, login) = (&source.cache, source.login.as_ref());
            match self.house.caches.narinfo(cache, login, path).await {
                Ok(Some(mut info)) => match self.acceptable(terms, &mut info) {
                    Ok(()) => {
                        return Some(Offer {
                            source: source.clone(),
                            info,
                        });
                    }
                    Err(why) => {
                        tracing::info!(account = %self.account.name, cache = %cache.base(), %path, why, "an entry is not believed");
                    }
                },
                Ok(None) => {}
                Err(error) => self.complain(source, &error),
            }
        }
        None
    }

    /// Whether the policy accepts an entry. Wrong signatures by trusted keys are dropped from it: a right one beside them counts.
    fn acceptable(&self, terms: &Terms, info: &mut NarInfo) -> Result<(), &'static str> {
        let trusted = &terms.settings.trusted_public_keys;
        let fingerprint = info.fingerprint();
        info.signatures.retain(|signature| {
            let mut same_name = trusted.iter().filter(|k| k.name() == signature.key_name());
            same_name.all(|key| key.verify(fingerprint.as_bytes(), signature))
        });
        if info.nar_size > self.house.settings.max_nar_size {
            return Err("it is larger than what is taken here");
        }
        if info.ca.is_some() {
            return check_path(&info.to_path_info())
                .map_err(|_| "its content address belongs to another path");
        }
        match info.signed_by(trusted) {
            Some(_) => Ok(()),
            None => Err("no key that the account trusts has signed it"),
        }
    }

    fn complain(&self, source: &Source, error: &CacheError) {
        match error {
            // Said once, by the cache's client, when it becomes so.
            CacheError::Unreachable(_) => {
                tracing::debug!(account = %self.account.name, cache = %source.cache.base(), %error, "a binary cache is left out");
            }
            CacheError::Denied(_) | CacheError::Bad(_) => {
                tracing::warn!(account = %self.account.name, cache = %source.cache.base(), %error, "a binary cache is left out");
            }
        }
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
