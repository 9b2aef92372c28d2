//! Writing an image whose layout is known.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;

use firn_content::WalkProblem;
use rustix::fs::{CWD, FileType, OFlags};
use rustix::io::Errno;

use super::directory;
use super::error::ImageError;
use super::format::{BLOCK, CHECKSUM_OFFSET, SLOT, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, Superblock, checksum};
use super::layout::{Layout, Place};
use super::output::{CopyError, Output};
use super::scan::open;
use super::tree::{Kind, Node, NodeId, ROOT, Tree};

/// Writes an image over whatever is in `out`.
pub(super) fn emit(tree: &Tree<'_>, layout: &Layout, out: &File) -> Result<(), ImageError> {
    out.set_len(0)
        .and_then(|()| out.set_len(layout.size()))
        .map_err(ImageError::Output)?;
    let mut emit = Emit {
        tree,
        layout,
        metadata: Output::new(out, 0),
        data: Output::new(out, layout.metadata()),
        open: Vec::new(),
    };
    emit.superblock().map_err(ImageError::Output)?;
    for (id, node) in tree.numbered() {
        if let Some(place) = layout.place(id) {
            emit.node(id, node, place)?;
        }
    }
    emit.metadata.flush().map_err(ImageError::Output)?;
    emit.data.flush().map_err(ImageError::Output)?;
    seal(out).map_err(ImageError::Output)
}

/// Puts the checksum into the superblock.
fn seal(out: &File) -> io::Result<()> {
    let mut block = [0; BLOCK as usize - SUPERBLOCK_OFFSET];
    out.read_exact_at(&mut block, SUPERBLOCK_OFFSET as u64)?;
    let at = (SUPERBLOCK_OFFSET + CHECKSUM_OFFSET) as u64;
    out.write_all_at(&checksum(&block).to_le_bytes(), at)
}

struct Emit<'a> {
    tree: &'a Tree<'a>,
    layout: &'a Layout,
    /// The superblock and the inodes.
    metadata: Output<'a>,
    /// The blocks of data.
    data: Output<'a>,
    /// The directories on the way to the current node, and where each ends.
    open: Vec<(OwnedFd, NodeId)>,
}

impl Emit<'_> {
    fn superblock(&mut self) -> io::Result<()> {
        self.metadata.put(&[0; SUPERBLOCK_OFFSET])?;
        let superblock = Superblock {
            root: self.layout.root(),
            inodes: self.tree.nodes.len() as u64,
            blocks: self.layout.blocks,
        };
        let bytes: [u8; SUPERBLOCK_SIZE] = superblock.bytes();
        self.metadata.put(&bytes)
    }

    fn node(&mut self, id: NodeId, node: &Node, place: Place) -> Result<(), ImageError> {
        while self.open.pop_if(|(_, end)| *end <= id).is_some() {}
        self.inode(id, node, place).map_err(ImageError::Output)?;
        self.data
            .zeros_to(self.layout.data(place))
            .map_err(ImageError::Output)?;
        let written = match node.kind {
            Kind::Directory { end, .. } => {
                if id != ROOT {
                    let dir = self.open(node, OFlags::DIRECTORY);
                    self.open.push((dir.map_err(|errno| self.gone(id, errno))?, end));
                }
                let data = directory::data(self.tree, self.layout, id);
                self.put(&data, place)
            }
            Kind::Symlink { target } => self.put(self.tree.text(target), place),
            Kind::Regular { executable, size } => {
                if size == 0 {
                    return Ok(());
                }
                return self.file(id, node, place, executable);
            }
        };
        written.map_err(ImageError::Output)
    }

    fn inode(&mut self, id: NodeId, node: &Node, place: Place) -> io::Result<()> {
        self.metadata.zeros_to(u64::from(place.nid) * SLOT)?;
        let (bytes, len) = self.layout.inode(id, node, place).bytes();
        self.metadata.put(bytes.get(..len).unwrap_or_default())
    }

    /// Data from memory.
    fn put(&mut self, data: &[u8], place: Place) -> io::Result<()> {
        let (blocks, _) = place.parts();
        let at = usize::try_from(blocks).unwrap_or(usize::MAX);
        let (blocks, tail) = data.split_at_checked(at).unwrap_or((data, &[]));
        self.data.put(blocks)?;
        self.metadata.put(tail)
    }

    fn file(&mut self, id: NodeId, node: &Node, place: Place, executable: bool) -> Result<(), ImageError> {
        let file = self
            .open(node, OFlags::empty())
            .map_err(|errno| self.gone(id, errno))?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.gone(id, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
            || u64::try_from(stat.st_size) != Ok(place.size)
            || (stat.st_mode & 0o100 != 0) != executable
        {
            return Err(self.tree.problem(id, WalkProblem::Changed));
        }
        let (blocks, tail) = place.parts();
        self.data
            .copy(file.as_fd(), 0, blocks)
            .and_then(|()| self.metadata.copy(file.as_fd(), blocks, tail))
            .map_err(|error| match error {
                CopyError::Source(problem) => self.tree.problem(id, problem),
                CopyError::Io(source) => ImageError::Copy {
                    path: self.tree.path(id),
                    source,
                },
            })
    }

    fn open(&self, node: &Node, flags: OFlags) -> Result<OwnedFd, Errno> {
        let name = self.tree.text(node.name);
        match self.open.last() {
            Some((dir, _)) => open(dir.as_fd(), name, flags),
            None => open(CWD, self.tree.entry_path(name).as_os_str().as_bytes(), flags),
        }
    }

    fn gone(&self, id: NodeId, errno: Errno) -> ImageError {
        self.tree.problem(
            id,
            match errno {
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO => WalkProblem::Changed,
                errno => WalkProblem::Io(errno),
            },
        )
    }
}
