//! The data of a directory: blocks of entries followed by their names, all in the order of the names.

use super::format::{BLOCK, DIRENT, FileKind, dirent};
use super::layout::Layout;
use super::tree::{Kind, NodeId, Tree};

const BLOCK_SIZE: usize = BLOCK as usize;

/// What a directory lists, itself and its parent included, sorted.
fn entries<'t>(tree: &'t Tree<'_>, dir: NodeId) -> Vec<(&'t [u8], NodeId)> {
    let mut entries: Vec<(&[u8], NodeId)> = tree
        .children(dir)
        .map(|(id, node)| (tree.text(node.name), id))
        .collect();
    let parent = tree.node(dir).map_or(dir, |node| node.parent);
    for (name, id) in [(&b"."[..], dir), (&b".."[..], parent)] {
        let at = entries.partition_point(|(other, _)| *other < name);
        entries.insert(at, (name, id));
    }
    entries
}

/// How many of the first entries fit into one block, and how much of it they fill.
fn fitting(entries: &[(&[u8], NodeId)]) -> (usize, usize) {
    let mut used = 0;
    for (count, (name, _)) in entries.iter().enumerate() {
        let more = DIRENT + name.len();
        if used + more > BLOCK_SIZE {
            return (count, used);
        }
        used += more;
    }
    (entries.len(), used)
}

/// Size of a directory's data.
pub(super) fn size(tree: &Tree<'_>, dir: NodeId) -> u64 {
    let entries = entries(tree, dir);
    let mut rest = entries.as_slice();
    let mut size = 0;
    loop {
        let (count, used) = fitting(rest);
        rest = rest.get(count..).unwrap_or_default();
        if rest.is_empty() {
            return size + used as u64;
        }
        size += BLOCK;
    }
}

/// A directory's data.
pub(super) fn data(tree: &Tree<'_>, layout: &Layout, dir: NodeId) -> Vec<u8> {
    let entries = entries(tree, dir);
    let mut rest = entries.as_slice();
    let mut data = Vec::new();
    while !rest.is_empty() {
        data.resize(data.len().next_multiple_of(BLOCK_SIZE), 0);
        let (count, _) = fitting(rest);
        let (block, more) = rest.split_at(count);
        let mut name_at = count * DIRENT;
        for (name, id) in block {
            let nid = layout.nid(*id);
            let at = u16::try_from(name_at).unwrap_or(u16::MAX);
            data.extend_from_slice(&dirent(nid, at, kind(tree, *id)));
            name_at += name.len();
        }
        for (name, _) in block {
            data.extend_from_slice(name);
        }
        rest = more;
    }
    data
}

fn kind(tree: &Tree<'_>, id: NodeId) -> FileKind {
    tree.node(id).map_or(FileKind::Directory, |node| match node.kind {
        Kind::Directory { .. } => FileKind::Directory,
        Kind::Regular { executable, .. } => FileKind::Regular { executable },
        Kind::Symlink { .. } => FileKind::Symlink,
    })
}
