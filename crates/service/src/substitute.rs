//! Fetching what an account's binary caches have: contents come together, and what was checked becomes valid once its references are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use firn_content::IngestOptions;
use firn_core::{Claim, Object, Origin};
use firn_nix::StorePath;
use firn_nix::narinfo::NarInfo;
use firn_protocol::StoreError;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::JoinSet;

use crate::AccountStore;
use crate::content_address::check;
use crate::findings::{Findings, Refusal};
use crate::offers::{Offer, Source};
use crate::ports::{AccountCaches as _, CacheError, Ports};
use crate::terms::Terms;

/// Contents that are fetched at once, for one request; as many as Nix has connections.
const FETCHES: usize = 25;
/// Paths that become valid together, unless there are no more; each time costs writing to the disk.
const BATCH: usize = 512;

impl<P: Ports> AccountStore<P> {
    /// Makes as many of `paths` valid as the account's caches allow, with their closures. Whether anything became valid.
    ///
    /// A cache that fails costs what it would have given, and is noted; `Err` is the service's own failure. Whether caches are asked at
    /// all is the caller's to know: a derivation may say so.
    pub(crate) async fn substitute(
        &self,
        paths: BTreeSet<StorePath>,
        findings: &Findings,
    ) -> Result<bool, StoreError> {
        let fetched = self.fetch_all(paths, findings).await;
        self.note(findings);
        fetched
    }

    async fn fetch_all(&self, paths: BTreeSet<StorePath>, findings: &Findings) -> Result<bool, StoreError> {
        let terms = self.terms().await?;
        let offers = self.offers(&terms, paths.clone(), findings).await?;
        let mut arrivals = Arrivals::of(offers.found);
        // Each on its own: unpacking and hashing are work.
        let mut fetches = JoinSet::new();
        // At most one: what arrives meanwhile becomes valid together.
        let mut keeping = FuturesUnordered::new();
        let mut any = false;
        loop {
            while fetches.len() < FETCHES
                && let Some((place, offer)) = arrivals.next()
            {
                let (store, terms, sources) = (self.clone(), Arc::clone(&terms), Arc::clone(&offers.sources));
                let findings = findings.clone();
                fetches
                    .spawn(async move { (place, store.fetch_any(&terms, &sources, offer, &findings).await) });
            }
            if keeping.is_empty() {
                let batch = arrivals.batch(!fetches.is_empty());
                if !batch.is_empty() {
                    keeping.push(async move { self.keep(Vec::new(), &batch).await });
                }
            }
            tokio::select! {
                Some(fetched) = fetches.join_next() => {
                    let (place, claim) = fetched.map_err(|error| {
                        tracing::error!(%error, "a fetch has failed");
                        StoreError::new("internal error: a path cannot be fetched; the operator's log has the details")
                    })?;
                    arrivals.note(place, claim);
                }
                Some(kept) = keeping.next() => {
                    kept?;
                    any = true;
                }
                else => {
                    arrivals.note_lacks(&paths, findings);
                    return Ok(any);
                }
            }
        }
    }

    /// Fetches from the cache of the offer, or else from the caches behind it.
    async fn fetch_any(
        &self,
        terms: &Terms,
        sources: &[Source],
        offer: Offer,
        findings: &Findings,
    ) -> Option<Claim> {
        let path = offer.info.path.clone();
        let first = offer.source.cache.clone();
        let mut behind = sources.iter().skip_while(|s| s.cache != first).skip(1);
        let mut next = Some(offer);
        while let Some(offer) = next {
            match self.fetch(terms, &offer).await {
                Ok(claim) => return Some(claim),
                Err(why) => {
                    let refusal = Refusal::Failed(why);
                    findings.refused(&path, offer.source.cache.base(), refusal);
                }
            }
            next = None;
            for source in behind.by_ref() {
                // The references were looked up for the first entry; another entry must not need more.
                let other = self
                    .look_up(terms, std::slice::from_ref(source), &path, findings)
                    .await;
                if let Some(other) = other.filter(|o| o.info.references.is_subset(&offer.info.references)) {
                    next = Some(other);
                    break;
                }
            }
        }
        None
    }

    /// Fetches, checks and publishes one content; the claim is not recorded yet. Errors are the rest of a sentence that begins with the
    /// cache.
    async fn fetch(&self, terms: &Terms, offer: &Offer) -> Result<Claim, String> {
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
            let caches = self.caches();
            let nar = caches.nar(&source.cache, login, info).await;
            let mut nar = nar.map_err(|e| e.trouble.to_string())?;
            let wrong = |why: String| format!("sends what is not {}: {why}", info.path);
            let options = IngestOptions {
                expected_size: Some(info.nar_size),
                expected_hash: Some(info.nar_hash),
                max_size: self.house.settings.max_nar_size,
            };
            let content = &self.house.content;
            let staged = content.ingest(&mut nar, options, None).await;
            let staged = staged.map_err(|e| sent(&e).unwrap_or_else(|| wrong(e.to_string())))?;
            // The stream's own checks are at its end.
            let mut rest = [0; 1];
            match tokio::io::AsyncReadExt::read(&mut nar, &mut rest).await {
                Ok(0) => {}
                Ok(_) => return Err(wrong("bytes follow the end of the NAR".to_owned())),
                Err(e) => return Err(sent(&e).unwrap_or_else(|| wrong(e.to_string()))),
            }
            let form = check(&path_info, &staged).map_err(|e| wrong(e.to_string()))?;
            content.publish([staged]).await.map_err(|error| {
                tracing::error!(%error, path = %info.path, "cannot keep what was fetched");
                format!("has {}, which cannot be kept here: internal error", info.path)
            })?;
            Ok(form)
        };
        let form = self.house.fetching.run(flight, fetch).await?;
        let object = Object {
            path: path_info.path.clone(),
            content: path_info.nar_hash,
            nar_size: path_info.nar_size,
            references: path_info.references.clone(),
            ca: path_info.ca,
            self_references: form,
        };
        let trusted = &terms.settings.trusted_public_keys;
        if object.ca.is_some() && !object.is_addressed() && info.signed_by(trusted).is_none() {
            return Err(format!(
                "has {}, which refers to itself and is not signed by a key that you trust; its content address, as Nix 2.17 to 2.34 computes \
                 it, does not prove such a content",
                info.path
            ));
        }
        Ok(Claim {
            object,
            origin: Origin::Substituted,
            deriver: path_info.deriver.clone(),
            signatures: path_info.signatures.clone(),
            registered: self.house.now(),
            cache: Some(source.cache.base()),
            shareable: source.login.is_none(),
        })
    }
}

/// What is fetched, and in which order it may become valid.
struct Arrivals {
    /// References before what refers to them, each with its place in that order.
    queue: VecDeque<(usize, Offer)>,
    /// By place.
    items: Vec<Item>,
    places: BTreeMap<StorePath, usize>,
    /// What may become valid, in an order in which every beginning is closed.
    ready: VecDeque<Claim>,
}

/// What a cache's own stream says went wrong with it, wherever in the causes.
fn sent(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        let inner = io.and_then(|io| io.get_ref()?.downcast_ref::<CacheError>());
        if let Some(error) = inner.or_else(|| error.downcast_ref()) {
            return Some(error.trouble.to_string());
        }
        next = error.source();
    }
    None
}

#[derive(Default)]
struct Item {
    /// How many of its references are fetched too and not ready yet.
    waits_for: usize,
    users: Vec<usize>,
    /// From when it is fetched until it is ready.
    claim: Option<Claim>,
    /// It cannot be had, because of what has that place.
    lost: Option<usize>,
}

impl Item {
    fn take(&mut self) -> Option<(Claim, Vec<usize>)> {
        Some((self.claim.take()?, std::mem::take(&mut self.users)))
    }
}

impl Arrivals {
    fn of(found: BTreeMap<StorePath, Offer>) -> Self {
        let queue: VecDeque<(usize, Offer)> = in_order(found).into_iter().enumerate().collect();
        let places: BTreeMap<StorePath, usize> = queue
            .iter()
            .map(|(place, offer)| (offer.info.path.clone(), *place))
            .collect();
        let mut items: Vec<Item> = queue.iter().map(|_| Item::default()).collect();
        for (place, offer) in &queue {
            let references = offer.info.references.iter().filter_map(|r| places.get(r));
            for reference in references.filter(|r| *r != place) {
                if let Some(item) = items.get_mut(*reference) {
                    item.users.push(*place);
                }
                if let Some(item) = items.get_mut(*place) {
                    item.waits_for += 1;
                }
            }
        }
        Self {
            queue,
            items,
            places,
            ready: VecDeque::new(),
        }
    }

    /// The next to fetch.
    fn next(&mut self) -> Option<(usize, Offer)> {
        loop {
            let (place, offer) = self.queue.pop_front()?;
            if self.items.get(place)?.lost.is_none() {
                return Some((place, offer));
            }
        }
    }

    fn note(&mut self, place: usize, claim: Option<Claim>) {
        match self.items.get_mut(place).filter(|item| item.lost.is_none()) {
            None => {}
            Some(_) if claim.is_none() => self.lose(place),
            Some(item) => {
                item.claim = claim;
                self.settle(place);
            }
        }
    }

    /// Makes it ready if it is, and what waited for it alone.
    fn settle(&mut self, place: usize) {
        let mut open = vec![place];
        while let Some(place) = open.pop() {
            let item = self.items.get_mut(place).filter(|item| item.waits_for == 0);
            let Some((claim, users)) = item.and_then(Item::take) else {
                continue;
            };
            self.ready.push_back(claim);
            for user in users {
                if let Some(user) = self.items.get_mut(user) {
                    user.waits_for -= 1;
                }
                open.push(user);
            }
        }
    }

    /// Gives it up, and all that needs it.
    fn lose(&mut self, place: usize) {
        let mut open = vec![place];
        while let Some(item) = open.pop().and_then(|place| self.items.get_mut(place)) {
            item.lost = Some(place);
            item.claim = None;
            open.append(&mut item.users);
        }
    }

    /// Which of `paths` were lost with another one.
    fn note_lacks(&self, paths: &BTreeSet<StorePath>, findings: &Findings) {
        let lost = paths.iter().filter_map(|path| {
            let place = *self.places.get(path)?;
            let cause = self.items.get(place)?.lost.filter(|cause| *cause != place)?;
            Some((path, cause))
        });
        for (path, cause) in lost {
            let missing = self.places.iter().find(|(_, place)| **place == cause);
            if let Some((missing, _)) = missing {
                findings.lacks(path, missing);
            }
        }
    }

    /// What becomes valid together next; more is to come if `waiting`.
    fn batch(&mut self, waiting: bool) -> Vec<Claim> {
        if !waiting && self.ready.is_empty() {
            // All that is left waits for itself: references can go round in a circle.
            return self
                .items
                .iter_mut()
                .filter_map(|item| item.claim.take())
                .collect();
        }
        let count = self.ready.len().min(BATCH);
        if waiting && count < BATCH {
            return Vec::new();
        }
        self.ready.drain(..count).collect()
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
