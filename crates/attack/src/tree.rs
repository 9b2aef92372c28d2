//! The program as an input of a build: it brings its loader and its libraries, for a sandbox has none.

use std::fs;
use std::io;
use std::path::Path;

/// The loader's name in `lib`.
#[cfg(target_arch = "x86_64")]
pub const LOADER: &str = "ld-linux-x86-64.so.2";
/// The loader's name in `lib`.
#[cfg(target_arch = "aarch64")]
pub const LOADER: &str = "ld-linux-aarch64.so.1";

/// Makes a tree in the empty directory `at`: `program` as `bin/attack`, what it needs to run in `lib`, and files to be coveted in `share`, one of
/// which must be `data`. The program needs what this process needs.
///
/// # Errors
/// What the file system said.
pub fn tree(program: &Path, at: &Path, share: &[&str]) -> io::Result<()> {
    for dir in ["bin", "lib", "share"] {
        fs::create_dir(at.join(dir))?;
    }
    fs::copy(program, at.join("bin/attack"))?;
    for name in share {
        fs::write(at.join("share").join(name), "data of an input")?;
    }
    let maps = fs::read_to_string("/proc/self/maps")?;
    for path in maps.lines().filter_map(|line| line.split_whitespace().nth(5)) {
        let name = Path::new(path).file_name().unwrap_or_default();
        let to = at.join("lib").join(name);
        if path.contains(".so") && !to.exists() {
            fs::copy(path, to)?;
        }
    }
    fs::metadata(at.join("lib").join(LOADER)).map(drop)
}
