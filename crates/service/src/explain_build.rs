//! Why a build was run: how its inputs differ from those of the nearest earlier run, and where the differences begin.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{BuildId, Differing, Made, Object, ObjectId, Step, differing, nearest, step};
use firn_nix::StorePath;
use firn_protocol::StoreError;

use crate::Desk;
use crate::build_logs::Wanted;
use crate::origin::{Origin, Origins};
use crate::ports::{Builds as _, Mark, PastRun, Ports, RequestRecord};
use crate::resolve::failed;
use crate::terms::Terms;

/// Requests that are searched for the one that is meant.
const MAX_REQUESTS: u32 = 10_000;
/// Earlier runs that are compared.
const MAX_RUNS: u32 = 100;
/// Differing inputs that are told.
const MAX_INPUTS: usize = 100;
/// Causes that are told.
const MAX_CAUSES: usize = 50;
/// Differences that are followed, in all.
const MAX_FOLLOWED: usize = 2000;
/// Builds that a difference is followed through.
const MAX_DEPTH: usize = 200;

/// Why a request for a build was answered as it was.
#[derive(Clone, Debug)]
pub struct BuildExplanation {
    /// The account's latest request for it.
    pub request: RequestRecord,
    /// The run behind its latest answer that a run gave.
    pub build: Option<BuildId>,
    /// Why later runs of it that the account leads are its own, if they are.
    pub apart: Option<Mark>,
    /// With what that run was compared: the nearest earlier one of the same derivation that the account may know of.
    pub compared: Option<Comparison>,
}

/// How a run differs from an earlier one.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The earlier run, when it is one that the account asked for.
    pub with: Option<BuildId>,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// Whether it gave outputs.
    pub succeeded: bool,
    /// Whether it was the very same build, with the same inputs in the same surroundings.
    pub same: bool,
    /// Inputs that are not the same in both, by path.
    pub inputs: Vec<DifferingInput>,
    /// How many more there are.
    pub more_inputs: usize,
    /// Inputs that only a run of another account had; their names are its own.
    pub inputs_of_others: usize,
    /// Where the differences begin.
    pub causes: Vec<Cause>,
    /// Whether all differences were followed to their causes.
    pub complete: bool,
}

/// An input of which two runs had different objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferingInput {
    /// Its path.
    pub path: StorePath,
    /// In the run that is explained.
    pub now: Option<Origin>,
    /// In the earlier one.
    pub before: Option<Origin>,
}

/// The first difference on a way up the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Of this path.
    pub path: StorePath,
    /// What it is. [`Step::Inputs`]: one build had inputs that the other had not, or both were other accounts'.
    pub step: Step,
    /// What the run that is explained goes back to.
    pub now: Origin,
    /// What the earlier one does.
    pub before: Origin,
    /// By which paths it got into the build: an input of it first, then what that was built from, down to this one.
    pub through: Vec<StorePath>,
}

/// Two contents of one path, on the way up the graph.
#[derive(Clone, Debug)]
struct Pair {
    path: StorePath,
    now: ObjectId,
    before: ObjectId,
    /// Whether the account asked for the runs that they come from itself.
    mine: (bool, bool),
    through: Vec<StorePath>,
}

impl<P: Ports> Desk<P> {
    /// Why a build of the account was answered as it was: of a derivation (its path, or the name of a package, with or without its version)
    /// the latest request, or the request that a build of that number answered. `None` when the account never asked for such a thing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn explain_build(&self, what: &str) -> Result<Option<BuildExplanation>, StoreError> {
        let id = build_id(what);
        let sought = Wanted::parse(what);
        let meant = |request: &RequestRecord| match id {
            Some(_) => request.build == id,
            None => sought.is(&request.drv_path),
        };
        let db = &self.house.db;
        let requests = db.requests(self.account.id, MAX_REQUESTS);
        let mut request = requests.await.map_err(failed)?.into_iter().find(meant);
        let mut answered = request.clone().filter(|request| request.build.is_some());
        let drv_path = match (&request, sought) {
            (Some(request), _) => Some(request.drv_path.clone()),
            (None, Wanted::Path(drv_path)) => Some(drv_path),
            (None, Wanted::Package(_)) => None,
        };
        if let (None, None, Some(drv_path)) = (&answered, id, &drv_path) {
            answered = db
                .latest_request(self.account.id, drv_path)
                .await
                .map_err(failed)?;
            request = request.or_else(|| answered.clone());
        }
        let Some(request) = request else { return Ok(None) };
        let apart = db.mark_of(self.account.id, &request.drv_path);
        let apart = apart.await.map_err(failed)?;
        let build = answered.and_then(|request| request.build);
        let Some(run) = self.run_asked_for(build).await? else {
            return Ok(Some(BuildExplanation {
                request,
                build,
                apart,
                compared: None,
            }));
        };
        let compared = self.compare(&run).await?;
        Ok(Some(BuildExplanation {
            request,
            build,
            apart,
            compared,
        }))
    }

    /// A run that answered the account.
    async fn run_asked_for(&self, build: Option<BuildId>) -> Result<Option<PastRun>, StoreError> {
        let Some(build) = build else { return Ok(None) };
        let found = self.house.db.run_of_request(build, self.account.id);
        found.await.map_err(failed)
    }

    /// Whether the account showed every input of a run, as it does by asking for it.
    async fn asked_for(&self, past: &PastRun) -> Result<bool, StoreError> {
        Ok(past.own || self.run_asked_for(Some(past.run.id)).await?.is_some())
    }

    /// Compares a run that answered the account with the nearest earlier one.
    async fn compare(&self, now: &PastRun) -> Result<Option<Comparison>, StoreError> {
        let store = self.house.store(self.account.clone());
        let terms = store.terms().await?;
        let takes = terms.sharing().takes;
        let runs = self
            .house
            .db
            .runs_of(&now.run.drv, self.account.id, takes, MAX_RUNS);
        let mut earlier = runs.await.map_err(failed)?;
        earlier.retain(|past| {
            (past.run.started, past.run.id) < (now.run.started, now.run.id) && past.run.id != now.run.id
        });
        let found = nearest(&made(now), &all_made(&earlier.iter().collect::<Vec<_>>()));
        let Some(before) = found.and_then(|at| earlier.get(at)) else {
            return Ok(None);
        };
        let mine = (true, self.asked_for(before).await?);
        let mut all = self.inputs_that_differ(now, before).await?;
        let inputs_of_others = all.len();
        // What only another account's run had is nothing that this one has shown.
        all.retain(|input| mine.1 || input.first.is_some());
        let inputs_of_others = inputs_of_others - all.len();
        let told = all.iter().take(MAX_INPUTS);
        let objects = self
            .objects(told.clone().flat_map(|i| i.first.into_iter().chain(i.second)))
            .await?;
        let origins = self
            .origins(&terms, &told.clone().map(|i| i.path.clone()).collect())
            .await?;
        let origin = |id: Option<ObjectId>, mine| Some(origins.of(id?, objects.get(&id?)?.content, mine));
        let inputs = told
            .map(|input| DifferingInput {
                path: input.path.clone(),
                now: origin(input.first, mine.0),
                before: origin(input.second, mine.1),
            })
            .collect();
        let same = now.run.key == before.run.key;
        let start = if same {
            outputs_that_differ(now, before)
        } else {
            pairs(&all, mine, &[])
        };
        let (causes, complete) = self.causes(&terms, start, takes).await?;
        Ok(Some(Comparison {
            with: mine.1.then_some(before.run.id),
            started: before.run.started,
            succeeded: !before.outputs.is_empty(),
            same,
            more_inputs: all.len().saturating_sub(MAX_INPUTS),
            inputs,
            inputs_of_others,
            causes,
            complete,
        }))
    }

    async fn objects(
        &self,
        ids: impl Iterator<Item = ObjectId>,
    ) -> Result<BTreeMap<ObjectId, Object>, StoreError> {
        self.house.db.objects(&ids.collect()).await.map_err(failed)
    }

    async fn inputs_that_differ(
        &self,
        now: &PastRun,
        before: &PastRun,
    ) -> Result<Vec<Differing>, StoreError> {
        let (now, before) = (&now.run.inputs, &before.run.inputs);
        let objects = self.objects(now.symmetric_difference(before).copied()).await?;
        let paths = objects.into_iter().map(|(id, object)| (id, object.path));
        Ok(differing(now, before, &paths.collect()))
    }

    /// Follows differences up the graph, all of one height at a time, to where they begin; and whether all were followed.
    async fn causes(
        &self,
        terms: &Terms,
        mut pairs: Vec<Pair>,
        takes: bool,
    ) -> Result<(Vec<Cause>, bool), StoreError> {
        let mut seen: BTreeSet<(ObjectId, ObjectId)> = BTreeSet::new();
        let mut ends: Vec<(Pair, Step)> = Vec::new();
        let mut complete = true;
        for _ in 0..MAX_DEPTH {
            pairs.retain(|pair| seen.insert((pair.now, pair.before)));
            if seen.len() > MAX_FOLLOWED {
                complete = false;
                pairs.truncate(MAX_FOLLOWED.saturating_sub(seen.len() - pairs.len()));
            }
            if pairs.is_empty() {
                break;
            }
            pairs = self.follow(pairs, takes, &mut ends).await?;
        }
        complete &= pairs.is_empty() && ends.len() <= MAX_CAUSES;
        ends.truncate(MAX_CAUSES);
        let paths = ends.iter().map(|(pair, _)| pair.path.clone()).collect();
        let origins = self.origins(terms, &paths).await?;
        let objects = self
            .objects(ends.iter().flat_map(|(pair, _)| [pair.now, pair.before]))
            .await?;
        let causes = ends.into_iter();
        let causes = causes.filter_map(|(pair, step)| cause(pair, step, &origins, &objects));
        Ok((causes.collect(), complete))
    }

    /// One step up from each pair; what has no further one is added to `ends`.
    async fn follow(
        &self,
        pairs: Vec<Pair>,
        takes: bool,
        ends: &mut Vec<(Pair, Step)>,
    ) -> Result<Vec<Pair>, StoreError> {
        let objects = pairs.iter().flat_map(|pair| [pair.now, pair.before]).collect();
        let producers = self.house.db.producers(&objects, self.account.id, takes);
        let producers = producers.await.map_err(failed)?;
        let of = |id: ObjectId| -> Vec<&PastRun> {
            let made = |past: &&PastRun| past.outputs.values().any(|(output, _)| *output == id);
            producers.iter().filter(made).collect()
        };
        let mut next = Vec::new();
        for pair in pairs {
            let (now, before) = (of(pair.now), of(pair.before));
            let runs = |a: usize, b: usize| Some((*now.get(a)?, *before.get(b)?));
            let found = step(&all_made(&now), &all_made(&before));
            let Step::Inputs(a, b) = found else {
                ends.push((pair, found));
                continue;
            };
            let Some((now, before)) = runs(a, b) else { continue };
            let mine = (self.asked_for(now).await?, self.asked_for(before).await?);
            let inputs = self.inputs_that_differ(now, before).await?;
            // What only others' builds were made of is theirs.
            let further = match mine {
                (false, false) => Vec::new(),
                mine => self::pairs(&inputs, mine, &pair.through),
            };
            match further.is_empty() {
                true => ends.push((pair, found)),
                false => next.extend(further),
            }
        }
        Ok(next)
    }
}

fn cause(pair: Pair, step: Step, origins: &Origins, objects: &BTreeMap<ObjectId, Object>) -> Option<Cause> {
    let content = |id: ObjectId| Some(objects.get(&id)?.content);
    Some(Cause {
        now: origins.of(pair.now, content(pair.now)?, pair.mine.0),
        before: origins.of(pair.before, content(pair.before)?, pair.mine.1),
        path: pair.path,
        step,
        through: pair.through,
    })
}

/// What both of two runs had, and had otherwise.
fn pairs(inputs: &[Differing], mine: (bool, bool), through: &[StorePath]) -> Vec<Pair> {
    let both = inputs.iter().filter_map(|input| Some((input, input.both()?)));
    both.map(|(input, (now, before))| Pair {
        path: input.path.clone(),
        now,
        before,
        mine,
        through: [through, std::slice::from_ref(&input.path)].concat(),
    })
    .collect()
}

/// What two runs of one key gave otherwise. Who asked for one has shown the inputs of both.
fn outputs_that_differ(now: &PastRun, before: &PastRun) -> Vec<Pair> {
    let outputs = now.outputs.iter();
    let both = outputs.filter_map(|(name, (id, object))| Some((object, *id, before.outputs.get(name)?.0)));
    both.filter(|(_, now, before)| now != before)
        .map(|(object, now, before)| Pair {
            path: object.path.clone(),
            now,
            before,
            mine: (true, true),
            through: vec![object.path.clone()],
        })
        .collect()
}

fn made(past: &PastRun) -> Made<'_> {
    Made {
        key: past.run.key,
        drv: past.run.drv.0,
        inputs: &past.run.inputs,
    }
}

fn all_made<'r>(runs: &[&'r PastRun]) -> Vec<Made<'r>> {
    runs.iter().map(|past| made(past)).collect()
}

/// A build's number: 32 hexadecimal digits.
pub(crate) fn build_id(text: &str) -> Option<BuildId> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut id = [0_u8; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(BuildId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_builds() {
        let id = BuildId([0x0f; 16]);
        assert_eq!(build_id(&id.to_string()), Some(id));
        for wrong in ["", "0f", &"0g".repeat(16), &"+f".repeat(16), &"é".repeat(16)] {
            assert_eq!(build_id(wrong), None, "{wrong}");
        }
    }
}
