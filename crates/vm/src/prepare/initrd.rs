//! The initial file system: a shell, the modules, and the script that goes on from there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::cpio::Archive;
use super::elf;
use super::error::{Named as _, PrepareError, unsuitable};
use super::kernel::Package;

const INIT: &str = include_str!("init.sh");

/// Not packed: unpacking costs more than reading.
pub(super) fn make(package: &Package, busybox: &Path, to: &Path) -> Result<(), PrepareError> {
    if elf::loader(busybox)?.is_some() {
        return Err(unsuitable(
            busybox,
            "not statically linked (Debian: package busybox-static)",
        ));
    }
    let shell = fs::read(busybox).named("read", busybox)?;
    let mut modules = Vec::new();
    for path in &package.modules {
        let name = path.file_name().unwrap_or_default().display().to_string();
        modules.push((name, fs::read(path).named("read", path)?));
    }
    let order: String = modules.iter().map(|(name, _)| format!("{name}\n")).collect();
    let write = || -> io::Result<()> {
        let mut archive = Archive::new(BufWriter::new(File::create(to)?));
        for name in ["bin", "dev", "modules", "sys", "tools"] {
            archive.directory(name)?;
        }
        // Without it the first program has no standard output before it mounts /dev.
        archive.device("dev/console", 5, 1)?;
        archive.file("bin/busybox", true, &shell)?;
        archive.symlink("bin/sh", "busybox")?;
        archive.file("init", true, INIT.as_bytes())?;
        archive.file("modules/order", false, order.as_bytes())?;
        for (name, bytes) in &modules {
            archive.file(&format!("modules/{name}"), false, bytes)?;
        }
        archive.finish()?.flush()
    };
    write().named("write", to)
}
