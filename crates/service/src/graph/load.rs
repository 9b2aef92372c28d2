//! The graph of some derivations, out of an account's view.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use firn_core::View;
use firn_nix::StorePath;
use firn_nix::derivation::DerivationKind;
use firn_protocol::StoreError;
use foldhash::quality::RandomState;

use super::node::{Node, NodeError};
use crate::AccountStore;
use crate::ports::Ports;
use crate::store::MAX_DERIVATION;

/// Edges of the nodes that are remembered, of all accounts together, where a node counts as some itself; 64 bytes each.
const MAX_REMEMBERED: usize = 1 << 21;

/// Most references of all that is in a graph together. Nixpkgs as a whole has a tenth of that.
const MAX_EDGES: usize = 1 << 22;

type Table<T> = HashMap<StorePath, T, RandomState>;

/// Nodes that were read before. They are the same for every account; which of them an account may use is its view's to say.
#[derive(Debug, Default)]
pub(crate) struct Nodes(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    nodes: Table<Arc<Node>>,
    edges: usize,
}

impl Nodes {
    pub(crate) fn get(&self, path: &StorePath) -> Option<Arc<Node>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.nodes.get(path).cloned()
    }

    fn note(&self, node: &Arc<Node>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.edges > MAX_REMEMBERED {
            *known = Remembered::default();
        }
        if known.nodes.insert(node.path.clone(), Arc::clone(node)).is_none() {
            known.edges += node.weight();
        }
    }
}

/// Derivations with all that they are built from; inputs stand before what needs them.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: Vec<Arc<Node>>,
    index: Table<usize>,
    /// By node: whether everything that it refers to, down to the leaves, is content-addressed and checked, as the account has it, and its
    /// outputs' paths follow from that.
    sound: Vec<bool>,
    /// What is wrong with the derivations that are not in the graph.
    broken: Table<NodeError>,
}

/// A `.drv` that is to be read.
struct Unread {
    path: StorePath,
    file: PathBuf,
    /// Whether its own content address was checked.
    checked: bool,
    /// And those of its whole closure.
    sound: bool,
}

impl Graph {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().map(Arc::as_ref).enumerate()
    }

    pub(crate) fn node(&self, number: usize) -> Option<&Arc<Node>> {
        self.nodes.get(number)
    }

    pub(crate) fn find(&self, path: &StorePath) -> Option<usize> {
        self.index.get(path).copied()
    }

    /// Whether all that a node is built from, down to the leaves, is what its path says.
    pub(crate) fn is_sound(&self, number: usize) -> bool {
        self.sound.get(number).copied().unwrap_or(false)
    }

    /// The numbers of what a node is built from, with the numbers of the outputs that it uses.
    pub(crate) fn inputs<'g>(&'g self, node: &'g Node) -> impl Iterator<Item = (usize, Vec<usize>)> + 'g {
        let numbers = |outputs: &[u16]| outputs.iter().map(|output| usize::from(*output)).collect();
        let inputs = node.inputs.iter();
        inputs.filter_map(move |(path, outputs)| Some((self.find(path)?, numbers(outputs))))
    }

    fn add(&mut self, node: Arc<Node>, sound: bool) {
        let known = matches!(node.kind, DerivationKind::InputAddressed | DerivationKind::Fixed);
        let pinned = node.pinned;
        let sound_input =
            |(path, _): &(StorePath, Box<[u16]>)| self.find(path).is_some_and(|n| self.is_sound(n));
        let below = node.inputs.iter().all(sound_input);
        self.index.insert(node.path.clone(), self.nodes.len());
        self.nodes.push(node);
        self.sound.push(sound && known && below && pinned);
    }

    /// Why a derivation is not in the graph.
    pub(crate) fn error(&self, path: &StorePath) -> Option<&NodeError> {
        self.broken.get(path)
    }

    /// Reads what is not known, inputs first. A text that is not what its path says spoils only what is built from it.
    fn read(unread: Vec<Unread>, nodes: &Nodes, stop: &AtomicBool) -> Self {
        let mut graph = Self::default();
        for Unread {
            path,
            file,
            checked,
            sound,
        } in unread
        {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let node = match nodes.get(&path).filter(|_| checked) {
                Some(node) => Ok(node),
                None => graph.read_one(&path, &file),
            };
            match node {
                Ok(node) => {
                    nodes.note(&node);
                    graph.add(node, sound);
                }
                Err(error) => {
                    graph.broken.insert(path, error);
                }
            }
        }
        graph
    }

    fn read_one(&self, path: &StorePath, file: &Path) -> Result<Arc<Node>, NodeError> {
        let unreadable = |why: String| NodeError::Unreadable {
            path: path.clone(),
            why,
        };
        let meta = file.symlink_metadata().map_err(|e| unreadable(e.to_string()))?;
        if !meta.is_file() || meta.len() > MAX_DERIVATION {
            return Err(unreadable(format!(
                "it is not a file of at most {MAX_DERIVATION} bytes"
            )));
        }
        let text = std::fs::read(file).map_err(|e| unreadable(e.to_string()))?;
        let input = |path: &StorePath| self.find(path).and_then(|n| self.node(n)).map(Arc::as_ref);
        let read = Node::read(path, &text, input);
        // The reason is further down, where there is one.
        if let Err(NodeError::Hash { .. }) = &read
            && let Ok(drv) = firn_nix::Derivation::parse(&text)
            && let Some(error) = drv.input_drvs.keys().find_map(|input| self.broken.get(input))
        {
            return Err(error.clone());
        }
        read.map(Arc::new)
    }
}

impl<P: Ports> AccountStore<P> {
    /// The graph of these derivations, all of which must be valid: then everything that they are built from is, but for other derivations'
    /// outputs.
    pub(crate) async fn graph(&self, roots: &BTreeSet<StorePath>) -> Result<Graph, StoreError> {
        let terms = self.terms().await?;
        let view = self.house.closure(&terms, roots).await?;
        let (house, wanted) = (Arc::clone(&self.house), roots.clone());
        // Each is work for a processor, and memory.
        let turn = self.house.reading.turn().await;
        let stop = StopOnDrop(Arc::default());
        let stopped = Arc::clone(&stop.0);
        let read = tokio::task::spawn_blocking(move || {
            let edges: usize = view.objects().map(|object| object.references.len()).sum();
            if edges > MAX_EDGES {
                return Err(StoreError::new(format!(
                    "the graph has {edges} references, and may have {MAX_EDGES}"
                )));
            }
            let unread = in_order(&wanted, &view, |hash| house.content.tree(hash));
            drop(view);
            Ok(Graph::read(unread, &house.nodes, &stopped))
        });
        let read = read.await;
        drop(turn);
        read.map_err(|error| {
            tracing::error!(%error, "reading a graph has failed");
            StoreError::new("internal error: the graph cannot be read; the operator's log has the details")
        })?
    }
}

/// Ends reading when nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// All derivations of a closed view that are below these, references first.
fn in_order(
    roots: &BTreeSet<StorePath>,
    view: &View,
    file: impl Fn(&firn_nix::NarHash) -> PathBuf,
) -> Vec<Unread> {
    // Whether the whole closure is content-addressed and checked.
    let mut seen: Table<bool> = HashMap::default();
    let mut order = Vec::new();
    let mut stack: Vec<(StorePath, bool)> = roots.iter().rev().map(|root| (root.clone(), false)).collect();
    while let Some((path, opened)) = stack.pop() {
        let Some(choice) = view.get(&path) else { continue };
        let references = || choice.object().references.iter().filter(|r| **r != path);
        if opened {
            let checked = choice.object().is_addressed();
            let sound =
                choice.object().is_pinned() && references().all(|r| seen.get(r).copied().unwrap_or(false));
            seen.insert(path.clone(), sound);
            if path.is_derivation() {
                order.push(Unread {
                    file: file(&choice.object().content),
                    checked,
                    sound,
                    path,
                });
            }
        } else if !seen.contains_key(&path) {
            seen.insert(path.clone(), false);
            let unseen = references().filter(|r| !seen.contains_key(*r)).cloned();
            let unseen: Vec<StorePath> = unseen.collect();
            stack.push((path, true));
            stack.extend(unseen.into_iter().map(|r| (r, false)));
        }
    }
    order
}
