//! Fetching what an account's binary caches have: entries are looked up for a whole closure, contents come together, and what was
//! checked becomes valid in batches whose references are valid.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use firn_content::IngestOptions;
use firn_core::{CacheUrl, Claim, Object, Origin};
use firn_nix::StorePath;
use firn_nix::narinfo::NarInfo;
use firn_protocol::StoreError;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::AccountStore;
use crate::content_address::{check, check_path};
use crate::ports::{CacheError, Caches as _, Login, Policies as _, Ports};
use crate::resolve::{MAX_CLOSURE, failed};
use crate::terms::Terms;
use crate::upload::MAX_REFERENCES;

/// Entries that are looked up at once, for one request.
const LOOKUPS: usize = 64;
/// Contents that are fetched at once, for one request.
const FETCHES: usize = 16;
/// Paths that become valid together.
const BATCH: usize = 512;
/// Bytes of NARs that become valid together, unless one alone has more.
const BATCH_BYTES: u64 = 1 << 30;

/// A cache of the account's, with what the account shows to it.
#[derive(Clone)]
pub(crate) struct Source {
    cache: CacheUrl,
    login: Option<Login>,
}

/// An entry that the account's policy accepts.
#[derive(Clone)]
pub(crate) struct Offer {
    source: Source,
    pub(crate) info: NarInfo,
}

/// What looking up a closure gave.
#[derive(Default)]
pub(crate) struct Offers {
    /// What can be fetched, references included.
    pub(crate) found: BTreeMap<StorePath, Offer>,
    /// The caches, in the order of asking.
    sources: Arc<[Source]>,
}

impl<P: Ports> AccountStore<P> {
    /// Makes as many of `paths` valid as the account's caches allow, with their closures. Whether anything became valid.
    ///
    /// A cache that fails costs what it would have given, and is logged; `Err` is the service's own failure. Whether caches are asked at
    /// all is the caller's to know: a derivation may say so.
    pub(crate) async fn substitute(&self, paths: BTreeSet<StorePath>) -> Result<bool, StoreError> {
        let terms = self.terms().await?;
        let offers = self.offers(&terms, paths).await?;
        let mut queue = in_order(offers.found);
        let mut lost: BTreeSet<StorePath> = BTreeSet::new();
        let mut any = false;
        while !queue.is_empty() {
            let batch = next_batch(&mut queue, &mut lost);
            let fetched: Vec<(StorePath, Option<Claim>)> = futures_util::stream::iter(batch)
                .map(|offer| self.fetch_any(&terms, &offers.sources, offer))
                .buffer_unordered(FETCHES)
                .collect()
                .await;
            let mut claims = Vec::with_capacity(fetched.len());
            for (path, claim) in fetched {
                match claim {
                    Some(claim) => claims.push(claim),
                    None => drop(lost.insert(path)),
                }
            }
            drop_users(&mut claims, &mut lost);
            if !claims.is_empty() {
                any = true;
                self.keep(Vec::new(), &claims).await?;
            }
        }
        Ok(any)
    }

    /// What the account's caches have of `paths` and of the references that are not valid yet.
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
        let mut found: BTreeMap<StorePath, Offer> = BTreeMap::new();
        let mut seen = paths.clone();
        let mut to_look_up: VecDeque<StorePath> = paths.into_iter().collect();
        let mut references: BTreeSet<StorePath> = BTreeSet::new();
        // Of all entries together, repeated ones too: a cache may say what it likes.
        let mut all_references = 0_usize;
        let mut lookups = FuturesUnordered::new();
        loop {
            while lookups.len() < LOOKUPS
                && let Some(path) = to_look_up.pop_front()
            {
                let sources = &sources;
                lookups.push(async move { (self.look_up(terms, sources, &path).await, path) });
            }
            match lookups.next().await {
                Some((Some(offer), path)) => {
                    let new = offer.info.references.iter().filter(|r| !seen.contains(*r));
                    references.extend(new.cloned());
                    all_references = all_references.saturating_add(offer.info.references.len());
                    found.insert(path, offer);
                }
                None if references.is_empty() => break,
                Some((None, _)) | None => {}
            }
            if all_references > MAX_REFERENCES {
                tracing::warn!(account = %self.account.name, "a closure with more than {MAX_REFERENCES} references is not fetched");
                return Ok(Offers::default());
            }
            // The references of several entries are looked for in the view together.
            if references.len() >= LOOKUPS || (lookups.is_empty() && to_look_up.is_empty()) {
                let asked: Vec<StorePath> = std::mem::take(&mut references).into_iter().collect();
                seen.extend(asked.iter().cloned());
                if seen.len() > MAX_CLOSURE {
                    tracing::warn!(account = %self.account.name, "a closure of more than {MAX_CLOSURE} paths is not fetched");
                    return Ok(Offers::default());
                }
                let view = self.house.view(terms, &asked).await?;
                to_look_up.extend(asked.into_iter().filter(|p| view.get(p).is_none()));
            }
        }
        drop(lookups);
        // What was asked about and is neither valid nor on offer makes its users useless. A reference that was not asked about is valid.
        let absent: BTreeSet<StorePath> = self.absent(terms, &seen, &found).await?;
        retain_closed(&mut found, absent);
        Ok(Offers { found, sources })
    }

    async fn absent(
        &self,
        terms: &Terms,
        seen: &BTreeSet<StorePath>,
        found: &BTreeMap<StorePath, Offer>,
    ) -> Result<BTreeSet<StorePath>, StoreError> {
        let needed: BTreeSet<&StorePath> = found.values().flat_map(|o| &o.info.references).collect();
        let open: Vec<StorePath> = needed
            .into_iter()
            .filter(|p| seen.contains(*p) && !found.contains_key(*p))
            .cloned()
            .collect();
        let view = self.house.view(terms, &open).await?;
        Ok(open.into_iter().filter(|p| view.get(p).is_none()).collect())
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
    async fn look_up(&self, terms: &Terms, sources: &[Source], path: &StorePath) -> Option<Offer> {
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

    /// Fetches from the cache of the offer, or else from the caches behind it.
    async fn fetch_any(&self, terms: &Terms, sources: &[Source], offer: Offer) -> (StorePath, Option<Claim>) {
        let path = offer.info.path.clone();
        let first = offer.source.cache.clone();
        let mut behind = sources.iter().skip_while(|s| s.cache != first).skip(1);
        let mut next = Some(offer);
        while let Some(offer) = next {
            match self.fetch(&offer).await {
                Ok(claim) => return (path, Some(claim)),
                Err(error) => {
                    tracing::warn!(account = %self.account.name, cache = %offer.source.cache.base(), %path, %error, "cannot fetch a path");
                }
            }
            next = None;
            for source in behind.by_ref() {
                // The references were looked up for the first entry; another entry must not need more.
                let other = self.look_up(terms, std::slice::from_ref(source), &path).await;
                if let Some(other) = other.filter(|o| o.info.references.is_subset(&offer.info.references)) {
                    next = Some(other);
                    break;
                }
            }
        }
        (path, None)
    }

    /// Fetches, checks and publishes one content; the claim is not recorded yet.
    async fn fetch(&self, offer: &Offer) -> Result<Claim, String> {
        let Offer { source, info } = offer;
        let unsigned = NarInfo {
            signatures: BTreeSet::new(),
            ..info.clone()
        };
        let flight = (source.cache.base(), source.login.clone(), unsigned.to_string());
        let path_info = info.to_path_info();
        // Bytes that lie here already prove nothing: only who got them from this cache may have them.
        let fetch = async {
            let login = source.login.as_ref();
            let caches = &self.house.caches;
            let nar = caches.nar(&source.cache, login, info).await;
            let mut nar = nar.map_err(|e| e.to_string())?;
            let options = IngestOptions {
                expected_size: Some(info.nar_size),
                expected_hash: Some(info.nar_hash),
                max_size: self.house.settings.max_nar_size,
            };
            let content = &self.house.content;
            let staged = content.ingest(&mut nar, options, None).await;
            let staged = staged.map_err(|e| e.to_string())?;
            // The stream's own checks are at its end.
            let mut rest = [0; 1];
            match tokio::io::AsyncReadExt::read(&mut nar, &mut rest).await {
                Ok(0) => {}
                Ok(_) => return Err("bytes follow the end of the NAR".to_owned()),
                Err(e) => return Err(e.to_string()),
            }
            check(&path_info, &staged).map_err(|e| e.to_string())?;
            content.publish([staged]).await.map_err(|e| e.to_string())
        };
        self.house.fetching.run(flight, fetch).await?;
        Ok(Claim {
            object: Object {
                path: path_info.path.clone(),
                content: path_info.nar_hash,
                nar_size: path_info.nar_size,
                references: path_info.references.clone(),
                ca: path_info.ca,
            },
            origin: Origin::Substituted,
            deriver: path_info.deriver.clone(),
            signatures: path_info.signatures.clone(),
            registered: self.house.now(),
            cache: Some(source.cache.base()),
            shareable: source.login.is_none(),
        })
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

/// References before what refers to them.
fn in_order(found: BTreeMap<StorePath, Offer>) -> VecDeque<Offer> {
    let mut ordered = VecDeque::with_capacity(found.len());
    let mut done: BTreeSet<StorePath> = BTreeSet::new();
    for root in found.keys() {
        // (path, whether its references were put on the stack before)
        let mut stack = vec![(root.clone(), false)];
        while let Some((path, entered)) = stack.pop() {
            let Some(offer) = found.get(&path) else { continue };
            if entered {
                ordered.push_back(offer.clone());
                continue;
            }
            if !done.insert(path.clone()) {
                continue;
            }
            stack.push((path.clone(), true));
            let references = offer.info.references.iter().filter(|r| !done.contains(*r));
            stack.extend(references.map(|r| (r.clone(), false)));
        }
    }
    ordered
}

/// The next offers whose references were not lost.
fn next_batch(queue: &mut VecDeque<Offer>, lost: &mut BTreeSet<StorePath>) -> Vec<Offer> {
    let mut batch = Vec::new();
    let mut bytes = 0_u64;
    while batch.len() < BATCH
        && let Some(offer) = queue.front()
    {
        bytes = bytes.saturating_add(offer.info.nar_size);
        if bytes > BATCH_BYTES && !batch.is_empty() {
            break;
        }
        let Some(offer) = queue.pop_front() else { break };
        if offer.info.references.is_disjoint(lost) {
            batch.push(offer);
        } else {
            lost.insert(offer.info.path);
        }
    }
    batch
}

/// Takes out of a batch what refers to lost paths, and what refers to that.
fn drop_users(claims: &mut Vec<Claim>, lost: &mut BTreeSet<StorePath>) {
    loop {
        let before = claims.len();
        claims.retain(|claim| {
            let keeps = claim.object.references.is_disjoint(lost);
            if !keeps {
                lost.insert(claim.object.path.clone());
            }
            keeps
        });
        if claims.len() == before {
            return;
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
