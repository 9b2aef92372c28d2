//! What a build is told about the closure of its inputs (`exportReferencesGraph`).

use std::collections::{BTreeMap, BTreeSet};

use crate::{PathInfo, StorePath};

/// Why a graph cannot be described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A derivation may only describe what it depends on.
    #[error(
        "cannot export references of path '{0}' because it is not in the input closure of the derivation"
    )]
    NotAnInput(StorePath),
    /// Something in the closure is not known.
    #[error("path '{0}' is not valid")]
    Invalid(StorePath),
}

/// The closure of `roots` and, for every derivation in it, the closure of that one's outputs, which `outputs_of` states.
///
/// # Errors
/// [`GraphError`] names the path that is no input or of which `infos` has nothing.
pub fn exported(
    roots: &BTreeSet<StorePath>,
    inputs: &BTreeSet<StorePath>,
    infos: &BTreeMap<StorePath, PathInfo>,
    outputs_of: impl Fn(&StorePath) -> BTreeSet<StorePath>,
) -> Result<BTreeSet<StorePath>, GraphError> {
    if let Some(root) = roots.iter().find(|r| !inputs.contains(*r)) {
        return Err(GraphError::NotAnInput(root.clone()));
    }
    let mut paths = BTreeSet::new();
    close(&mut paths, roots.clone(), infos)?;
    let outputs = paths
        .iter()
        .filter(|p| p.is_derivation())
        .flat_map(outputs_of)
        .collect();
    close(&mut paths, outputs, infos)?;
    Ok(paths)
}

/// Bytes of the NARs of the closure of `path`.
///
/// # Errors
/// [`GraphError::Invalid`] names a path of which `infos` has nothing.
pub fn closure_size(path: &StorePath, infos: &BTreeMap<StorePath, PathInfo>) -> Result<u64, GraphError> {
    let mut paths = BTreeSet::new();
    close(&mut paths, [path.clone()].into(), infos)?;
    let sizes = paths.iter().filter_map(|p| infos.get(p)).map(|i| i.nar_size);
    Ok(sizes.fold(0, u64::saturating_add))
}

/// [`closure_size`] of each of these paths. Nearly all of a closure is visited once per path, hence by number instead of by name.
///
/// # Errors
/// [`GraphError::Invalid`] names a path of which `infos` has nothing.
pub fn closure_sizes(
    paths: &BTreeSet<StorePath>,
    infos: &BTreeMap<StorePath, PathInfo>,
) -> Result<BTreeMap<StorePath, u64>, GraphError> {
    let mut closed = BTreeSet::new();
    close(&mut closed, paths.clone(), infos)?;
    let numbers: BTreeMap<&StorePath, usize> = closed.iter().zip(0..).collect();
    let mut nodes = Vec::with_capacity(closed.len());
    for path in &closed {
        let info = known(path, infos)?;
        let references: Vec<usize> = info
            .references
            .iter()
            .filter_map(|r| numbers.get(r).copied())
            .collect();
        nodes.push((info.nar_size, references));
    }
    // By node: the last root that it was visited for.
    let mut visited = vec![usize::MAX; nodes.len()];
    let mut sizes = BTreeMap::new();
    for path in paths {
        let Some(&root) = numbers.get(path) else { continue };
        let (mut size, mut todo) = (0u64, vec![root]);
        while let Some(number) = todo.pop() {
            let (Some(mark), Some((bytes, references))) = (visited.get_mut(number), nodes.get(number)) else {
                continue;
            };
            if std::mem::replace(mark, root) != root {
                size = size.saturating_add(*bytes);
                todo.extend(references);
            }
        }
        sizes.insert(path.clone(), size);
    }
    Ok(sizes)
}

/// The text of a graph file: per path, sorted, a line each for the path, its deriver (left empty), the number of its references
/// and each reference.
///
/// # Errors
/// [`GraphError::Invalid`] names a path of which `infos` has nothing.
pub fn registration(
    paths: &BTreeSet<StorePath>,
    infos: &BTreeMap<StorePath, PathInfo>,
) -> Result<String, GraphError> {
    let mut text = String::new();
    for path in paths {
        let info = known(path, infos)?;
        text.push_str(&format!("{path}\n\n{}\n", info.references.len()));
        for reference in &info.references {
            text.push_str(&format!("{reference}\n"));
        }
    }
    Ok(text)
}

pub(crate) fn known<'a>(
    path: &StorePath,
    infos: &'a BTreeMap<StorePath, PathInfo>,
) -> Result<&'a PathInfo, GraphError> {
    infos.get(path).ok_or_else(|| GraphError::Invalid(path.clone()))
}

fn close(
    paths: &mut BTreeSet<StorePath>,
    roots: BTreeSet<StorePath>,
    infos: &BTreeMap<StorePath, PathInfo>,
) -> Result<(), GraphError> {
    let mut todo: Vec<StorePath> = roots.into_iter().collect();
    while let Some(path) = todo.pop() {
        if paths.contains(&path) {
            continue;
        }
        todo.extend(known(&path, infos)?.references.iter().cloned());
        paths.insert(path);
    }
    Ok(())
}
