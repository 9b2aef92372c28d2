//! The kernel, out of a distribution's package.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{Named as _, PrepareError, unsuitable};
use super::{KernelSource, lz4, program};

/// Modules that a guest needs, with those that they depend on.
const WANTED: [&str; 5] = ["virtio_mmio", "virtio_blk", "virtio_console", "erofs", "overlay"];

/// Longest unpacked kernel.
const LARGEST: usize = 1 << 30;

/// An unpacked package.
pub(super) struct Package {
    /// With its version, as its file is called.
    pub(super) name: String,
    /// `uname -r`.
    pub(super) release: String,
    /// What a boot loader would load.
    pub(super) image: PathBuf,
    /// In the order in which they can be inserted.
    pub(super) modules: Vec<PathBuf>,
}

/// Downloads, if need be, and unpacks into `dir`, without installing.
pub(super) fn fetch(source: &KernelSource, dir: &Path) -> Result<Package, PrepareError> {
    fs::create_dir(dir).named("make", dir)?;
    let file = match source {
        KernelSource::File(path) => path.clone(),
        KernelSource::Package(name) => {
            let name = real_name(name)?;
            program(
                Command::new("apt-get")
                    .args(["download", "-q", &name])
                    .current_dir(dir),
            )?;
            only(dir, ".deb")?
        }
    };
    let tree = dir.join("tree");
    program(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&tree))?;
    let image = only(&tree.join("boot"), "vmlinuz-")?;
    let text = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
    let release = text(&image).replacen("vmlinuz-", "", 1);
    let modules = ["lib/modules", "usr/lib/modules"].map(|at| tree.join(at).join(&release));
    let modules = modules
        .iter()
        .find(|path| path.is_dir())
        .ok_or_else(|| unsuitable(&file, "no modules in it"))?;
    Ok(Package {
        name: text(&file).trim_end_matches(".deb").to_owned(),
        release,
        modules: in_order(modules)?,
        image,
    })
}

/// Debian has a package that stands for the newest kernel: it depends on the one that has it.
fn real_name(name: &str) -> Result<String, PrepareError> {
    let listed =
        program(Command::new("apt-cache").args(["depends", "--no-recommends", "--no-suggests", name]))?;
    let found = listed
        .split(|&byte| byte == b'\n')
        .filter_map(|line| {
            std::str::from_utf8(line.trim_ascii())
                .ok()?
                .strip_prefix("Depends: ")
        })
        .find(|other| other.starts_with("linux-image-"));
    Ok(found.unwrap_or(name).to_owned())
}

/// The only file there with this in its name.
fn only(dir: &Path, part: &str) -> Result<PathBuf, PrepareError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).named("read", dir)? {
        let path = entry.named("read", dir)?.path();
        if path
            .file_name()
            .is_some_and(|name| name.display().to_string().contains(part))
        {
            found.push(path);
        }
    }
    match <[PathBuf; 1]>::try_from(found) {
        Ok([path]) => Ok(path),
        Err(found) => Err(unsuitable(
            dir,
            format!("{} files with {part} in their name", found.len()),
        )),
    }
}

/// The wanted modules, each after those it depends on. What is not there as a file is taken to be built in.
fn in_order(dir: &Path) -> Result<Vec<PathBuf>, PrepareError> {
    let mut files = Vec::new();
    walk(&dir.join("kernel"), &mut files).named("read", dir)?;
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for name in WANTED {
        insert(name, &files, &mut seen, &mut order)?;
    }
    Ok(order)
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn insert(
    name: &str,
    files: &[PathBuf],
    seen: &mut BTreeSet<String>,
    order: &mut Vec<PathBuf>,
) -> Result<(), PrepareError> {
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let is_it = |path: &&PathBuf| {
        let file = path.file_name().unwrap_or_default().display().to_string();
        file.split_once(".ko")
            .is_some_and(|(stem, _)| stem.replace('-', "_") == name)
    };
    let Some(path) = files.iter().find(is_it) else {
        return Ok(());
    };
    if path.extension().is_none_or(|extension| extension != "ko") {
        return Err(unsuitable(
            path,
            "compressed modules are not supported: use a kernel 6.1 of Debian 12",
        ));
    }
    let bytes = fs::read(path).named("read", path)?;
    for other in dependencies(&bytes) {
        insert(&other, files, seen, order)?;
    }
    order.push(path.clone());
    Ok(())
}

/// The section `.modinfo` has `key=value` strings, each ended by NUL.
fn dependencies(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let start = module.windows(key.len()).position(|window| window == key);
    let value = start
        .and_then(|start| module.get(start + key.len()..))
        .and_then(|rest| rest.split(|&byte| byte == 0).next())
        .and_then(|value| std::str::from_utf8(value).ok())
        .unwrap_or_default();
    value
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

/// A kernel image unpacks itself at every start. Where the way of packing is known that is done once, here; the other ones are copied
/// (Linux, Documentation/arch/x86/boot.rst).
pub(super) fn unpack_image(image: &Path, to: &Path) -> Result<(), PrepareError> {
    let bytes = fs::read(image).named("read", image)?;
    let unpacked = payload(&bytes).and_then(|packed| lz4::unpack(packed, LARGEST));
    fs::write(to, unpacked.as_ref().unwrap_or(&bytes)).named("write", to)
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match image.get(0x1f1)? {
        0 => 4,
        &sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + word(0x248)?;
    image.get(start..start.checked_add(word(0x24c)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read() {
        assert_eq!(
            dependencies(b"x\0license=GPL\0depends=virtio-ring,virtio\0y"),
            ["virtio_ring", "virtio"]
        );
        assert_eq!(dependencies(b"x\0depends=\0y"), Vec::<String>::new());
        assert_eq!(dependencies(b""), Vec::<String>::new());
    }

    #[test]
    fn no_image_is_taken_for_one() {
        assert_eq!(payload(b""), None);
        assert_eq!(payload(&[0; 4096]), None);
        let mut image = vec![0; 4096];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x24c..0x250].copy_from_slice(&[255; 4]);
        assert_eq!(payload(&image), None);
    }
}
