//! Trees to make on disk.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Directory(Vec<(Vec<u8>, Made)>),
    File(Vec<u8>),
    Program(Vec<u8>),
    Link(Vec<u8>),
}

impl Made {
    /// A file with so many bytes, which are nowhere the same for a while.
    pub(super) fn file(size: usize) -> Self {
        let noise = (0..size).map(|at| {
            let at = at as u64;
            (at.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17) >> 32) as u8
        });
        Self::File(noise.collect())
    }

    pub(super) fn directory<N: AsRef<[u8]>>(children: impl IntoIterator<Item = (N, Self)>) -> Self {
        let children = children.into_iter();
        Self::Directory(
            children
                .map(|(name, made)| (name.as_ref().to_vec(), made))
                .collect(),
        )
    }

    /// Makes it with modes and times that an image does not show.
    pub(super) fn make(&self, path: &Path) {
        match self {
            Self::Directory(children) => {
                fs::create_dir(path).unwrap();
                for (name, child) in children {
                    child.make(&path.join(OsStr::from_bytes(name)));
                }
            }
            Self::File(data) => fs::write(path, data).unwrap(),
            Self::Program(data) => {
                fs::write(path, data).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            Self::Link(target) => symlink(OsStr::from_bytes(target), path).unwrap(),
        }
    }
}
