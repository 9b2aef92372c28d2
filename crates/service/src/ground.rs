//! Which builds are grounded: made of nothing but content-addressed leaves and of what is grounded itself.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use firn_core::{BuildId, EnvironmentClass, Ground, ObjectId, View};
use firn_nix::StorePath;
use firn_protocol::StoreError;

use crate::ports::{BuildRecord, Grounds as _, Ports};
use crate::resolve::failed;
use crate::{AccountStore, House};

/// Runs that are remembered; some 80 bytes each.
const MAX_KNOWN: usize = 1 << 20;

/// Runs that were noted as grounded, and of which derivations.
#[derive(Debug, Default)]
pub(crate) struct KnownGrounds(Mutex<HashSet<(Ground, BuildId, StorePath)>>);

impl KnownGrounds {
    /// Whether it is new.
    fn note(&self, ground: Ground, build: BuildId, drv_path: StorePath) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > MAX_KNOWN {
            known.clear();
        }
        known.insert((ground, build, drv_path))
    }

    fn forget(&self, ground: Ground, build: BuildId, drv_path: StorePath) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(ground, build, drv_path));
    }
}

impl<P: Ports> House<P> {
    /// What results of builds in this class are grounded in.
    pub(crate) fn ground(&self, class: &EnvironmentClass) -> Ground {
        Ground::of(class, &self.settings.builtins)
    }
}

impl<P: Ports> AccountStore<P> {
    /// Whether what a derivation gives with these inputs is grounded. `sound`: its output paths follow from a checked graph.
    ///
    /// Fixed outputs, too: one is what its hash says, whatever it is made of, but who made it of bytes of his own has not made them public.
    pub(crate) async fn ground_of(
        &self,
        sound: bool,
        inputs: &View,
        class: &EnvironmentClass,
    ) -> Result<Option<Ground>, StoreError> {
        if !sound {
            return Ok(None);
        }
        let ground = self.house.ground(class);
        let claimed = inputs
            .choices()
            .filter(|(_, choice)| !choice.object().is_pinned());
        let claimed: BTreeSet<ObjectId> = claimed.map(|(_, choice)| choice.candidate.id).collect();
        let grounded = self.house.db.grounded(&claimed, &ground).await.map_err(failed)?;
        Ok((grounded == claimed).then_some(ground))
    }

    /// Remembers that a result of this derivation is grounded. The result stands without that.
    pub(crate) async fn note_ground(
        &self,
        record: &BuildRecord,
        drv_path: &StorePath,
        ground: Option<Ground>,
    ) {
        let Some(ground) = ground else { return };
        let build = record.run.id;
        if !self.house.grounds.note(ground, build, drv_path.clone()) {
            return;
        }
        if let Err(error) = self.house.db.ground(build, &ground, drv_path).await {
            self.house.grounds.forget(ground, build, drv_path.clone());
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a grounded result is not noted"
            );
        }
    }
}
