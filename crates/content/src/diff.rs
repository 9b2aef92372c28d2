//! How two contents differ, file by file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use firn_nix::NarHash;

use crate::store::ContentStore;

/// Bytes that are compared at once.
const CHUNK: usize = 128 * 1024;

/// Deepest folder that is compared; what lies below counts as equal. NARs that are taken in are not deeper.
const MAX_DEPTH: usize = 4096;

/// What is different at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the first has it.
    OnlyFirst,
    /// Only the second has it.
    OnlySecond,
    /// A file, a folder or a link in one is something else in the other.
    Kind,
    /// Executable in one and not in the other.
    Executable {
        /// In the first.
        first: bool,
    },
    /// Links to different places.
    Target {
        /// Where the first goes. Bytes, as file names are.
        first: Vec<u8>,
        /// Where the second goes.
        second: Vec<u8>,
    },
    /// Files of different lengths, in bytes.
    Length {
        /// Of the first.
        first: u64,
        /// Of the second.
        second: u64,
        /// The first byte that differs, counted from 0; the end of the shorter one counts.
        offset: u64,
    },
    /// Files of one length that differ from this byte on, counted from 0.
    Bytes {
        /// The first that differs.
        offset: u64,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyFirst => f.write_str("only in the first"),
            Self::OnlySecond => f.write_str("only in the second"),
            Self::Kind => f.write_str("file, folder or link in one, something else in the other"),
            Self::Executable { first: true } => f.write_str("executable in the first only"),
            Self::Executable { first: false } => f.write_str("executable in the second only"),
            Self::Target { first, second } => write!(
                f,
                "links to {} in the first, to {} in the second",
                first.escape_ascii(),
                second.escape_ascii()
            ),
            Self::Length {
                first,
                second,
                offset,
            } => write!(
                f,
                "{first} bytes in the first, {second} in the second, differs from byte {offset} on"
            ),
            Self::Bytes { offset } => write!(f, "differs from byte {offset} on"),
        }
    }
}

/// One place where two contents differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Relative to the top; empty for the top itself. Bytes, as file names are.
    pub path: Vec<u8>,
    /// What is different there.
    pub change: Change,
}

impl ContentStore {
    /// Where two contents differ, in the order of names, at most `limit` places. Blocks.
    ///
    /// # Errors
    /// What the file system said, for instance that one is not there.
    pub fn diff(&self, first: &NarHash, second: &NarHash, limit: usize) -> io::Result<Vec<Difference>> {
        let mut walk = Walk {
            found: Vec::new(),
            limit,
        };
        walk.compare(&self.tree(first), &self.tree(second), &mut PathBuf::new(), 0)?;
        Ok(walk.found)
    }
}

struct Walk {
    found: Vec<Difference>,
    limit: usize,
}

impl Walk {
    fn note(&mut self, at: &Path, change: Change) {
        if self.found.len() < self.limit {
            self.found.push(Difference {
                path: at.as_os_str().as_bytes().to_vec(),
                change,
            });
        }
    }

    fn compare(&mut self, first: &Path, second: &Path, at: &mut PathBuf, depth: usize) -> io::Result<()> {
        if self.found.len() >= self.limit || depth > MAX_DEPTH {
            return Ok(());
        }
        let (a, b) = (
            std::fs::symlink_metadata(first)?,
            std::fs::symlink_metadata(second)?,
        );
        if a.is_dir() && b.is_dir() {
            return self.folders(first, second, at, depth);
        }
        if a.is_file() && b.is_file() {
            if executable(&a) != executable(&b) {
                let first = executable(&a);
                self.note(at, Change::Executable { first });
            }
            if let Some(change) = files(first, second, &a, &b)? {
                self.note(at, change);
            }
        } else if a.is_symlink() && b.is_symlink() {
            let target =
                |link: &Path| Ok::<_, io::Error>(std::fs::read_link(link)?.into_os_string().into_vec());
            let (first, second) = (target(first)?, target(second)?);
            if first != second {
                self.note(at, Change::Target { first, second });
            }
        } else {
            self.note(at, Change::Kind);
        }
        Ok(())
    }

    fn folders(&mut self, first: &Path, second: &Path, at: &mut PathBuf, depth: usize) -> io::Result<()> {
        // (in the first, in the second)
        let mut names: BTreeMap<OsString, (bool, bool)> = BTreeMap::new();
        for entry in std::fs::read_dir(first)? {
            names.entry(entry?.file_name()).or_default().0 = true;
        }
        for entry in std::fs::read_dir(second)? {
            names.entry(entry?.file_name()).or_default().1 = true;
        }
        for (name, there) in names {
            at.push(&name);
            match there {
                (true, true) => self.compare(&first.join(&name), &second.join(&name), at, depth + 1)?,
                (true, false) => self.note(at, Change::OnlyFirst),
                (false, _) => self.note(at, Change::OnlySecond),
            }
            at.pop();
        }
        Ok(())
    }
}

fn executable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o111 != 0
}

fn files(first: &Path, second: &Path, a: &Metadata, b: &Metadata) -> io::Result<Option<Change>> {
    let shorter = a.len().min(b.len());
    let offset = match first_difference(first, second, shorter)? {
        None if a.len() == b.len() => return Ok(None),
        offset => offset.unwrap_or(shorter),
    };
    Ok(Some(match a.len() == b.len() {
        true => Change::Bytes { offset },
        false => Change::Length {
            first: a.len(),
            second: b.len(),
            offset,
        },
    }))
}

/// The first byte that differs among the first `length` of two files.
fn first_difference(first: &Path, second: &Path, length: u64) -> io::Result<Option<u64>> {
    let (mut first, mut second) = (File::open(first)?.take(length), File::open(second)?);
    let (mut a, mut b) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut offset = 0_u64;
    loop {
        let read = first.read(&mut a)?;
        let (Some(a), Some(b)) = (a.get(..read), b.get_mut(..read)) else {
            return Ok(None);
        };
        if read == 0 {
            return Ok(None);
        }
        second.read_exact(b)?;
        if let Some(at) = a.iter().zip(b.iter()).position(|(x, y)| x != y) {
            return Ok(Some(offset + at as u64));
        }
        offset += read as u64;
    }
}
