//! From a finished builder's directory to contents: which outputs are there, what they refer to, and whether they may be accepted.
//!
//! Every process of the build is gone. Nothing is published before every output has passed every check.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use firn_content::{
    ContentError, ContentStore, IngestError, Observer, Staged, WalkError, WalkLimits, WalkPolicy, WalkProblem,
};
use firn_core::Object;
use firn_nix::derivation::DerivationOptions;
use firn_nix::refscan::RefScanner;
use firn_nix::{ContentAddress, DerivationOutput, Hash, StorePath};
use firn_service::ports::{Job, RunFailure};
use firn_vm::MAX_REJECTED;
use tokio_util::sync::CancellationToken;

use crate::checks::check_outputs;
use crate::fixed::FixedHash;
use crate::floating::{Method, SelfHash, Unsettled};
use crate::order;

/// Bytes of both ends of a place in an output that are told.
const PLACE: usize = 500;

/// What is needed to collect the outputs of a job.
pub(crate) struct Collection<'a> {
    pub(crate) job: &'a Job,
    pub(crate) outputs: &'a BTreeMap<String, StorePath>,
    pub(crate) options: &'a DerivationOptions,
    pub(crate) content: &'a ContentStore,
    /// Directory that was the builder's `/nix/store`.
    pub(crate) store: &'a Path,
    /// Host user that all files of outputs must belong to.
    pub(crate) owner: u32,
    pub(crate) cancel: &'a CancellationToken,
}

/// What is learned while the NAR of an output goes by.
pub(crate) struct Seen {
    scan: RefScanner,
    fixed: Option<FixedHash>,
    floating: Option<SelfHash>,
}

impl Seen {
    /// Looks for nothing.
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        Self {
            scan: RefScanner::new(&BTreeSet::new()),
            fixed: None,
            floating: None,
        }
    }

    pub(crate) fn observer(seen: &Arc<Mutex<Self>>) -> Observer {
        let seen = Arc::clone(seen);
        Box::new(move |chunk| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.scan.push(chunk);
            if let Some(fixed) = &mut seen.fixed {
                fixed.push(chunk);
            }
            if let Some(floating) = &mut seen.floating {
                floating.push(chunk);
            }
        })
    }
}

impl Collection<'_> {
    /// Ingests and checks every output. What is staged is for the caller to publish.
    pub(crate) fn collect(&self) -> Result<(BTreeMap<String, Object>, Vec<Staged>), RunFailure> {
        // Missing outputs are reported before anything about others.
        let mut missing = Vec::new();
        for (name, path) in self.outputs {
            if self.is_missing(name, path)? {
                missing.push((name, path));
            }
        }
        if !missing.is_empty() {
            return Err(self.missing(missing));
        }
        let candidates = self.candidates();
        let mut taken = Vec::new();
        let mut refused = Vec::new();
        let mut left = self.job.limits.output_bytes;
        for (name, path) in self.outputs {
            match self.ingest(name, path, &candidates, left) {
                Ok((tree, seen)) => {
                    left = left.saturating_sub(tree.size());
                    taken.push((tree, seen));
                }
                Err(RunFailure::OutputRejected(why)) => refused.push(why),
                Err(failure) => return Err(failure),
            }
            if !refused.is_empty() {
                // Nothing will be kept; the rest is read for what else is wrong.
                taken.clear();
            }
            if refused.len() == MAX_REJECTED {
                break;
            }
        }
        if refused.is_empty() {
            self.accept(taken)
        } else {
            Err(all_refused(refused))
        }
    }

    /// What outputs may refer to.
    pub(crate) fn candidates(&self) -> BTreeSet<StorePath> {
        let inputs = self.job.inputs.objects().map(|input| &input.path);
        inputs.chain(self.outputs.values()).cloned().collect()
    }

    fn expected(&self, name: &str) -> Option<&ContentAddress> {
        match self.job.drv.outputs.get(name) {
            Some(DerivationOutput::Fixed { ca, .. }) => Some(ca),
            _ => None,
        }
    }

    /// What to look for in an output.
    pub(crate) fn look_for(&self, name: &str, candidates: &BTreeSet<StorePath>) -> Seen {
        Seen {
            scan: RefScanner::new(candidates),
            fixed: self.expected(name).and_then(FixedHash::new),
            floating: self.scratch(name).map(|(how, path)| SelfHash::new(how, path)),
        }
    }

    /// How a floating output is hashed, and where it was built.
    fn scratch(&self, name: &str) -> Option<(Method, &StorePath)> {
        let how = self.job.drv.outputs.get(name).and_then(Method::of)?;
        Some((how, self.outputs.get(name)?))
    }

    pub(crate) fn discards(&self, name: &str) -> bool {
        self.options.unsafe_discard_references.contains(name)
    }

    /// Checks all outputs, which are given in their order. Blocks where their paths follow from their contents.
    pub(crate) fn accept(
        &self,
        taken: Vec<(Staged, Arc<Mutex<Seen>>)>,
    ) -> Result<(BTreeMap<String, Object>, Vec<Staged>), RunFailure> {
        if taken.len() != self.outputs.len() {
            return Err(RunFailure::Infrastructure(format!(
                "{} of {} outputs of '{}' arrived",
                taken.len(),
                self.outputs.len(),
                self.job.drv_path
            )));
        }
        let mut objects = BTreeMap::new();
        let mut trees = Vec::new();
        let mut unsettled = BTreeMap::new();
        for ((name, path), (tree, seen)) in self.outputs.iter().zip(taken) {
            let Seen {
                scan,
                fixed,
                floating,
            } = Self::seen(path, seen)?;
            if let Some(hash) = floating {
                let found = scan.found();
                unsettled.insert(name.as_str(), Unsettled { tree, found, hash });
                continue;
            }
            objects.insert(name.clone(), self.object(name, path, &tree, scan, fixed)?);
            trees.push(tree);
        }
        self.refuse_circles(&objects)?;
        // All outputs are of one kind.
        if !unsettled.is_empty() {
            (objects, trees) = self.settle(unsettled)?;
        }
        check_outputs(self.options, &objects, &self.job.inputs).map_err(RunFailure::OutputRejected)?;
        Ok((objects, trees))
    }

    fn is_missing(&self, name: &str, path: &StorePath) -> Result<bool, RunFailure> {
        let drv_path = &self.job.drv_path;
        match self.store.join(path.base_name()).symlink_metadata() {
            Ok(_) => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(e) => Err(RunFailure::Infrastructure(format!(
                "output '{name}' of '{drv_path}': {e}"
            ))),
        }
    }

    /// What is said of outputs that are not there.
    pub(crate) fn missing<'n>(
        &self,
        outputs: impl IntoIterator<Item = (&'n String, &'n StorePath)>,
    ) -> RunFailure {
        let drv_path = &self.job.drv_path;
        let say = |(name, path)| {
            format!("builder for '{drv_path}' failed to produce output path for output '{name}' at '{path}'")
        };
        all_refused(outputs.into_iter().take(MAX_REJECTED).map(say))
    }

    /// One pass over an output.
    fn ingest(
        &self,
        name: &str,
        path: &StorePath,
        candidates: &BTreeSet<StorePath>,
        left: u64,
    ) -> Result<(Staged, Arc<Mutex<Seen>>), RunFailure> {
        if self.cancel.is_cancelled() {
            return Err(RunFailure::Cancelled);
        }
        let seen = Arc::new(Mutex::new(self.look_for(name, candidates)));
        let policy = WalkPolicy::BuildOutput { owner: self.owner };
        let limits = WalkLimits {
            bytes: left,
            ..WalkLimits::default()
        };
        let tree = self
            .content
            .ingest_tree(
                &self.store.join(path.base_name()),
                policy,
                limits,
                Some(Seen::observer(&seen)),
            )
            .map_err(|e| self.not_ingested(name, path, e))?;
        Ok((tree, seen))
    }

    fn seen(path: &StorePath, seen: Arc<Mutex<Seen>>) -> Result<Seen, RunFailure> {
        let seen = Arc::into_inner(seen).and_then(|seen| seen.into_inner().ok());
        seen.ok_or_else(|| {
            RunFailure::Infrastructure(format!("the scan of output '{path}' was not finished"))
        })
    }

    /// What an output is: its content, references and, when it is fixed, its hash.
    fn object(
        &self,
        name: &str,
        path: &StorePath,
        tree: &Staged,
        scan: RefScanner,
        fixed: Option<FixedHash>,
    ) -> Result<Object, RunFailure> {
        let references = if self.discards(name) {
            BTreeSet::new()
        } else {
            scan.found()
        };
        let expected = self.expected(name);
        if let Some(ca) = expected {
            self.check_fixed(path, ca, fixed, &references)?;
        }
        Ok(Object {
            path: path.clone(),
            content: tree.hash(),
            nar_size: tree.size(),
            references,
            ca: expected.copied(),
            self_references: None,
        })
    }

    fn check_fixed(
        &self,
        path: &StorePath,
        expected: &ContentAddress,
        hash: Option<FixedHash>,
        references: &BTreeSet<StorePath>,
    ) -> Result<(), RunFailure> {
        let drv_path = &self.job.drv_path;
        let rejected = |why: String| Err(RunFailure::OutputRejected(why));
        let Some(hash) = hash else {
            return Err(RunFailure::InputRejected(format!(
                "derivation '{drv_path}' has a Git hash as expected hash, which is not supported"
            )));
        };
        let Some(got) = hash.finish() else {
            return rejected(format!(
                "output path '{path}' should be a non-executable regular file since recursive hashing is not enabled \
                 (outputHashMode=flat)"
            ));
        };
        if got != expected.hash {
            return rejected(hash_mismatch(drv_path, &expected.hash, &got));
        }
        match references.first() {
            None => Ok(()),
            Some(first) => rejected(format!(
                "fixed-output derivations must not reference store paths: '{drv_path}' references {} distinct paths, \
                 e.g. '{first}'",
                references.len()
            )),
        }
    }

    fn refuse_circles(&self, objects: &BTreeMap<String, Object>) -> Result<(), RunFailure> {
        let names: BTreeMap<&StorePath, &str> = self
            .outputs
            .iter()
            .map(|(name, path)| (path, name.as_str()))
            .collect();
        let references = objects.iter().map(|(name, object)| {
            let to = object
                .references
                .iter()
                .filter_map(|path| names.get(path).copied());
            (name.as_str(), to.collect())
        });
        match order::sorted(&references.collect()) {
            Ok(_) => Ok(()),
            Err(circle) => Err(self.circle(circle)),
        }
    }

    pub(crate) fn circle(&self, (to, from): order::Circle<'_>) -> RunFailure {
        RunFailure::OutputRejected(format!(
            "cycle detected in build of '{}' in the references of output '{to}' from output '{from}'",
            self.job.drv_path
        ))
    }

    pub(crate) fn not_ingested(&self, name: &str, path: &StorePath, error: IngestError) -> RunFailure {
        match error {
            IngestError::Tree(WalkError {
                problem: WalkProblem::Io(errno),
                ..
            }) => RunFailure::Infrastructure(format!(
                "reading output '{path}' of '{}': {errno}",
                self.job.drv_path
            )),
            IngestError::Tree(error) => RunFailure::OutputRejected(self.rejected(name, path, &error)),
            IngestError::TooLarge { .. } => RunFailure::OutputRejected(self.too_large()),
            IngestError::Store(error) => not_stored(&self.job.drv_path, &error),
            error => RunFailure::OutputRejected(format!("output '{path}': {error}")),
        }
    }

    /// In Nix's words, where Nix refuses it as well.
    fn rejected(&self, name: &str, path: &StorePath, error: &WalkError) -> String {
        let place = shown(&error.path);
        match &error.problem {
            WalkProblem::FileType(kind) => format!("file '{path}{place}' has an unsupported type ({kind})"),
            WalkProblem::Owner { .. } | WalkProblem::Writable(_) if place.is_empty() => {
                format!(
                    "suspicious ownership or permission on '{path}' for output '{name}'; rejecting this build output"
                )
            }
            WalkProblem::Owner { .. } => format!("invalid ownership on file '{path}{place}'"),
            WalkProblem::Bytes(_) => self.too_large(),
            problem => format!("output '{path}{place}' cannot be stored: {problem}"),
        }
    }

    pub(crate) fn too_large(&self) -> String {
        let limit = self.job.limits.output_bytes;
        format!(
            "outputs of '{}' are larger than {limit} bytes together",
            self.job.drv_path
        )
    }
}

/// Everything that is wrong, each on a line of its own, and once.
pub(crate) fn all_refused(texts: impl IntoIterator<Item = String>) -> RunFailure {
    let mut lines: Vec<String> = Vec::new();
    for text in texts {
        if !lines.contains(&text) {
            lines.push(text);
        }
    }
    RunFailure::OutputRejected(lines.join("\n"))
}

/// A place in an output for people: of one that is very deep, both ends.
fn shown(path: &[u8]) -> String {
    match path {
        [] => String::new(),
        _ if path.len() <= 2 * PLACE => format!("/{}", path.escape_ascii()),
        _ => {
            let (start, end) = (path.get(..PLACE), path.get(path.len() - PLACE..));
            let [start, end] = [start, end].map(|part| part.unwrap_or_default().escape_ascii());
            format!("/{start}…{end}")
        }
    }
}

/// The machine's doing, never the builder's.
pub(crate) fn not_stored(drv_path: &StorePath, error: &ContentError) -> RunFailure {
    RunFailure::Infrastructure(format!("storing the outputs of '{drv_path}': {error}"))
}

fn hash_mismatch(drv_path: &StorePath, specified: &Hash, got: &Hash) -> String {
    let (specified, got) = (specified.sri(), got.sri());
    format!(
        "hash mismatch in fixed-output derivation '{drv_path}':\n  specified: {specified}\n     got:    {got}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_refused_is_told_once_and_shortly() {
        let texts = ["a", "b", "a"].map(str::to_owned);
        assert_eq!(all_refused(texts), RunFailure::OutputRejected("a\nb".to_owned()));
        assert_eq!(shown(b""), "");
        assert_eq!(shown(b"a/\xff"), "/a/\\xff");
        let deep = [&b"start"[..], &[b'd'; 60_000], b"end"].concat();
        let text = shown(&deep);
        assert!(text.starts_with("/startd") && text.ends_with("dend") && text.contains('…'));
        assert!(text.len() < 2 * PLACE + 10, "{}", text.len());
    }
}
