//! From a finished builder's directory to contents: which outputs are there, what they refer to, and whether they may be accepted.
//!
//! Every process of the build is gone. Nothing is published before every output has passed every check.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use firn_content::{ContentStore, Staged};
use firn_core::Object;
use firn_nix::derivation::Options;
use firn_nix::refscan::RefScanner;
use firn_nix::{ContentAddress, DerivationOutput, StorePath};
use firn_service::ports::{Job, RunFailure};
use tokio_util::sync::CancellationToken;

use crate::checks::check_outputs;
use crate::fixed::FixedHash;
use crate::order;

/// Writable by group or others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// What is needed to collect the outputs of a job.
pub(crate) struct Collection<'a> {
    pub(crate) job: &'a Job,
    pub(crate) outputs: &'a BTreeMap<String, StorePath>,
    pub(crate) options: &'a Options,
    pub(crate) content: &'a ContentStore,
    /// Directory that was the builder's `/nix/store`.
    pub(crate) store: &'a Path,
    /// Host user that all files of outputs must belong to.
    pub(crate) owner: Option<u32>,
    pub(crate) cancel: &'a CancellationToken,
}

impl Collection<'_> {
    /// Ingests, checks and publishes every output.
    pub(crate) fn collect(&self) -> Result<BTreeMap<String, Object>, RunFailure> {
        // Nix looks at every output before it reads one.
        for (name, path) in self.outputs {
            self.look(name, path)?;
        }
        let candidates: BTreeSet<StorePath> =
            self.job.inputs.objects().map(|input| &input.path).chain(self.outputs.values()).cloned().collect();
        let mut objects = BTreeMap::new();
        let mut staged = Vec::new();
        let mut left = self.job.limits.output_bytes;
        for (name, path) in self.outputs {
            let (object, tree) = self.ingest(name, path, &candidates, left)?;
            left = left.saturating_sub(object.nar_size);
            objects.insert(name.clone(), object);
            staged.push(tree);
        }
        self.refuse_cycles(&objects)?;
        check_outputs(&self.job.drv_path, self.options, &objects, &self.job.inputs).map_err(RunFailure::OutputRejected)?;
        for tree in staged {
            self.content.publish(tree).map_err(|e| self.machine(&e))?;
        }
        Ok(objects)
    }
}
