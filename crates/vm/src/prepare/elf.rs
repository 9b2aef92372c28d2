//! What an executable needs to run: its loader and shared libraries.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{Named as _, PrepareError, unsuitable};
use super::program;

/// Type of the program header that names the loader.
const INTERPRETER: u32 = 3;

/// The loader that a dynamically linked executable asks for; none for a static one (System V ABI, chapters 4 and 5; 64-bit little endian
/// only).
pub(super) fn loader(path: &Path) -> Result<Option<PathBuf>, PrepareError> {
    let bytes = fs::read(path).named("read", path)?;
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return Err(unsuitable(path, "no 64-bit executable"));
    }
    find(&bytes).ok_or_else(|| unsuitable(path, "a damaged executable"))
}

/// `None`: not as it should be.
fn find(bytes: &[u8]) -> Option<Option<PathBuf>> {
    let at = |from: usize, length: usize| bytes.get(from..from.checked_add(length)?);
    let short = |from| Some(u16::from_le_bytes(at(from, 2)?.try_into().ok()?));
    let word = |from| Some(u32::from_le_bytes(at(from, 4)?.try_into().ok()?));
    let long = |from| usize::try_from(u64::from_le_bytes(at(from, 8)?.try_into().ok()?)).ok();
    let (headers, size, count) = (long(32)?, short(54)?, short(56)?);
    for number in 0..usize::from(count) {
        let header = headers.checked_add(number.checked_mul(size.into())?)?;
        if word(header)? == INTERPRETER {
            let text = at(long(header.checked_add(8)?)?, long(header.checked_add(32)?)?)?;
            let text = text.strip_suffix(b"\0")?;
            return Some(Some(PathBuf::from(OsStr::from_bytes(text))));
        }
    }
    Some(None)
}

/// The loader and the shared libraries of an executable, where the loader looks for them.
pub(super) fn needed(path: &Path) -> Result<Vec<PathBuf>, PrepareError> {
    let Some(loader) = loader(path)? else {
        return Ok(Vec::new());
    };
    let listed = program(Command::new(&loader).arg("--list").arg(path))?;
    let mut needed = vec![loader];
    for line in listed.split(|&byte| byte == b'\n') {
        if let Some(library) = library(line)
            && !needed.contains(&library)
        {
            needed.push(library);
        }
    }
    Ok(needed)
}

/// `name => path (address)` or `path (address)`; the kernel's own library has no path.
fn library(line: &[u8]) -> Option<PathBuf> {
    let line = line.trim_ascii();
    let start = line.iter().position(|&byte| byte == b'/')?;
    let rest = line.get(start..)?;
    let end = rest.iter().rposition(|&byte| byte == b'(').unwrap_or(rest.len());
    let path = rest.get(..end)?.trim_ascii_end();
    let path = match path.windows(4).position(|part| part == b" => ") {
        Some(arrow) => path.get(arrow + 4..)?,
        None => path,
    };
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_this_program_are_there() {
        let me = std::env::current_exe().unwrap();
        let needed = needed(&me).unwrap();
        assert!(
            needed.iter().any(|path| path.ends_with("libc.so.6")),
            "{needed:?}"
        );
        assert!(needed.iter().all(|path| path.exists()), "{needed:?}");
        assert!(super::needed(Path::new(file!())).is_err());
    }

    #[test]
    fn lines_of_the_loader() {
        let path = |line: &str| library(line.as_bytes());
        assert_eq!(
            path("\tlibc.so.6 => /lib/libc.so.6 (0x7f)"),
            Some("/lib/libc.so.6".into())
        );
        assert_eq!(
            path("\t/lib64/ld.so => /usr/lib64/ld.so (0x7f)"),
            Some("/usr/lib64/ld.so".into())
        );
        assert_eq!(path("\t/lib64/ld.so.2 (0x7f)"), Some("/lib64/ld.so.2".into()));
        assert_eq!(path("\tlinux-vdso.so.1 (0x7f)"), None);
        assert_eq!(path("\tstatically linked"), None);
    }
}
