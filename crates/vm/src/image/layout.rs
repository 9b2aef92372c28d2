//! Where everything is in an image: the superblock, all inodes with the ends of their data, then the blocks of data.

use super::directory;
use super::error::ImageError;
use super::format::{BLOCK, DataLayout, FileKind, Inode, SLOT, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE};
use super::tree::{Kind, Node, NodeId, ROOT, Tree};

/// Ends of data up to this size are always kept with their inode, larger ones only where the block has room anyway:
/// neither wastes more than half a block.
const SMALL: u64 = BLOCK / 2;

const FIRST_INODE: u64 = (SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE) as u64;

/// Where everything is in an image.
#[derive(Debug)]
pub(super) struct Layout {
    /// Of each node.
    places: Vec<Place>,
    /// Blocks of superblock and inodes, after which the data begins.
    metadata_blocks: u32,
    /// Blocks of the whole image.
    pub(super) blocks: u32,
}

/// Where one node is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Number of the slot where its inode is.
    pub(super) nid: u32,
    pub(super) layout: DataLayout,
    /// First block of data, counted from where the data begins.
    block: u32,
    /// Bytes of data.
    pub(super) size: u64,
}

impl Place {
    /// Bytes of data that are in blocks of their own, and bytes that are with the inode.
    pub(super) fn parts(self) -> (u64, u64) {
        match self.layout {
            DataLayout::Plain => (self.size, 0),
            DataLayout::Inline => (self.size - self.size % BLOCK, self.size % BLOCK),
        }
    }
}

impl Layout {
    pub(super) fn new(tree: &Tree<'_>) -> Result<Self, ImageError> {
        let mut places = Vec::with_capacity(tree.nodes.len());
        let mut position = FIRST_INODE;
        let mut data_blocks: u64 = 0;
        for (id, node) in tree.numbered() {
            let size = match node.kind {
                Kind::Directory { .. } => directory::size(tree, id),
                Kind::Regular { size, .. } => size,
                Kind::Symlink { target } => target.len() as u64,
            };
            let inode = Inode::len(size, links(node));
            let tail = size % BLOCK;
            let room = BLOCK - position % BLOCK;
            let inline = tail > 0 && (inode + tail <= room || tail <= SMALL);
            let together = if inline { inode + tail } else { inode };
            if together > room {
                position += room;
            }
            places.push(Place {
                nid: address(position / SLOT, position)?,
                layout: if inline {
                    DataLayout::Inline
                } else {
                    DataLayout::Plain
                },
                block: address(data_blocks, data_blocks.saturating_mul(BLOCK))?,
                size,
            });
            position = (position + together).next_multiple_of(SLOT);
            data_blocks += if inline {
                size / BLOCK
            } else {
                size.div_ceil(BLOCK)
            };
        }
        let metadata_blocks = position.div_ceil(BLOCK);
        let blocks = metadata_blocks.saturating_add(data_blocks);
        Ok(Self {
            places,
            metadata_blocks: address(metadata_blocks, position)?,
            blocks: address(blocks, blocks.saturating_mul(BLOCK))?,
        })
    }

    /// Bytes of the whole image.
    pub(super) fn size(&self) -> u64 {
        u64::from(self.blocks) * BLOCK
    }

    /// Bytes of superblock and inodes.
    pub(super) fn metadata(&self) -> u64 {
        u64::from(self.metadata_blocks) * BLOCK
    }

    /// Where a node's blocks of data begin.
    pub(super) fn data(&self, place: Place) -> u64 {
        self.metadata() + u64::from(place.block) * BLOCK
    }

    pub(super) fn place(&self, id: NodeId) -> Option<Place> {
        self.places.get(usize::try_from(id).ok()?).copied()
    }

    pub(super) fn nid(&self, id: NodeId) -> u64 {
        self.place(id).map_or(0, |place| place.nid.into())
    }

    /// The root's number; it is the first inode and so always small.
    pub(super) fn root(&self) -> u16 {
        u16::try_from(self.nid(ROOT)).unwrap_or(u16::MAX)
    }

    pub(super) fn inode(&self, id: NodeId, node: &Node, place: Place) -> Inode {
        Inode {
            kind: match node.kind {
                Kind::Directory { .. } => FileKind::Directory,
                Kind::Regular { executable, .. } => FileKind::Regular { executable },
                Kind::Symlink { .. } => FileKind::Symlink,
            },
            layout: place.layout,
            size: place.size,
            links: links(node),
            block: self.metadata_blocks + place.block,
            number: id + 1,
        }
    }
}

/// As elsewhere, a directory is linked to by its name, by itself and by its subdirectories.
fn links(node: &Node) -> u32 {
    match node.kind {
        Kind::Directory { subdirectories, .. } => subdirectories.saturating_add(2),
        _ => 1,
    }
}

fn address(value: u64, bytes: u64) -> Result<u32, ImageError> {
    u32::try_from(value).map_err(|_| ImageError::TooLarge { bytes })
}
