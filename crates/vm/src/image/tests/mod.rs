//! Images are read back by two others: by `fsck.erofs`, and by the kernel where the tests may mount.

mod cache;
mod odd;
mod oracle;
mod random;
mod refused;
mod tree;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use firn_content::WalkLimits;

use self::tree::Made;
use super::{Entry, ImageInfo, write};

/// Trees on disk and their names in an image.
struct Source {
    dir: tempfile::TempDir,
    names: Vec<(Vec<u8>, PathBuf)>,
}

impl Source {
    fn new<'m>(trees: impl IntoIterator<Item = (&'m [u8], &'m Made)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut names = Vec::new();
        for (number, (name, made)) in trees.into_iter().enumerate() {
            let path = dir.path().join(number.to_string());
            made.make(&path);
            names.push((name.to_vec(), path));
        }
        Self { dir, names }
    }

    fn one(made: &Made) -> Self {
        Self::new([(&b"tree"[..], made)])
    }

    fn entries(&self) -> Vec<Entry<'_>> {
        self.names
            .iter()
            .map(|(name, path)| Entry { name, path })
            .collect()
    }

    /// Writes the image and has it read back.
    fn check(&self) -> ImageInfo {
        let image = self.dir.path().join("image");
        let file = create(&image);
        let info = write(&self.entries(), &file, WalkLimits::default()).unwrap();
        assert_eq!(file.metadata().unwrap().len(), info.size);
        oracle::check(&image, &self.names);
        std::fs::remove_file(image).unwrap();
        info
    }

    /// The image's bytes.
    fn bytes(&self) -> Vec<u8> {
        let file = tempfile::tempfile_in(self.dir.path()).unwrap();
        let info = write(&self.entries(), &file, WalkLimits::default()).unwrap();
        let mut bytes = vec![0; usize::try_from(info.size).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}

fn create(image: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    options.open(image).unwrap()
}
