//! Images kept for the next command with the same inputs.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use firn_content::WalkLimits;
use firn_nix::NarHash;
use sha2::{Digest as _, Sha256};

use super::shelf::Shelf;
use super::{Entry, ImageError, Plan};

/// Says what the bytes of an image depend on besides its inputs; to be changed with them.
const FORMAT: &[u8] = b"firn image 1\0";

/// One tree for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input<'a> {
    /// Its name and place.
    pub entry: Entry<'a>,
    /// Its content, which is believed: it must determine the tree.
    pub content: NarHash,
}

/// How a cache of images behaves.
#[derive(Clone, Copy, Debug)]
pub struct CacheOptions {
    /// Bytes of images beyond which those that nobody holds are removed, the least recently used first. Images that are
    /// held or being written count, but are not removed.
    pub budget: u64,
    /// How long to wait for another caller to write the same image.
    pub patience: Duration,
    /// How large an image's trees may be.
    pub limits: WalkLimits,
}

/// Why a cache gives no image.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The image could not be written.
    #[error("image {}: {source}", path.display())]
    Image {
        /// Where it was to be written.
        path: PathBuf,
        /// Why not.
        source: ImageError,
    },
    /// A file of the cache could not be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Another cache, of this or another process, uses the folder.
    #[error("another process keeps images in {}", .0.display())]
    InUse(PathBuf),
    /// Another caller has been writing the image for too long.
    #[error("image {} was not written within {} seconds", path.display(), patience.as_secs())]
    Busy {
        /// The image.
        path: PathBuf,
        /// How long it was waited for.
        patience: Duration,
    },
}

impl CacheError {
    pub(super) fn at(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }
}

/// A folder of images. All methods block.
///
/// Images outlive the cache, but not the run of the kernel: they are never forced to the disk, so after a power failure
/// they are not believed.
#[derive(Clone, Debug)]
pub struct Cache {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    shelf: Shelf,
    options: CacheOptions,
    state: Mutex<State>,
    /// An image is written, or will not be.
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    images: HashMap<String, Slot>,
    /// Bytes of all images, finished or not.
    total: u64,
    /// Counts uses, to order them.
    clock: u64,
}

#[derive(Debug)]
enum Slot {
    /// Somebody is writing it.
    Pending,
    Ready(Ready),
}

#[derive(Debug)]
struct Ready {
    size: u64,
    used: u64,
    /// Held by every [`Image`] as well.
    holders: Arc<()>,
}

/// An image in a cache, which stays there at least as long as this value.
#[derive(Debug)]
pub struct Image {
    shared: Arc<Shared>,
    path: PathBuf,
    file: File,
    size: u64,
    hold: Option<Arc<()>>,
}

impl Image {
    /// The image's file. It must not be changed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The image's file, open for reading only. The offset is shared by everybody who was given it.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        self.hold = None;
        self.shared.trim(&mut state);
    }
}

impl Cache {
    /// Opens the folder, makes it when it is missing, and removes what a crash left in it.
    ///
    /// # Errors
    /// [`CacheError::InUse`], or [`CacheError::Io`] with the file.
    pub fn open(dir: &Path, options: CacheOptions) -> Result<Self, CacheError> {
        let (shelf, found) = Shelf::open(dir)?;
        let mut state = State::default();
        for image in found {
            state.add(image.key, image.size);
        }
        let shared = Shared {
            shelf,
            options,
            state: Mutex::new(state),
            settled: Condvar::new(),
        };
        shared.trim(&mut shared.lock());
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The image with these inputs; their order does not matter. When it is missing, it is written, once however many
    /// ask for it at a time.
    ///
    /// # Errors
    /// [`CacheError`]. A failure is not remembered: whoever waited for the image tries to write it next.
    pub fn get(&self, inputs: &[Input<'_>]) -> Result<Image, CacheError> {
        let key = key(inputs);
        if let Some(image) = self.find_or_claim(&key)? {
            return Ok(image);
        }
        let mut claim = Claim {
            cache: self,
            key: &key,
            reserved: 0,
            published: false,
        };
        let path = self.shared.shelf.unfinished(&key);
        let failed = |source| CacheError::Image {
            path: path.clone(),
            source,
        };
        let io = |source| CacheError::at(&path, source);
        let entries: Vec<Entry<'_>> = inputs.iter().map(|input| input.entry).collect();
        let plan = Plan::new(&entries, self.shared.options.limits).map_err(failed)?;
        claim.reserve(plan.info().size);
        let file = self.shared.shelf.create(&key).map_err(io)?;
        plan.write(&file).map_err(failed)?;
        drop(file);
        claim.publish()
    }

    /// The image, when it is there; `None` when the caller is to write it.
    fn find_or_claim(&self, key: &str) -> Result<Option<Image>, CacheError> {
        let patience = self.shared.options.patience;
        let begun = Instant::now();
        let mut state = self.shared.lock();
        loop {
            match state.images.get(key) {
                None => {
                    state.images.insert(key.to_owned(), Slot::Pending);
                    return Ok(None);
                }
                Some(Slot::Pending) => {
                    let left = patience.saturating_sub(begun.elapsed());
                    if left.is_zero() {
                        return Err(CacheError::Busy {
                            path: self.shared.shelf.image(key),
                            patience,
                        });
                    }
                    let waited = self.shared.settled.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Some(Slot::Ready(_)) => match self.hold(&mut state, key) {
                    // Somebody else removed it; it has to be written again.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => state.forget(key),
                    Err(error) => return Err(CacheError::at(&self.shared.shelf.image(key), error)),
                    Ok(image) => return Ok(image),
                },
            }
        }
    }

    fn hold(&self, state: &mut State, key: &str) -> io::Result<Option<Image>> {
        state.clock += 1;
        let clock = state.clock;
        let Some(Slot::Ready(ready)) = state.images.get_mut(key) else {
            return Ok(None);
        };
        let path = self.shared.shelf.image(key);
        let file = File::open(&path)?;
        ready.used = clock;
        Ok(Some(Image {
            shared: Arc::clone(&self.shared),
            path,
            file,
            size: ready.size,
            hold: Some(Arc::clone(&ready.holders)),
        }))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes images that nobody holds until the rest is within the budget.
    fn trim(&self, state: &mut State) {
        while state.total > self.options.budget {
            let idle = state.images.iter().filter_map(|(key, slot)| match slot {
                Slot::Ready(ready) if Arc::strong_count(&ready.holders) == 1 => Some((ready.used, key)),
                _ => None,
            });
            let Some(oldest) = idle.min().map(|(_, key)| key.clone()) else {
                return;
            };
            if !self.shelf.remove(&oldest) {
                return;
            }
            state.forget(&oldest);
        }
    }
}

impl State {
    fn add(&mut self, key: String, size: u64) {
        self.clock += 1;
        self.total = self.total.saturating_add(size);
        let ready = Ready {
            size,
            used: self.clock,
            holders: Arc::new(()),
        };
        self.images.insert(key, Slot::Ready(ready));
    }

    fn forget(&mut self, key: &str) {
        if let Some(Slot::Ready(ready)) = self.images.remove(key) {
            self.total = self.total.saturating_sub(ready.size);
        }
    }
}

/// The right and duty to write an image. Given up when it is dropped.
struct Claim<'a> {
    cache: &'a Cache,
    key: &'a str,
    reserved: u64,
    published: bool,
}

impl Claim<'_> {
    /// Makes room.
    fn reserve(&mut self, size: u64) {
        let shared = &self.cache.shared;
        let mut state = shared.lock();
        state.total = state.total.saturating_add(size);
        self.reserved = size;
        shared.trim(&mut state);
    }

    fn publish(mut self) -> Result<Image, CacheError> {
        let shared = &self.cache.shared;
        let io = |source| CacheError::at(&shared.shelf.image(self.key), source);
        let mut state = shared.lock();
        shared.shelf.publish(self.key).map_err(io)?;
        state.total = state.total.saturating_sub(self.reserved);
        state.add(self.key.to_owned(), self.reserved);
        self.published = true;
        let image = self.cache.hold(&mut state, self.key).map_err(io)?;
        drop(state);
        image.ok_or_else(|| io(io::ErrorKind::NotFound.into()))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let shared = &self.cache.shared;
        if !self.published {
            // What cannot be removed now is removed when the cache is opened next.
            let _ = std::fs::remove_file(shared.shelf.unfinished(self.key));
            let mut state = shared.lock();
            state.total = state.total.saturating_sub(self.reserved);
            state.images.remove(self.key);
        }
        shared.settled.notify_all();
    }
}

fn key(inputs: &[Input<'_>]) -> String {
    let mut inputs = inputs.to_vec();
    inputs.sort_unstable_by(|a, b| a.entry.name.cmp(b.entry.name));
    let mut hash = Sha256::new();
    hash.update(FORMAT);
    for input in inputs {
        hash.update((input.entry.name.len() as u64).to_le_bytes());
        hash.update(input.entry.name);
        hash.update(input.content.bytes());
    }
    NarHash::new(hash.finalize().into()).hex()
}
