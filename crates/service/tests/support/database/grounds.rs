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
        if state.run(build).is_some() {
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
        let all = state
            .runs
            .iter()
            .flat_map(|row| state.grounded(ground, row.run.id));
        Ok(all.map(|(id, _)| id).filter(|id| objects.contains(id)).collect())
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
                found.insert(path.clone(), GroundedOutput { build, id, object });
            }
        }
        Ok(found)
    }
}
