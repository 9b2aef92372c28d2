//! What a prepared directory consists of.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::{Named as _, PrepareError, PreparedError};

/// Name of the manifest in a prepared directory.
pub const MANIFEST: &str = "manifest.json";

/// Changes with the layout of the directory, and with what a build can see of its machine.
pub(super) const FORMAT: u32 = 2;

/// Longest manifest.
const LONGEST: u64 = 64 << 10;

/// A file of a prepared directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// File name.
    pub name: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What a prepared directory consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this manifest.
    pub format: u32,
    /// Version of Firn that made it.
    pub firn: String,
    /// The kernel's package, with its version.
    pub kernel_package: String,
    /// What `uname -r` says in the guest.
    pub kernel_release: String,
    /// The kernel.
    pub kernel: Part,
    /// The initial file system.
    pub initrd: Part,
    /// The guest's root.
    pub tools: Part,
    /// SHA-256 of the builds' `/bin/sh`, in hexadecimal.
    pub shell: String,
    /// SHA-256 of the executable that is the guest's side, in hexadecimal.
    pub guest: String,
}

impl Part {
    /// A file, under a name that follows from its contents.
    pub(super) fn of(path: &Path, kind: &str) -> Result<Self, PrepareError> {
        let sha256 = digest(path)?;
        let short = sha256.get(..12).unwrap_or_default();
        Ok(Self {
            name: format!("{kind}-{short}"),
            sha256,
        })
    }

    fn check(&self, dir: &Path) -> Result<(), PreparedError> {
        let path = dir.join(&self.name);
        match hash(&path) {
            Ok(found) if found == self.sha256 => Ok(()),
            Ok(_) => Err(PreparedError::Changed { path }),
            Err(source) => Err(PreparedError::Read { path, source }),
        }
    }
}

impl Manifest {
    /// Names what a build can see of its machine: part of the environment class of builds.
    #[must_use]
    pub fn class(&self) -> String {
        let mut hasher = Sha256::new();
        for part in [
            "firn vm class",
            &self.format.to_string(),
            &self.kernel.sha256,
            &self.shell,
        ] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let digest = hex(&hasher.finalize());
        format!("vm-{}/{}", self.format, digest.get(..16).unwrap_or_default())
    }

    /// Whether the guest's side is this very executable. When it is not, builds may see an older sandbox than this process knows.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_of(&self, executable: &Path) -> io::Result<bool> {
        Ok(hash(executable)? == self.guest)
    }

    /// Reads the manifest of a directory and checks every file by its hash.
    ///
    /// # Errors
    /// [`PreparedError`].
    pub fn open(dir: &Path) -> Result<Self, PreparedError> {
        let path = dir.join(MANIFEST);
        let read = || {
            let mut text = Vec::new();
            File::open(&path)?.take(LONGEST).read_to_end(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|source| PreparedError::Read {
            path: path.clone(),
            source,
        })?;
        let wrong = |why: String| PreparedError::Manifest {
            path: path.clone(),
            why,
        };
        let manifest: Self = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        if manifest.format != FORMAT {
            return Err(wrong(format!("format {} instead of {FORMAT}", manifest.format)));
        }
        if manifest.parts().iter().any(|part| part.name.contains('/')) {
            return Err(wrong("a file name with a slash".to_owned()));
        }
        for part in manifest.parts() {
            part.check(dir)?;
        }
        Ok(manifest)
    }

    pub(super) fn parts(&self) -> [&Part; 3] {
        [&self.kernel, &self.initrd, &self.tools]
    }

    /// By way of a temporary file in the same file system.
    pub(super) fn write(&self, dir: &Path, temporary: &Path) -> Result<(), PrepareError> {
        let path = dir.join(MANIFEST);
        let write = || {
            fs::write(temporary, serde_json::to_vec_pretty(self)?)?;
            File::open(temporary)?.sync_all()?;
            fs::rename(temporary, &path)
        };
        write().named("write", &path)
    }

    /// Removes what earlier preparations left. Best effort.
    pub(super) fn remove_others(&self, dir: &Path) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let stale = ["kernel-", "initrd-", "tools-"]
                .iter()
                .any(|kind| name.as_encoded_bytes().starts_with(kind.as_bytes()));
            if stale && self.parts().iter().all(|part| name != part.name.as_str()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

pub(super) fn digest(path: &Path) -> Result<String, PrepareError> {
    hash(path).named("read", path)
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 256 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex(&hasher.finalize())),
            length => hasher.update(chunk.get(..length).unwrap_or_default()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(dir: &Path) -> Manifest {
        let part = |name: &str| {
            let path = dir.join("new");
            fs::write(&path, name).unwrap();
            let part = Part::of(&path, name).unwrap();
            fs::rename(&path, dir.join(&part.name)).unwrap();
            part
        };
        Manifest {
            format: FORMAT,
            firn: "0".to_owned(),
            kernel_package: "linux".to_owned(),
            kernel_release: "6.1".to_owned(),
            kernel: part("kernel"),
            initrd: part("initrd"),
            tools: part("tools"),
            shell: "00".to_owned(),
            guest: "00".to_owned(),
        }
    }

    #[test]
    fn a_change_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert!(matches!(Manifest::open(dir), Err(PreparedError::Read { .. })));
        let it = manifest(dir);
        it.write(dir, &dir.join("temporary")).unwrap();
        fs::write(dir.join("tools-old"), "").unwrap();
        it.remove_others(dir);
        assert!(!dir.join("tools-old").exists());
        assert_eq!(Manifest::open(dir).unwrap(), it);

        fs::write(dir.join(&it.tools.name), "changed").unwrap();
        assert!(matches!(Manifest::open(dir), Err(PreparedError::Changed { .. })));
        fs::remove_file(dir.join(&it.tools.name)).unwrap();
        assert!(matches!(Manifest::open(dir), Err(PreparedError::Read { .. })));
        let mut other = it.clone();
        other.format += 1;
        other.write(dir, &dir.join("temporary")).unwrap();
        assert!(matches!(Manifest::open(dir), Err(PreparedError::Manifest { .. })));
    }

    #[test]
    fn the_class_is_what_a_build_can_see() {
        let dir = tempfile::tempdir().unwrap();
        let it = manifest(dir.path());
        let class = it.class();
        assert!(class.starts_with("vm-2/") && class.len() == 21, "{class}");
        let mut other = it.clone();
        other.tools.sha256 = "11".to_owned();
        assert_eq!(other.class(), class);
        other.kernel.sha256 = "11".to_owned();
        assert_ne!(other.class(), class);
        let mut other = it;
        other.shell = "11".to_owned();
        assert_ne!(other.class(), class);
    }
}
