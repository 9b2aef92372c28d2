//! The archive format of the kernel's initial file system ("newc", Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// Writes an archive. Everything belongs to root and has no times.
pub(super) struct Archive<W> {
    out: W,
    inode: u32,
}

struct Node<'a> {
    name: &'a str,
    mode: u32,
    device: (u32, u32),
    data: &'a [u8],
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    pub(super) fn directory(&mut self, name: &str) -> io::Result<()> {
        self.put(name, DIRECTORY | 0o755, &[])
    }

    pub(super) fn file(&mut self, name: &str, executable: bool, data: &[u8]) -> io::Result<()> {
        let mode = if executable { 0o755 } else { 0o644 };
        self.put(name, REGULAR | mode, data)
    }

    pub(super) fn symlink(&mut self, name: &str, target: &str) -> io::Result<()> {
        self.put(name, SYMLINK | 0o777, target.as_bytes())
    }

    pub(super) fn device(&mut self, name: &str, major: u32, minor: u32) -> io::Result<()> {
        self.node(&Node {
            name,
            mode: CHARACTER | 0o600,
            device: (major, minor),
            data: &[],
        })
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.put("TRAILER!!!", 0, &[])?;
        Ok(self.out)
    }

    fn put(&mut self, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.node(&Node {
            name,
            mode,
            device: (0, 0),
            data,
        })
    }

    fn node(&mut self, node: &Node<'_>) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(node.data.len()).map_err(io::Error::other)?;
        let name = u32::try_from(node.name.len() + 1).map_err(io::Error::other)?;
        self.out.write_all(b"070701")?;
        let links = 1 + u32::from(node.mode & DIRECTORY == DIRECTORY);
        // inode, mode, user, group, links, time, size, device, the device it stands for, length of the name, checksum.
        for field in [
            self.inode,
            node.mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            node.device.0,
            node.device.1,
            name,
            0,
        ] {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(node.name.as_bytes())?;
        self.pad(110 + node.name.len() + 1, 1)?;
        self.out.write_all(node.data)?;
        self.pad(node.data.len(), 0)
    }

    /// `least` zeros, and more up to a multiple of four.
    fn pad(&mut self, length: usize, least: usize) -> io::Result<()> {
        let zeros = [0; 4];
        let count = least + length.wrapping_neg() % 4;
        self.out.write_all(zeros.get(..count).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn other_programs_read_it() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("bin").unwrap();
        archive.file("bin/abc", true, b"hello").unwrap();
        archive.file("bin/odd", false, b"four").unwrap();
        archive.symlink("bin/sh", "abc").unwrap();
        let bytes = archive.finish().unwrap();
        assert!(bytes.len().is_multiple_of(4));
        let dir = tempfile::tempdir().unwrap();
        let listed = Command::new("/bin/busybox")
            .args(["cpio", "-i", "-d"])
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .spawn();
        let Ok(mut child) = listed else {
            eprintln!("skipped: no busybox here to read it with");
            return;
        };
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(std::fs::read(dir.path().join("bin/sh")).unwrap(), b"hello");
        assert_eq!(std::fs::read(dir.path().join("bin/odd")).unwrap(), b"four");
    }
}
