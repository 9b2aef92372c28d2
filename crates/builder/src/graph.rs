//! `exportReferencesGraph` and structured attributes: what a build is told about its inputs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use firn_core::Object;
use firn_nix::graph::{GraphError, exported, registration};
use firn_nix::structured_attrs::{AttrsFiles, attrs_files};
use firn_nix::{Derivation, PathInfo, StorePath};
use firn_service::ports::RunFailure;

use crate::environment::Request;

/// Gives the bytes of an input that is one file.
pub type ReadFile<'a> = dyn Fn(&Object) -> Result<Vec<u8>, RunFailure> + 'a;

/// The inputs, as the functions for graphs want them.
struct Inputs<'a> {
    request: &'a Request<'a>,
    read: &'a ReadFile<'a>,
    objects: BTreeMap<&'a StorePath, &'a Object>,
    infos: BTreeMap<StorePath, PathInfo>,
}

/// By file name: the text of each graph that a derivation without structured attributes asks for.
pub(crate) fn registration_files(
    request: &Request<'_>,
    read: &ReadFile<'_>,
) -> Result<BTreeMap<String, Vec<u8>>, RunFailure> {
    let inputs = Inputs::of(request, read);
    inputs
        .graphs()?
        .into_iter()
        .map(|(file, paths)| {
            let text = registration(&paths, &inputs.infos).map_err(|e| inputs.refused(&e))?;
            Ok((file, text.into_bytes()))
        })
        .collect()
}

/// The files of structured attributes; none for a derivation without them.
pub(crate) fn structured_attrs(
    request: &Request<'_>,
    read: &ReadFile<'_>,
) -> Result<Option<AttrsFiles>, RunFailure> {
    let Some(attributes) = &request.options.structured else {
        return Ok(None);
    };
    let inputs = Inputs::of(request, read);
    let files = attrs_files(attributes, request.outputs, &inputs.graphs()?, &inputs.infos);
    files.map(Some).map_err(|e| inputs.refused(&e))
}

impl<'a> Inputs<'a> {
    fn of(request: &'a Request<'a>, read: &'a ReadFile<'a>) -> Self {
        // Most derivations ask for no graph, and closures are large.
        let wanted = !request.options.export_references_graph.is_empty();
        let objects = || request.inputs.objects().filter(|_| wanted);
        Self {
            request,
            read,
            objects: objects().map(|object| (&object.path, object)).collect(),
            infos: objects()
                .map(|object| (object.path.clone(), info(object)))
                .collect(),
        }
    }

    /// The paths of each graph.
    fn graphs(&self) -> Result<BTreeMap<String, BTreeSet<StorePath>>, RunFailure> {
        let inputs: BTreeSet<StorePath> = self.infos.keys().cloned().collect();
        let unreadable = RefCell::new(None);
        let outputs_of = |path: &StorePath| {
            self.outputs_of(path).unwrap_or_else(|failure| {
                unreadable.replace(Some(failure));
                BTreeSet::new()
            })
        };
        let graphs = self
            .request
            .options
            .export_references_graph
            .iter()
            .map(|(name, roots)| {
                let paths =
                    exported(roots, &inputs, &self.infos, outputs_of).map_err(|e| self.refused(&e))?;
                Ok((name.clone(), paths))
            });
        let graphs = graphs.collect::<Result<_, RunFailure>>()?;
        match unreadable.into_inner() {
            Some(failure) => Err(failure),
            None => Ok(graphs),
        }
    }

    /// The output paths of a derivation that is an input.
    fn outputs_of(&self, path: &StorePath) -> Result<BTreeSet<StorePath>, RunFailure> {
        let Some(object) = self.objects.get(path) else {
            return Ok(BTreeSet::new());
        };
        let refused = |why: String| RunFailure::InputRejected(format!("input '{path}': {why}"));
        let drv = Derivation::parse(&(self.read)(object)?).map_err(|e| refused(e.to_string()))?;
        let name = path.derivation_name().unwrap_or_default();
        let path = |(output, of): (&String, &firn_nix::DerivationOutput)| {
            let path = of.known_path(name, output).map_err(|e| refused(e.to_string()))?;
            path.ok_or_else(|| refused(format!("the path of its output '{output}' is not known")))
        };
        drv.basic.outputs.iter().map(path).collect()
    }

    fn refused(&self, error: &GraphError) -> RunFailure {
        RunFailure::InputRejected(format!("derivation '{}': {error}", self.request.drv_path))
    }
}

fn info(object: &Object) -> PathInfo {
    PathInfo {
        path: object.path.clone(),
        deriver: None,
        nar_hash: object.content,
        references: object.references.clone(),
        registration_time: 0,
        nar_size: object.nar_size,
        ultimate: false,
        signatures: BTreeSet::new(),
        ca: object.ca,
    }
}
