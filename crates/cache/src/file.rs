//! `file://` caches: only below the directories that the operator allows, wherever symlinks lead.

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use firn_service::ports::{CacheError, Trouble};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// The directories below which caches may be, as given and as they really are.
pub(crate) struct FileRoots {
    roots: Vec<(PathBuf, PathBuf)>,
}

impl FileRoots {
    /// # Errors
    /// When one of them is not there.
    pub(crate) fn new(roots: &[PathBuf]) -> Result<Self, String> {
        let real = |root: &PathBuf| match root.canonicalize() {
            Ok(real) => Ok((root.clone(), real)),
            Err(e) => {
                let shown = root.display();
                Err(format!("caches.file-roots: '{shown}': {e}"))
            }
        };
        Ok(Self {
            roots: roots.iter().map(real).collect::<Result<_, _>>()?,
        })
    }

    /// Opens a regular file of the cache in `directory`; `None` when there is none. Blocks.
    pub(crate) fn open(&self, directory: &Path, file: &str) -> Result<Option<File>, CacheError> {
        let error = |trouble| CacheError {
            cache: format!("file://{}", directory.display()),
            trouble,
        };
        let bad = |text: &str| error(Trouble::Bad(text.to_owned()));
        let plain = |path: &Path| path.components().all(|c| matches!(c, Component::Normal(_)));
        let (root, below) = self
            .roots
            .iter()
            .find_map(|(given, real)| {
                let below = directory
                    .strip_prefix(given)
                    .or_else(|_| directory.strip_prefix(real))
                    .ok()?;
                plain(below).then_some((real, below))
            })
            .ok_or_else(|| error(Trouble::Directory))?;
        if file.is_empty() || !plain(Path::new(file)) {
            return Err(bad("names a file outside of itself"));
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = File::open(root)
            .map_err(|e| bad(&e.to_string()))
            .and_then(|root| {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                match openat2(root, below.join(file), flags, Mode::empty(), resolve) {
                    Ok(file) => Ok(Some(File::from(file))),
                    Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                    Err(Errno::XDEV | Errno::LOOP) => Err(bad("has a symlink that leads out of it")),
                    Err(Errno::ACCESS | Errno::PERM) => Err(bad("has a file that the service may not read")),
                    Err(e) => Err(bad(&e.to_string())),
                }
            })?;
        match opened {
            Some(file) if !file.metadata().is_ok_and(|m| m.is_file()) => {
                Err(bad("has something else in the place of a file"))
            }
            opened => Ok(opened),
        }
    }

    /// A small file, whole. Blocks.
    pub(crate) fn small(
        &self,
        directory: &Path,
        file: &str,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, CacheError> {
        let Some(opened) = self.open(directory, file)? else {
            return Ok(None);
        };
        let bad = |what: String| CacheError {
            cache: format!("file://{}", directory.display()),
            trouble: Trouble::Bad(what),
        };
        let mut bytes = Vec::new();
        let mut limited = opened.take(limit as u64 + 1);
        limited.read_to_end(&mut bytes).map_err(|e| bad(e.to_string()))?;
        if bytes.len() > limit {
            return Err(bad(format!("has a file of more than {limit} bytes")));
        }
        Ok(Some(bytes))
    }
}
