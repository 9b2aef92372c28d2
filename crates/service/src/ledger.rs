//! The reproducibility ledger: equal builds that gave different outputs, and caches that have other bytes than Firn built.

use std::collections::{BTreeMap, BTreeSet};

use firn_content::Difference;
use firn_core::{BuildId, BuildKey, Object, ObjectId, Origin, Witness};
use firn_nix::{NarHash, StorePath};
use firn_protocol::StoreError;

use crate::Desk;
use crate::ports::{Builds as _, PastRun, Ports, Views as _};
use crate::resolve::failed;
use crate::terms::Terms;

/// Build keys that are told.
const MAX_KEYS: u32 = 200;
/// The account's requests that are looked at.
const MAX_REQUESTS: u32 = 10_000;
/// Runs whose outputs are compared with caches.
const MAX_RUNS: usize = 2000;
/// Paths that are looked up at once.
const BATCH: usize = 500;
/// Places that are told of each pair of contents.
const MAX_PLACES: usize = 20;

/// What is known not to be reproducible, as far as it concerns one account.
#[derive(Clone, Debug, Default)]
pub struct Reproducibility {
    /// Outputs that equal builds gave with different contents.
    pub builds: Vec<Irreproducible>,
    /// Outputs of which a cache has other bytes.
    pub caches: Vec<OtherBytes>,
}

/// One output of one build key, and what its runs gave.
#[derive(Clone, Debug)]
pub struct Irreproducible {
    /// The build.
    pub key: BuildKey,
    /// The derivation as the account named it, if it did.
    pub drv_path: Option<StorePath>,
    /// Name of the output.
    pub output: String,
    /// Its path.
    pub path: StorePath,
    /// What runs gave, the first that was seen in front.
    pub contents: Vec<Outcome>,
    /// Where the second differs from the first; empty also when one of them is not kept any more.
    pub differences: Vec<Difference>,
    /// Whether there are more differences.
    pub more: bool,
}

/// One content that runs of a build key gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The content.
    pub content: NarHash,
    /// How many runs gave it.
    pub runs: usize,
    /// When the first of them ended, in seconds since 1970.
    pub first: u64,
    /// When the last of them did.
    pub last: u64,
}

/// A path of which a cache has other bytes than Firn built.
#[derive(Clone, Debug)]
pub struct OtherBytes {
    /// The path.
    pub path: StorePath,
    /// What Firn built.
    pub built: NarHash,
    /// What the cache has.
    pub cached: NarHash,
    /// The trusted key that signed the cache's, if one did.
    pub key: Option<String>,
    /// The cache, if the account fetched from it.
    pub cache: Option<String>,
    /// Where the cache's differs from Firn's; empty also when one of them is not kept any more.
    pub differences: Vec<Difference>,
    /// Whether there are more differences.
    pub more: bool,
}

impl<P: Ports> Desk<P> {
    /// Build keys of the account's own requests whose runs gave different outputs, and outputs of which a signed cache has other bytes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reproducibility(&self) -> Result<Reproducibility, StoreError> {
        let store = self.house.store(self.account.clone());
        let terms = store.terms().await?;
        let takes = terms.sharing().takes;
        let db = &self.house.db;
        let runs = db
            .irreproducible(self.account.id, takes, MAX_KEYS)
            .await
            .map_err(failed)?;
        let requests = db.requests(self.account.id, MAX_REQUESTS).await.map_err(failed)?;
        // The newest first, and what another account called it is not this one's business.
        let mut named: BTreeMap<BuildId, StorePath> = BTreeMap::new();
        let mut asked = Vec::new();
        for request in requests {
            if let Some(build) = request.build
                && named.insert(build, request.drv_path).is_none()
            {
                asked.push(build);
            }
        }
        let mut found = Reproducibility::default();
        for mut row in outcomes(&runs) {
            let mut of_key = runs.iter().filter(|past| past.run.key == row.key);
            row.drv_path = of_key.find_map(|past| match named.get(&past.run.id) {
                Some(name) => Some(name.clone()),
                None => past.own.then(|| past.run.drv_path.clone()),
            });
            if let [first, second, ..] = row.contents.as_slice() {
                (row.differences, row.more) = self.some_places(first.content, second.content).await;
            }
            found.builds.push(row);
        }
        asked.truncate(MAX_RUNS);
        let mut built: BTreeMap<ObjectId, Object> = BTreeMap::new();
        for build in asked {
            let past = db.run_of_request(build, self.account.id).await.map_err(failed)?;
            built.extend(past.into_iter().flat_map(|past| past.outputs.into_values()));
        }
        found.caches = self.other_bytes(&terms, &built).await?;
        Ok(found)
    }

    async fn some_places(&self, first: NarHash, second: NarHash) -> (Vec<Difference>, bool) {
        let mut places = self.house.differences(first, second).await;
        let more = places.len() > MAX_PLACES;
        places.truncate(MAX_PLACES);
        (places, more)
    }

    /// Which of these objects a cache or a trusted key has otherwise.
    async fn other_bytes(
        &self,
        terms: &Terms,
        built: &BTreeMap<ObjectId, Object>,
    ) -> Result<Vec<OtherBytes>, StoreError> {
        let paths: BTreeSet<&StorePath> = built.values().map(|object| &object.path).collect();
        let paths: Vec<StorePath> = paths.into_iter().cloned().collect();
        let mut found: BTreeMap<(StorePath, NarHash, NarHash), OtherBytes> = BTreeMap::new();
        for batch in paths.chunks(BATCH) {
            let evidence = self
                .house
                .db
                .evidence(&terms.policy, batch)
                .await
                .map_err(failed)?;
            for evidence in evidence {
                let key = match evidence.witness {
                    Witness::Key(id) => terms.key_name(id).map(str::to_owned),
                    Witness::Own if evidence.claim.origin == Origin::Substituted => None,
                    Witness::Own | Witness::Account(_) => continue,
                };
                let object = evidence.claim.object;
                let others = built.iter().filter(|(_, ours)| ours.path == object.path);
                for (_, ours) in others.filter(|(_, ours)| ours.content != object.content) {
                    let place = (object.path.clone(), ours.content, object.content);
                    let row = found.entry(place).or_insert_with(|| OtherBytes {
                        path: object.path.clone(),
                        built: ours.content,
                        cached: object.content,
                        key: None,
                        cache: None,
                        differences: Vec::new(),
                        more: false,
                    });
                    row.key = row.key.take().or_else(|| key.clone());
                    row.cache = row.cache.take().or_else(|| evidence.claim.cache.clone());
                }
            }
        }
        let mut all: Vec<OtherBytes> = found.into_values().collect();
        for row in &mut all {
            (row.differences, row.more) = self.some_places(row.built, row.cached).await;
        }
        Ok(all)
    }
}

/// Of each key and output what its runs gave, where they did not give one content; in the order of the runs.
fn outcomes(runs: &[PastRun]) -> Vec<Irreproducible> {
    let mut all: Vec<Irreproducible> = Vec::new();
    for past in runs {
        for (name, (_, object)) in &past.outputs {
            let outcome = Outcome {
                content: object.content,
                runs: 1,
                first: past.run.stopped,
                last: past.run.stopped,
            };
            let known = all
                .iter_mut()
                .find(|row| (row.key, &row.output) == (past.run.key, name));
            match known {
                Some(row) => note(&mut row.contents, outcome),
                None => all.push(Irreproducible {
                    key: past.run.key,
                    drv_path: None,
                    output: name.clone(),
                    path: object.path.clone(),
                    contents: vec![outcome],
                    differences: Vec::new(),
                    more: false,
                }),
            }
        }
    }
    all.retain(|row| row.contents.len() > 1);
    for row in &mut all {
        // Runs come newest first.
        row.contents.reverse();
        row.contents.sort_by_key(|seen| seen.first);
    }
    all
}

fn note(contents: &mut Vec<Outcome>, outcome: Outcome) {
    match contents.iter_mut().find(|seen| seen.content == outcome.content) {
        Some(seen) => {
            seen.runs += 1;
            (seen.first, seen.last) = (seen.first.min(outcome.first), seen.last.max(outcome.last));
        }
        None => contents.push(outcome),
    }
}
