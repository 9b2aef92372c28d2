//! Which builds are grounded: made of nothing but content-addressed leaves and of what is grounded itself.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use firn_core::{BuildId, EnvironmentClass, Ground, ObjectId, View};
use firn_nix::{BasicDerivation, DerivationOutput};
use firn_protocol::StoreError;

use crate::AccountStore;
use crate::ports::{BuildRecord, Grounds as _, Ports};
use crate::resolve::failed;

/// Objects and runs that are remembered; some 60 bytes each.
const MAX_KNOWN: usize = 1 << 20;

/// What is known to be grounded. That it was built so stays true, whatever is forgotten.
#[derive(Debug, Default)]
pub(crate) struct KnownGrounds {
    objects: Mutex<HashSet<(Ground, ObjectId)>>,
    builds: Mutex<HashSet<(Ground, BuildId)>>,
}

impl KnownGrounds {
    fn unknown(&self, ground: Ground, ids: impl Iterator<Item = ObjectId>) -> BTreeSet<ObjectId> {
        let known = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        ids.filter(|id| !known.contains(&(ground, *id))).collect()
    }

    fn note_objects(&self, ground: Ground, ids: &BTreeSet<ObjectId>) {
        let mut known = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > MAX_KNOWN {
            known.clear();
        }
        known.extend(ids.iter().map(|id| (ground, *id)));
    }

    /// Whether it is new.
    fn note_build(&self, ground: Ground, build: BuildId) -> bool {
        let mut known = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > MAX_KNOWN {
            known.clear();
        }
        known.insert((ground, build))
    }

    fn forget_build(&self, ground: Ground, build: BuildId) {
        let mut known = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(ground, build));
    }
}

impl<P: Ports> AccountStore<P> {
    /// Whether what this derivation gives with these inputs is grounded. `sound`: its output paths follow from a checked graph.
    ///
    /// A fixed output is what its hash says, whatever it is made of, and no login of an account reaches its build.
    pub(crate) async fn ground_of(
        &self,
        drv: &BasicDerivation,
        sound: bool,
        inputs: &View,
        class: &EnvironmentClass,
    ) -> Result<Option<Ground>, StoreError> {
        let ground = Ground::of(class);
        let fixed = |output: &DerivationOutput| matches!(output, DerivationOutput::Fixed { .. });
        if drv.outputs.values().all(fixed) {
            return Ok(Some(ground));
        }
        if !sound {
            return Ok(None);
        }
        let claimed = inputs
            .choices()
            .filter(|(_, choice)| choice.object().ca.is_none());
        let known = &self.house.grounds;
        let unknown = known.unknown(ground, claimed.map(|(_, choice)| choice.candidate.id));
        if unknown.is_empty() {
            return Ok(Some(ground));
        }
        let grounded = self.house.db.grounded(&unknown, &ground).await.map_err(failed)?;
        known.note_objects(ground, &grounded);
        Ok((grounded == unknown).then_some(ground))
    }

    /// Remembers that a result is grounded. The result stands without that.
    pub(crate) async fn note_ground(&self, record: &BuildRecord, ground: Option<Ground>) {
        let Some(ground) = ground else { return };
        let build = record.run.id;
        if !self.house.grounds.note_build(ground, build) {
            return;
        }
        if let Err(error) = self.house.db.ground(build, &ground).await {
            self.house.grounds.forget_build(ground, build);
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a grounded result is not noted"
            );
        }
    }
}
