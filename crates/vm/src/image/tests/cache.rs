//! Images are kept, shared and removed as promised.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Duration;

use firn_content::WalkLimits;
use firn_nix::NarHash;

use crate::image::{Cache, CacheError, CacheOptions, Entry, Image, Input};

/// A cache and files of about 100 KB to be put in it.
struct Fixture {
    dir: tempfile::TempDir,
}

/// A block of metadata, which has the end of the file, and the file's blocks.
const IMAGE_SIZE: u64 = 4096 * 25;

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..4_u8 {
            fs::write(dir.path().join(number.to_string()), vec![number; 100_000]).unwrap();
        }
        Self { dir }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn open(&self, images: u64) -> Cache {
        let options = CacheOptions {
            budget: images * IMAGE_SIZE,
            patience: Duration::from_secs(60),
            limits: WalkLimits::default(),
        };
        Cache::open(&self.folder(), options).unwrap()
    }

    fn get(&self, cache: &Cache, number: u8) -> Result<Image, CacheError> {
        let path = self.dir.path().join(number.to_string());
        let entry = Entry {
            name: b"tree",
            path: &path,
        };
        let content = NarHash::new([number; 32]);
        cache.get(&[Input { entry, content }])
    }

    /// The images and unfinished images on disk.
    fn files(&self) -> usize {
        let files = fs::read_dir(self.folder()).unwrap();
        let stems = files.map(|file| file.unwrap().path().file_stem().unwrap().len());
        stems.filter(|length| *length == 64).count()
    }
}

fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap())
}

#[test]
fn an_image_is_written_once() {
    let fixture = Fixture::new();
    let cache = fixture.open(4);
    let first = fixture.get(&cache, 0).unwrap();
    assert_eq!(first.size(), IMAGE_SIZE);
    assert_eq!(first.path().metadata().unwrap().len(), IMAGE_SIZE);
    let before = inode(first.path());
    let second = fixture.get(&cache, 0).unwrap();
    assert_eq!(inode(second.path()), before);
    let other = fixture.get(&cache, 1).unwrap();
    assert_ne!(other.path(), first.path());
}

#[test]
fn the_order_of_inputs_does_not_matter() {
    let fixture = Fixture::new();
    let cache = fixture.open(4);
    let paths = ["0", "1"].map(|name| fixture.dir.path().join(name));
    let input = |number: u8, name: &'static [u8]| Input {
        entry: Entry {
            name,
            path: &paths[usize::from(number)],
        },
        content: NarHash::new([number; 32]),
    };
    let one = cache.get(&[input(0, b"a"), input(1, b"b")]).unwrap();
    let two = cache.get(&[input(1, b"b"), input(0, b"a")]).unwrap();
    assert_eq!(one.path(), two.path());
    let exchanged = cache.get(&[input(1, b"a"), input(0, b"b")]).unwrap();
    assert_ne!(one.path(), exchanged.path());
}

#[test]
fn concurrent_callers_share_one_writer() {
    let fixture = Fixture::new();
    let cache = fixture.open(4);
    let barrier = Barrier::new(8);
    let images: Vec<Image> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    fixture.get(&cache, 2).unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut inodes: Vec<u64> = images
        .iter()
        .map(|image| std::os::unix::fs::MetadataExt::ino(&image.file().metadata().unwrap()))
        .collect();
    inodes.dedup();
    assert_eq!(inodes.len(), 1);
    assert_eq!(fixture.files(), 1);
}

#[test]
fn the_least_recently_used_goes_first_and_what_is_held_stays() {
    let fixture = Fixture::new();
    let cache = fixture.open(2);
    let path = |number| fixture.get(&cache, number).unwrap().path().to_path_buf();
    let (zero, one) = (path(0), path(1));
    path(0);
    let two = path(2);
    assert!(zero.exists() && !one.exists() && two.exists());

    let held = [0, 1, 2, 3].map(|number| fixture.get(&cache, number).unwrap());
    assert!(held.iter().all(|image| image.path().exists()));
    assert_eq!(fixture.files(), 4);
    drop(held);
    assert_eq!(fixture.files(), 2);
}

#[test]
fn one_that_is_larger_than_the_budget_lives_while_it_is_held() {
    let fixture = Fixture::new();
    let cache = fixture.open(0);
    let image = fixture.get(&cache, 0).unwrap();
    assert!(image.path().exists());
    drop(image);
    assert_eq!(fixture.files(), 0);
}

#[test]
fn a_failure_is_not_remembered() {
    let fixture = Fixture::new();
    let cache = fixture.open(4);
    let error = fixture.get(&cache, 9).unwrap_err();
    assert!(error.to_string().contains("/9: "), "{error}");
    assert_eq!(fixture.files(), 0);
    fs::write(fixture.dir.path().join("9"), "now it is there").unwrap();
    fixture.get(&cache, 9).unwrap();
}

#[test]
fn what_somebody_removed_is_written_again() {
    let fixture = Fixture::new();
    let cache = fixture.open(4);
    let image = fixture.get(&cache, 0).unwrap();
    fs::remove_file(image.path()).unwrap();
    let again = fixture.get(&cache, 0).unwrap();
    drop(image);
    assert!(again.path().exists());
}

#[test]
fn a_folder_has_one_cache() {
    let fixture = Fixture::new();
    let cache = fixture.open(4);
    let options = CacheOptions {
        budget: 0,
        patience: Duration::ZERO,
        limits: WalkLimits::default(),
    };
    let second = Cache::open(&fixture.folder(), options);
    assert!(matches!(second, Err(CacheError::InUse(_))));
    drop(cache);
    Cache::open(&fixture.folder(), options).unwrap();
}

#[test]
fn opening_again_keeps_images_and_removes_the_rest() {
    let fixture = Fixture::new();
    let path = fixture.get(&fixture.open(4), 0).unwrap().path().to_path_buf();
    let before = inode(&path);
    let left = path.with_extension("tmp");
    fs::write(&left, "half an image").unwrap();
    let cache = fixture.open(4);
    assert!(!left.exists());
    assert_eq!(inode(fixture.get(&cache, 0).unwrap().path()), before);
    drop(cache);
    let _cache = fixture.open(0);
    assert!(!path.exists());
}

#[test]
fn images_from_before_the_last_start_of_the_kernel_are_not_believed() {
    let fixture = Fixture::new();
    let path = fixture.get(&fixture.open(4), 0).unwrap().path().to_path_buf();
    fs::write(fixture.folder().join("boot"), "another").unwrap();
    let _cache = fixture.open(4);
    assert!(!path.exists());
}
