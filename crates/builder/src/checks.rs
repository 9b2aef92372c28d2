//! What a derivation forbids its outputs to refer to, and how large they may be.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{InputMapping, Object};
use firn_nix::StorePath;
use firn_nix::derivation::{DerivationOptions, OutputChecks, OutputReference};

/// Applies every check to every output.
///
/// # Errors
/// The first violation, for the client, naming the output and the paths.
pub(crate) fn check_outputs(
    options: &DerivationOptions,
    outputs: &BTreeMap<String, Object>,
    inputs: &InputMapping,
) -> Result<(), String> {
    let known = inputs
        .objects()
        .chain(outputs.values())
        .map(|object| (&object.path, object))
        .collect();
    let check = Check { outputs, known };
    outputs
        .iter()
        .try_for_each(|(name, object)| match &options.structured {
            None => check.apply(object, &options.checks),
            Some(_) => options
                .output_checks
                .get(name)
                .map_or(Ok(()), |checks| check.apply(object, checks)),
        })
}

struct Check<'a> {
    outputs: &'a BTreeMap<String, Object>,
    known: BTreeMap<&'a StorePath, &'a Object>,
}

impl Check<'_> {
    fn apply(&self, object: &Object, checks: &OutputChecks) -> Result<(), String> {
        let Object { path, nar_size, .. } = object;
        if let Some(limit) = checks.max_size.filter(|limit| nar_size > limit) {
            return Err(format!(
                "path '{path}' is too large at {nar_size} bytes; limit is {limit} bytes"
            ));
        }
        let mut requisites = self.closure(path);
        let size: u64 = requisites
            .iter()
            .filter_map(|path| self.known.get(path))
            .map(|o| o.nar_size)
            .sum();
        if let Some(limit) = checks.max_closure_size.filter(|limit| size > *limit) {
            return Err(format!(
                "closure of path '{path}' is too large at {size} bytes; limit is {limit} bytes"
            ));
        }
        if checks.ignore_self_references {
            requisites.remove(path);
        }
        let references: BTreeSet<&StorePath> = object.references.iter().collect();
        for (list, used, allowed) in [
            (checks.allowed_references.as_ref(), &references, true),
            (checks.allowed_requisites.as_ref(), &requisites, true),
            (Some(&checks.disallowed_references), &references, false),
            (Some(&checks.disallowed_requisites), &requisites, false),
        ] {
            let Some(list) = list else { continue };
            let listed: BTreeSet<&StorePath> =
                list.iter().filter_map(|reference| self.path(reference)).collect();
            let bad: Vec<_> = used
                .iter()
                .filter(|path| listed.contains(*path) != allowed)
                .collect();
            if !bad.is_empty() {
                let bad: String = bad.iter().map(|path| format!("\n  {path}")).collect();
                return Err(format!(
                    "output '{path}' is not allowed to refer to the following paths:{bad}"
                ));
            }
        }
        Ok(())
    }

    /// That every named output exists was checked before the run.
    fn path<'b>(&'b self, reference: &'b OutputReference) -> Option<&'b StorePath> {
        match reference {
            OutputReference::Path(path) => Some(path),
            OutputReference::Output(name) => self.outputs.get(name).map(|object| &object.path),
        }
    }

    /// Everything that is reachable, the path itself included.
    fn closure<'b>(&'b self, path: &'b StorePath) -> BTreeSet<&'b StorePath> {
        let mut seen = BTreeSet::from([path]);
        let mut open = vec![path];
        while let Some(path) = open.pop() {
            let references = self
                .known
                .get(path)
                .into_iter()
                .flat_map(|object| &object.references);
            open.extend(references.filter(|reference| seen.insert(*reference)));
        }
        seen
    }
}
