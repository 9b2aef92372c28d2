//! Outputs whose paths follow from their contents.
//!
//! They were built under scratch paths. What an output says of another one is rewritten once that one's path is known; then its own
//! path follows from its bytes, in which its scratch path counts as nothing; and what it says of itself is rewritten last. All as Nix
//! does it, so that equal outputs get equal paths.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use firn_content::{Observer, Staged};
use firn_core::Object;
use firn_nix::rewrite::{HashModuloSelf, HashRewriter, HashesModuloSelf};
use firn_nix::{CaMethod, ContentAddress, DerivationOutput, HashAlgo, StorePath, output_path_name};
use firn_service::ports::RunFailure;

use crate::collect::Collection;
use crate::flat::FlatContents;
use crate::order;

/// How an output becomes its own address.
#[derive(Clone, Copy)]
pub(crate) struct Method {
    pub(crate) method: CaMethod,
    pub(crate) algo: HashAlgo,
}

impl Method {
    pub(crate) fn of(output: &DerivationOutput) -> Option<Self> {
        match *output {
            DerivationOutput::Floating { method, algo } => Some(Self { method, algo }),
            _ => None,
        }
    }
}

/// Hashes an output while its NAR goes by.
pub(crate) struct SelfHash {
    modulo: HashModuloSelf,
    flat: Option<FlatContents>,
}

impl SelfHash {
    pub(crate) fn new(how: Method, scratch: &StorePath) -> Self {
        let flat = matches!(how.method, CaMethod::Flat | CaMethod::Text);
        Self {
            modulo: HashModuloSelf::new(how.algo, scratch),
            flat: flat.then(FlatContents::default),
        }
    }

    pub(crate) fn push(&mut self, chunk: &[u8]) {
        match &mut self.flat {
            Some(flat) => self.modulo.push(flat.push(chunk)),
            None => self.modulo.push(chunk),
        }
    }
}

/// An output as it was built.
pub(crate) struct Unsettled {
    pub(crate) tree: Staged,
    /// What it mentions, by scratch paths.
    pub(crate) found: BTreeSet<StorePath>,
    pub(crate) hash: SelfHash,
}

impl Collection<'_> {
    /// The final outputs of a derivation with floating ones. Blocks.
    pub(crate) fn settle(
        &self,
        mut taken: BTreeMap<&str, Unsettled>,
    ) -> Result<(BTreeMap<String, Object>, Vec<Staged>), RunFailure> {
        let names: BTreeMap<&StorePath, &str> = self
            .outputs
            .iter()
            .map(|(name, path)| (path, name.as_str()))
            .collect();
        let mut mentions = BTreeMap::new();
        for (name, output) in &taken {
            let found = output.found.iter().filter(|_| !self.discards(name));
            mentions.insert(*name, found.filter_map(|path| names.get(path).copied()).collect());
        }
        let order = order::sorted(&mentions).map_err(|circle| self.circle(circle))?;
        let mut finals: BTreeMap<&StorePath, StorePath> = BTreeMap::new();
        let mut objects = BTreeMap::new();
        let mut trees = Vec::new();
        for name in order {
            let (Some(output), Some(scratch)) = (taken.remove(name), self.outputs.get(name)) else {
                continue;
            };
            let (object, tree) = self.settle_one(name, scratch, output, &finals)?;
            finals.insert(scratch, object.path.clone());
            objects.insert(name.to_owned(), object);
            trees.push(tree);
        }
        Ok((objects, trees))
    }

    fn settle_one(
        &self,
        name: &str,
        scratch: &StorePath,
        output: Unsettled,
        finals: &BTreeMap<&StorePath, StorePath>,
    ) -> Result<(Object, Staged), RunFailure> {
        let Some(how) = self.job.drv.outputs.get(name).and_then(Method::of) else {
            return Err(self.refused(name, "its path cannot be computed"));
        };
        let Unsettled {
            mut tree,
            found,
            mut hash,
        } = output;
        let others = || finals.iter().map(|(from, to)| (*from, to));
        if found.iter().any(|path| finals.contains_key(path)) {
            let fresh = Arc::new(Mutex::new(Some(SelfHash::new(how, scratch))));
            tree = self.rewritten(
                name,
                scratch,
                &tree,
                HashRewriter::new(others()),
                Some(watch(&fresh)),
            )?;
            let mut fresh = fresh.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(fresh) = fresh.take() {
                hash = fresh;
            }
        }
        let hashes = self.finish(scratch, hash)?;
        let form = self.job.self_references;
        let ca = ContentAddress {
            method: how.method,
            hash: hashes.of(form),
        };
        let mut references: BTreeSet<StorePath> = if self.discards(name) {
            BTreeSet::new()
        } else {
            found.clone()
        };
        let to_itself = references.remove(scratch);
        references = references
            .into_iter()
            .map(|p| finals.get(&p).cloned().unwrap_or(p))
            .collect();
        let path = self.path(name, &ca, &references, to_itself)?;
        if found.contains(scratch) {
            tree = self.rewritten(name, scratch, &tree, HashRewriter::new([(scratch, &path)]), None)?;
        }
        if to_itself {
            references.insert(path.clone());
        }
        let object = Object {
            path,
            content: tree.hash(),
            nar_size: tree.size(),
            references,
            ca: Some(ca),
            self_references: hashes.mentions_itself().then_some(form),
        };
        Ok((object, tree))
    }

    /// The path of an output with that content address.
    fn path(
        &self,
        name: &str,
        ca: &ContentAddress,
        references: &BTreeSet<StorePath>,
        to_itself: bool,
    ) -> Result<StorePath, RunFailure> {
        let others = !references.is_empty();
        let forbidden = match (ca.method, ca.hash.algo()) {
            (CaMethod::Nar, HashAlgo::Sha256) => None,
            (CaMethod::Text, _) => to_itself.then_some("itself"),
            _ if to_itself => Some("itself"),
            _ => others.then_some("other store paths"),
        };
        if let Some(what) = forbidden {
            let method = ca.method_algo();
            let why = format!(
                "what is hashed as '{method}' must not refer to {what}; you may need unsafeDiscardReferences"
            );
            return Err(self.refused(name, &why));
        }
        let drv_name = self.job.drv_path.derivation_name().unwrap_or_default();
        output_path_name(drv_name, name)
            .and_then(|name| StorePath::make_content_addressed(&name, ca, references, to_itself))
            .map_err(|e| self.refused(name, &e.to_string()))
    }

    fn refused(&self, name: &str, why: &str) -> RunFailure {
        RunFailure::OutputRejected(format!("output '{name}' of '{}': {why}", self.job.drv_path))
    }

    fn rewritten(
        &self,
        name: &str,
        scratch: &StorePath,
        tree: &Staged,
        rewriter: HashRewriter,
        observer: Option<Observer>,
    ) -> Result<Staged, RunFailure> {
        if self.cancel.is_cancelled() {
            return Err(RunFailure::Cancelled);
        }
        self.content
            .rewrite(tree, rewriter, observer)
            .map_err(|e| self.not_ingested(name, scratch, e))
    }

    fn finish(&self, scratch: &StorePath, hash: SelfHash) -> Result<HashesModuloSelf, RunFailure> {
        if hash.flat.as_ref().is_some_and(|flat| !flat.is_flat()) {
            return Err(RunFailure::OutputRejected(format!(
                "output path '{scratch}' should be a non-executable regular file since recursive hashing is not enabled \
                 (one of outputHashMode={{flat,text}} is true)"
            )));
        }
        hash.modulo.finish().map_err(|e| {
            RunFailure::OutputRejected(format!("output '{scratch}' of '{}': {e}", self.job.drv_path))
        })
    }
}

fn watch(hash: &Arc<Mutex<Option<SelfHash>>>) -> Observer {
    let hash = Arc::clone(hash);
    Box::new(move |chunk| {
        if let Some(hash) = hash.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            hash.push(chunk);
        }
    })
}
