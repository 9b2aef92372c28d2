//! Grounded results: builds of which nothing was merely claimed, down to content-addressed leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use firn_core::{AccountId, BuildId, Ground, Object, ObjectId};
use firn_nix::StorePath;

use super::DatabaseError;

/// A path that a grounded result has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroundedOutput {
    /// The run.
    pub build: BuildId,
    /// Its number.
    pub id: ObjectId,
    /// What came out.
    pub object: Object,
}

/// Which results are grounded.
pub trait Grounds: Send + Sync + 'static {
    /// Notes that the outputs of a run are grounded, and that it was of this derivation, whose graph was checked; one run may be of several
    /// that are the same but for their inputs' derivations. Nothing happens when the run is forgotten, its result is not shared, or it is
    /// noted already. Need not be durable at once; the other methods know of it.
    fn ground(
        &self,
        build: BuildId,
        ground: &Ground,
        drv_path: &StorePath,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Those of these objects that are the first grounded ones of their paths, whoever they were built for: that something is so is no secret
    /// to whoever has it. What is built of later ones is not grounded, so that grounded results fit each other.
    fn grounded(
        &self,
        objects: &BTreeSet<ObjectId>,
        ground: &Ground,
    ) -> impl Future<Output = Result<BTreeSet<ObjectId>, DatabaseError>> + Send;

    /// Grounded outputs for these paths (any number of them), out of the account's own results and, when it takes any, out of all that were
    /// shared when they were made; of several for one path the account's own, else the first. Whoever shared one cannot take it back by
    /// becoming private: it holds nothing of his, and others' results are built of it.
    fn grounded_outputs(
        &self,
        paths: &[StorePath],
        ground: &Ground,
        account: AccountId,
        takes: bool,
    ) -> impl Future<Output = Result<BTreeMap<StorePath, GroundedOutput>, DatabaseError>> + Send;

    /// Those of these fixed outputs (each with a derivation) that grounded results, of those that [`Grounds::grounded_outputs`] looks at, were
    /// built from that very derivation. Which run of another one was the first decides nothing.
    fn grounded_from(
        &self,
        made: &BTreeSet<(StorePath, StorePath)>,
        ground: &Ground,
        account: AccountId,
        takes: bool,
    ) -> impl Future<Output = Result<BTreeSet<(StorePath, StorePath)>, DatabaseError>> + Send;

    /// The whole input closures of runs; those that are forgotten are left out.
    fn inputs_of(
        &self,
        builds: &BTreeSet<BuildId>,
    ) -> impl Future<Output = Result<BTreeMap<BuildId, BTreeSet<ObjectId>>, DatabaseError>> + Send;
}
