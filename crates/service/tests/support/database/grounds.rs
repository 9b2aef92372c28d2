//! Grounded results.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{AccountId, BuildId, Ground, Object, ObjectId};
use firn_nix::StorePath;
use firn_service::ports::{DatabaseError, GroundedOutput, Grounds};

use super::{Answer, MemoryDatabase, State};

impl State {
    fn number(&self, object: &Object) -> Option<ObjectId> {
        let place = self.objects.iter().position(|o| o == object)?;
        i64::try_from(place + 1).ok().map(ObjectId)
    }

    /// Results of which the account may take grounded outputs: its own, and what was shared when it was made.
    fn open_to(&self, account: AccountId, takes: bool) -> impl Iterator<Item = &Answer> {
        let open = move |answer: &&Answer| answer.owner == Some(account) || takes && answer.shares;
        self.results.iter().filter(open)
    }

    /// The outputs of a grounded run.
    fn grounded(&self, ground: &Ground, build: BuildId) -> Vec<(ObjectId, Object)> {
        if !self.grounded.contains(&(*ground, build)) {
            return Vec::new();
        }
        let outputs = self.run(build).and_then(|row| row.outcome.as_ref().ok());
        let objects = outputs
            .into_iter()
            .flat_map(|o| o.values())
            .map(|o| o.object.clone());
        objects.filter_map(|o| Some((self.number(&o)?, o))).collect()
    }
}

impl Grounds for MemoryDatabase {
    async fn ground(
        &self,
        build: BuildId,
        ground: &Ground,
        drv_path: &StorePath,
    ) -> Result<(), DatabaseError> {
        let mut state = self.open("ground")?;
        if state
            .results
            .iter()
            .any(|answer| answer.build == build && answer.shares)
        {
            state.grounded.insert((*ground, build));
            state.grounded_from.insert((*ground, build, drv_path.clone()));
        }
        Ok(())
    }

    async fn grounded(
        &self,
        objects: &BTreeSet<ObjectId>,
        ground: &Ground,
    ) -> Result<BTreeSet<ObjectId>, DatabaseError> {
        let state = self.open("grounded")?;
        // Results stand in the order of recording.
        let shared = state.results.iter().filter(|answer| answer.shares);
        let mut first: BTreeMap<StorePath, ObjectId> = BTreeMap::new();
        for answer in shared {
            for (id, object) in state.grounded(ground, answer.build) {
                first.entry(object.path).or_insert(id);
            }
        }
        Ok(first.into_values().filter(|id| objects.contains(id)).collect())
    }

    async fn grounded_outputs(
        &self,
        paths: &[StorePath],
        ground: &Ground,
        account: AccountId,
        takes: bool,
    ) -> Result<BTreeMap<StorePath, GroundedOutput>, DatabaseError> {
        let state = self.open("grounded_outputs")?;
        let mut found = BTreeMap::new();
        for path in paths {
            let has = |build| {
                state
                    .grounded(ground, build)
                    .into_iter()
                    .find(|(_, o)| o.path == *path)
            };
            let answers = || {
                state
                    .open_to(account, takes)
                    .filter(|answer| has(answer.build).is_some())
            };
            let own = answers().find(|answer| answer.owner == Some(account));
            if let Some(answer) = own.or_else(|| answers().next())
                && let Some((id, object)) = has(answer.build)
            {
                let build = answer.build;
                found.insert(path.clone(), GroundedOutput { build, id, object });
            }
        }
        Ok(found)
    }

    async fn grounded_from(
        &self,
        made: &BTreeSet<(StorePath, StorePath)>,
        ground: &Ground,
        account: AccountId,
        takes: bool,
    ) -> Result<BTreeSet<(StorePath, StorePath)>, DatabaseError> {
        let state = self.open("grounded_from")?;
        let from = |(path, drv_path): &&(StorePath, StorePath)| {
            state.open_to(account, takes).any(|answer| {
                let mut outputs = state.grounded(ground, answer.build).into_iter();
                let noted = (*ground, answer.build, drv_path.clone());
                state.grounded_from.contains(&noted) && outputs.any(|(_, object)| object.path == *path)
            })
        };
        Ok(made.iter().filter(from).cloned().collect())
    }

    async fn inputs_of(
        &self,
        builds: &BTreeSet<BuildId>,
    ) -> Result<BTreeMap<BuildId, BTreeSet<ObjectId>>, DatabaseError> {
        let state = self.open("inputs_of")?;
        let known = builds
            .iter()
            .filter_map(|id| Some((*id, state.run(*id)?.run.inputs.clone())));
        Ok(known.collect())
    }
}
