//! What goes into an image: names, types and sizes, without the data of files.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use firn_content::WalkProblem;

use super::error::ImageError;

/// One name in the root directory of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// A store path's base name.
    pub name: &'a [u8],
    /// The directory, regular file or symbolic link that it is. Not followed when it is a link.
    pub path: &'a Path,
}

/// The root directory of an image and everything in it, parents before their children and siblings in the order of
/// their names, so that what is in a directory follows it directly.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    /// Sorted by name.
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) nodes: Vec<Node>,
    /// Names and targets of links.
    pub(super) text: Vec<u8>,
}

/// Place of a node in [`Tree::nodes`].
pub(super) type NodeId = u32;

pub(super) const ROOT: NodeId = 0;

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) name: Text,
    /// The root is its own parent.
    pub(super) parent: NodeId,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Directory {
        /// The first node that is not below this one.
        end: NodeId,
        subdirectories: u32,
    },
    Regular {
        executable: bool,
        size: u64,
    },
    Symlink {
        target: Text,
    },
}

/// Some bytes of [`Tree::text`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    start: usize,
    len: u16,
}

impl Text {
    pub(super) const EMPTY: Self = Self { start: 0, len: 0 };

    pub(super) fn len(self) -> usize {
        self.len.into()
    }
}

impl<'a> Tree<'a> {
    /// A tree with nothing but its root; sorts `entries` and checks their names.
    pub(super) fn new(entries: &[Entry<'a>]) -> Result<Self, ImageError> {
        let mut entries = entries.to_vec();
        entries.sort_unstable_by(|a, b| a.name.cmp(b.name));
        for entry in &entries {
            let name = entry.name;
            let length = (1..=255).contains(&name.len());
            if !length || matches!(name, b"." | b"..") || name.iter().any(|b| matches!(b, b'/' | 0)) {
                return Err(ImageError::Name(name.to_vec()));
            }
        }
        for (a, b) in entries.iter().zip(entries.iter().skip(1)) {
            if a.name == b.name {
                return Err(ImageError::Twice(a.name.to_vec()));
            }
        }
        let root = Node {
            name: Text::EMPTY,
            parent: ROOT,
            kind: Kind::Directory {
                end: ROOT + 1,
                subdirectories: 0,
            },
        };
        Ok(Self {
            entries,
            nodes: vec![root],
            text: Vec::new(),
        })
    }

    /// Keeps a name or target; neither is longer than 4095 bytes.
    pub(super) fn keep(&mut self, text: &[u8]) -> Text {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        Text {
            start,
            len: u16::try_from(text.len()).unwrap_or(u16::MAX),
        }
    }

    pub(super) fn text(&self, text: Text) -> &[u8] {
        self.text
            .get(text.start..text.start + text.len())
            .unwrap_or_default()
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(usize::try_from(id).ok()?)
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(id).ok()?)
    }

    /// The nodes with their places.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (ROOT..).zip(&self.nodes)
    }

    /// The nodes directly in a directory, in the order of their names.
    pub(super) fn children(&self, dir: NodeId) -> impl Iterator<Item = (NodeId, &Node)> {
        let end = match self.node(dir) {
            Some(Node {
                kind: Kind::Directory { end, .. },
                ..
            }) => *end,
            _ => dir,
        };
        let mut next = dir + 1;
        std::iter::from_fn(move || {
            let id = next;
            let node = self.node(id).filter(|_| id < end)?;
            next = match node.kind {
                Kind::Directory { end, .. } => end,
                _ => id + 1,
            };
            Some((id, node))
        })
    }

    /// Where an entry's tree is on disk.
    pub(super) fn entry_path(&self, name: &[u8]) -> &'a Path {
        let found = self.entries.binary_search_by(|entry| entry.name.cmp(name));
        found
            .ok()
            .and_then(|at| self.entries.get(at))
            .map_or(Path::new(""), |entry| entry.path)
    }

    /// Where a node is on disk, for errors.
    pub(super) fn path(&self, id: NodeId) -> PathBuf {
        let mut names = Vec::new();
        let mut at = id;
        while let Some(node) = self.node(at).filter(|_| at != ROOT) {
            names.push(self.text(node.name));
            at = node.parent;
        }
        let mut path = names
            .pop()
            .map(|name| self.entry_path(name).to_path_buf())
            .unwrap_or_default();
        path.extend(names.iter().rev().map(|name| OsStr::from_bytes(name)));
        path
    }

    pub(super) fn problem(&self, id: NodeId, problem: WalkProblem) -> ImageError {
        ImageError::Tree {
            path: self.path(id),
            problem,
        }
    }
}
