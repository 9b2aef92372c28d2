//! Grounded results.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{AccountId, BuildId, Ground, Object, ObjectId};
use firn_nix::StorePath;
use firn_service::ports::{DatabaseError, GroundedOutput, Grounds};

use super::{MemoryDatabase, State};

impl State {
    fn number(&self, object: &Object) -> Option<ObjectId> {
        let place = self.objects.iter().position(|o| o == object)?;
        i64::try_from(place + 1).ok().map(ObjectId)
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
    async fn ground(&self, build: BuildId, ground: &Ground) -> Result<(), DatabaseError> {
        let mut state = self.open("ground")?;
        if state
            .results
            .iter()
            .any(|answer| answer.build == build && answer.shares)
        {
            state.grounded.insert((*ground, build));
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
            let answers = state.results.iter().filter(|answer| has(answer.build).is_some());
            if let Some(build) = state.answer(answers, account, takes)
                && let Some((id, object)) = has(build)
            {
                let drv_path = state.run(build).unwrap().run.drv_path.clone();
                let output = GroundedOutput {
                    build,
                    drv_path,
                    id,
                    object,
                };
                found.insert(path.clone(), output);
            }
        }
        Ok(found)
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
