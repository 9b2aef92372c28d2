//! A NAR as files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use firn_nix::nar::{NarError, NarLimits, NarReader, NarVisitor};

use crate::BuiltinError;
use crate::download::Fault;
use crate::error::OfFile as _;

const CHUNK: usize = 64 << 10;

/// Makes the tree of a NAR at `out`, where nothing is. What comes behind it is not read.
pub(crate) fn restore(nar: &mut dyn Read, out: &Path) -> Result<(), Fault> {
    let malformed = |why: String| {
        Fault::Here(BuiltinError::Archive {
            what: out.display().to_string(),
            why,
        })
    };
    let mut reader = NarReader::new(NarLimits::default());
    let mut files = Files {
        at: out.to_owned(),
        file: None,
    };
    let mut chunk = vec![0; CHUNK];
    while !reader.is_complete() {
        let length = match nar.read(&mut chunk) {
            Ok(0) => return reader.finish().map_err(|e| malformed(e.to_string())),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Fault::There(error)),
        };
        match reader.push(chunk.get(..length).unwrap_or_default(), &mut files) {
            Ok(_) => {}
            Err(NarError::Visitor(error)) => return Err(Fault::Here(error)),
            Err(NarError::Malformed(error)) => return Err(malformed(error.to_string())),
        }
    }
    Ok(())
}

/// The reader gives each name once and none that leads elsewhere, so that nothing is ever made through a link.
struct Files {
    /// Of the node that comes, or the directory that is open.
    at: PathBuf,
    file: Option<File>,
}

impl Files {
    fn up(&mut self) {
        self.at.pop();
    }
}

impl NarVisitor for Files {
    type Error = BuiltinError;

    fn directory(&mut self) -> Result<(), BuiltinError> {
        fs::create_dir(&self.at).of_file("creating", &self.at)
    }

    fn entry(&mut self, name: &[u8]) -> Result<(), BuiltinError> {
        self.at.push(std::ffi::OsStr::from_bytes(name));
        Ok(())
    }

    fn end_directory(&mut self) -> Result<(), BuiltinError> {
        self.up();
        Ok(())
    }

    fn regular(&mut self, executable: bool, _: u64) -> Result<(), BuiltinError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if executable { 0o755 } else { 0o644 })
            .open(&self.at);
        self.file = Some(file.of_file("creating", &self.at)?);
        Ok(())
    }

    fn data(&mut self, chunk: &[u8]) -> Result<(), BuiltinError> {
        match &mut self.file {
            Some(file) => file.write_all(chunk).of_file("writing", &self.at),
            None => Ok(()),
        }
    }

    fn end_regular(&mut self) -> Result<(), BuiltinError> {
        self.file = None;
        self.up();
        Ok(())
    }

    fn symlink(&mut self, target: &[u8]) -> Result<(), BuiltinError> {
        symlink(std::ffi::OsStr::from_bytes(target), &self.at).of_file("creating", &self.at)?;
        self.up();
        Ok(())
    }
}
