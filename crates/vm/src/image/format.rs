//! EROFS on disk: the uncompressed part of it, as Linux 5.4 and later read it. Everything is little-endian.
//!
//! Source: Linux, Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h (which is dual-licensed) for the fields.

/// Bytes of a block. Linux before 6.4 mounts only images whose blocks are its pages.
pub(super) const BLOCK: u64 = 4096;
/// The same, as a power of two.
const BLOCK_BITS: u8 = 12;
/// Where the superblock is; before it, the format leaves room for a boot sector.
pub(super) const SUPERBLOCK_OFFSET: usize = 1024;
/// Bytes of a superblock.
pub(super) const SUPERBLOCK_SIZE: usize = 128;
/// Where the checksum is in the superblock.
pub(super) const CHECKSUM_OFFSET: usize = 4;
/// Inodes begin at multiples of this, and a node's number is which one.
pub(super) const SLOT: u64 = 32;
/// Bytes of a directory entry without its name.
pub(super) const DIRENT: usize = 12;

const MAGIC: u32 = 0xE0F5_E1E2;
/// The superblock has a checksum; modification times are those of the files.
const COMPATIBLE_FEATURES: u32 = 0x1 | 0x2;
/// Every file of the store was changed at this time last.
const TIME: u64 = 1;
/// Any constant: one image is not to be told from another by it.
const UUID: u128 = 0x6669_726e_2d69_8000_8000_0000_0000_0001;

/// What the superblock says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Superblock {
    pub(super) root: u16,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
}

impl Superblock {
    /// The superblock, without its checksum.
    pub(super) fn bytes(self) -> [u8; SUPERBLOCK_SIZE] {
        let mut out = Fields::<SUPERBLOCK_SIZE>::default();
        out.u32(0, MAGIC);
        out.u32(8, COMPATIBLE_FEATURES);
        out.put(12, &[BLOCK_BITS]);
        out.u16(14, self.root);
        out.u64(16, self.inodes);
        out.u64(24, TIME);
        out.u32(36, self.blocks);
        // Metadata begins in block 0 (40..44), there are no extended attributes (44..48), no incompatible features.
        out.put(48, &UUID.to_be_bytes());
        out.0
    }
}

/// The checksum of a superblock: CRC-32C, not inverted at the end, from the superblock to the end of its block, with
/// zeros where the checksum will be.
pub(super) fn checksum(block: &[u8]) -> u32 {
    block.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

/// Where a node's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// All in blocks of its own.
    Plain,
    /// The part that does not fill a block follows the inode, in the same block as the inode.
    Inline,
}

/// The types of a directory entry and of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Directory,
    Regular { executable: bool },
    Symlink,
}

impl FileKind {
    fn mode(self) -> u16 {
        match self {
            Self::Directory => 0o040_555,
            Self::Regular { executable: false } => 0o100_444,
            Self::Regular { executable: true } => 0o100_555,
            Self::Symlink => 0o120_777,
        }
    }

    pub(super) fn dirent_type(self) -> u8 {
        match self {
            Self::Regular { .. } => 1,
            Self::Directory => 2,
            Self::Symlink => 7,
        }
    }
}

/// What an inode says. Everything belongs to user 0 and group 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    pub(super) kind: FileKind,
    pub(super) layout: DataLayout,
    pub(super) size: u64,
    pub(super) links: u32,
    /// First block of its data.
    pub(super) block: u32,
    /// The number that `stat` shows to 32-bit programs.
    pub(super) number: u32,
}

impl Inode {
    /// 32 when everything fits into a compact inode, which takes its time from the superblock; else 64.
    pub(super) fn len(size: u64, links: u32) -> u64 {
        if u32::try_from(size).is_ok() && u16::try_from(links).is_ok() {
            32
        } else {
            64
        }
    }

    /// The inode; only as much is used of it as [`Inode::len`] says.
    pub(super) fn bytes(self) -> ([u8; 64], usize) {
        let mut out = Fields::<64>::default();
        let layout = match self.layout {
            DataLayout::Plain => 0,
            DataLayout::Inline => 2 << 1,
        };
        out.u16(4, self.kind.mode());
        out.u32(16, self.block);
        out.u32(20, self.number);
        if let (32, Ok(size), Ok(links)) = (
            Self::len(self.size, self.links),
            u32::try_from(self.size),
            u16::try_from(self.links),
        ) {
            out.u16(0, layout);
            out.u16(6, links);
            out.u32(8, size);
            (out.0, 32)
        } else {
            out.u16(0, layout | 1);
            out.u64(8, self.size);
            out.u64(32, TIME);
            out.u32(44, self.links);
            (out.0, 64)
        }
    }
}

/// A directory entry without its name, which is at `name_at` in the entry's block.
pub(super) fn dirent(nid: u64, name_at: u16, kind: FileKind) -> [u8; DIRENT] {
    let mut out = Fields::<DIRENT>::default();
    out.u64(0, nid);
    out.u16(8, name_at);
    out.put(10, &[kind.dirent_type()]);
    out.0
}

struct Fields<const N: usize>([u8; N]);

impl<const N: usize> Default for Fields<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Fields<N> {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.0.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}
