//! What a derivation forbids its outputs to refer to, and how large they may be.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{InputMapping, Object};
use firn_nix::StorePath;
use firn_nix::derivation::options::{Options, OutputChecks};

/// Applies every check to every output.
///
/// # Errors
/// The first violation, for the client, naming the output and the paths.
pub(crate) fn check_outputs(
    drv_path: &StorePath,
    options: &Options,
    outputs: &BTreeMap<String, Object>,
    inputs: &InputMapping,
) -> Result<(), String> {
    let known = inputs.objects().chain(outputs.values()).map(|object| (&object.path, object)).collect();
    let check = Check { drv_path, outputs, known };
    outputs.iter().try_for_each(|(name, object)| match options.checks(name) {
        Some(checks) => check.apply(name, object, checks),
        None => Ok(()),
    })
}

struct Check<'a> {
    drv_path: &'a StorePath,
    outputs: &'a BTreeMap<String, Object>,
    known: BTreeMap<&'a StorePath, &'a Object>,
}

impl Check<'_> {
    fn apply(&self, name: &str, object: &Object, checks: &OutputChecks) -> Result<(), String> {
        if let Some(limit) = checks.max_size.filter(|limit| object.nar_size > *limit) {
            let Object { path, nar_size, .. } = object;
            return Err(format!("path '{path}' is too large at {nar_size} bytes; limit is {limit} bytes"));
        }
        let closure = self.closure(&object.path);
        let size: u64 = closure.iter().filter_map(|path| self.known.get(path)).map(|o| o.nar_size).sum();
        if let Some(limit) = checks.max_closure_size.filter(|limit| size > *limit) {
            let path = &object.path;
            return Err(format!("closure of path '{path}' is too large at {size} bytes; limit is {limit} bytes"));
        }
        let references: BTreeSet<&StorePath> = object.references.iter().collect();
        let mut requisites = closure;
        if checks.ignore_self_references {
            requisites.remove(&object.path);
        }
        for (list, used, allowed) in [
            (&checks.allowed_references, &references, true),
            (&checks.allowed_requisites, &requisites, true),
            (&checks.disallowed_references, &references, false),
            (&checks.disallowed_requisites, &requisites, false),
        ] {
            let Some(list) = list else { continue };
            let listed = self.paths(name, list)?;
            let bad: Vec<String> =
                used.iter().filter(|path| listed.contains(**path) != allowed).map(|path| format!("\n  {path}")).collect();
            if !bad.is_empty() {
                return Err(format!(
                    "output '{}' is not allowed to refer to the following paths:{}",
                    object.path,
                    bad.concat()
                ));
            }
        }
        Ok(())
    }

    /// Each specifier is a store path or the name of an output.
    fn paths(&self, output: &str, specifiers: &[Vec<u8>]) -> Result<BTreeSet<StorePath>, String> {
        let path = |specifier: &Vec<u8>| {
            let named = std::str::from_utf8(specifier).ok().and_then(|name| self.outputs.get(name));
            StorePath::parse(specifier).ok().or_else(|| named.map(|object| object.path.clone())).ok_or_else(|| {
                format!(
                    "the checks for output '{output}' of '{}' have an illegal reference specifier '{}'; \
                     expected a store path or the name of an output",
                    self.drv_path,
                    specifier.escape_ascii()
                )
            })
        };
        specifiers.iter().map(path).collect()
    }

    /// Everything that is reachable, the path itself included.
    fn closure<'b>(&'b self, path: &'b StorePath) -> BTreeSet<&'b StorePath> {
        let mut seen = BTreeSet::from([path]);
        let mut open = vec![path];
        while let Some(path) = open.pop() {
            let references = self.known.get(path).into_iter().flat_map(|object| &object.references);
            open.extend(references.filter(|reference| seen.insert(*reference)));
        }
        seen
    }
}
