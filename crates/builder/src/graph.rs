//! `exportReferencesGraph` and structured attributes: what a build is told about its inputs.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::Object;
use firn_nix::derivation::Derivation;
use firn_nix::{StorePath, graph, structured_attrs};
use firn_service::ports::RunFailure;

use crate::environment::Request;

/// Gives the bytes of an input that is one file.
pub type ReadDerivation<'a> = dyn Fn(&Object) -> Result<Vec<u8>, RunFailure> + 'a;

/// Inputs by path.
struct Inputs<'a> {
    objects: BTreeMap<&'a StorePath, &'a Object>,
    drv_path: &'a StorePath,
}
